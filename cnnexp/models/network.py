"""Build a planned network as a torch module, with one submodule per layer, by its name (conv1, norm1, act1, ...)."""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from cnnexp.models.choices import ACTIVATIONS, init_of
from cnnexp.models.layers import Layer
from cnnexp.models.pooling import MaxPool2d

LAYERS: dict[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "conv": lambda s: nn.Conv2d(
        s["channels"], s["out"], s["kernel"], s["stride"], s["padding"], s["dilation"], s["groups"], s["bias"]
    ),
    "fc": lambda s: nn.Linear(s["features"], s["out"], s["bias"]),
    "batch_norm": lambda s: nn.BatchNorm2d(s["width"]),
    "batch_norm_features": lambda s: nn.BatchNorm1d(s["width"]),
    "layer_norm": lambda s: nn.LayerNorm(s["width"]),
    "activation": lambda s: getattr(nn, ACTIVATIONS[s["activation"]][0])(*s["options"].values()),
    "max_pool": lambda s: MaxPool2d(s["kernel"], s["stride"]),
    "avg_pool": lambda s: nn.AvgPool2d(s["kernel"], s["stride"]),
    "global_pool": lambda s: nn.AdaptiveAvgPool2d(1),
    "dropout": lambda s: nn.Dropout(s["p"]),
    "flatten": lambda s: nn.Flatten(),
}

DRAWS: dict[str, Callable[[Tensor, Mapping[str, Any]], Tensor]] = {
    "kaiming": lambda weight, s: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "xavier": lambda weight, s: nn.init.xavier_uniform_(weight),
    "normal": lambda weight, s: nn.init.normal_(weight, 0.0, s["std"]),
}

# Layers whose gradients do not need their output.
OUTPUT_UNUSED = (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.MaxPool2d)


def activate_in_place(network: nn.Sequential) -> None:
    """Make ReLUs overwrite their input where the layer before does not need it: the same bits in less memory."""
    for first, second in itertools.pairwise(network):
        if isinstance(first, OUTPUT_UNUSED) and isinstance(second, nn.ReLU):
            second.inplace = True


def assemble(plan: list[Layer], init: str | Mapping[str, Any]) -> nn.Sequential:
    """Build the network, (N, C, H, W) -> (N, K), and draw its initial weights from torch's global generator.

    init: `default`, torch's own; `kaiming`, normal with std sqrt(2 / fan_in) (He et al. 2015, eq. 10); `xavier`,
    uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16); `{normal: {std: s}}`, normal with that
    std in all layers. All but the first set biases to 0. Raises UserError for another one.
    """
    network = nn.Sequential(OrderedDict((layer.name, LAYERS[layer.kind](layer.settings)) for layer in plan))
    activate_in_place(network)
    name, settings = init_of("model.init", init)
    if name == "default":
        return network
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            DRAWS[name](module.weight, settings)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
