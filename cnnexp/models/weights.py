"""Pretrained weights for a network's backbone: torchvision's ImageNet weights, or those of a checkpoint."""

import logging
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnnexp import storage
from cnnexp.errors import Skipped, UserError
from cnnexp.storage import fetch, torch_files

log = logging.getLogger(__name__)
HOLDERS = ("model", "state_dict", "model_state_dict", "model_state", "net", "weights")  # of weights, in checkpoints
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)")  # its file has norm.1 for norm1


def head_name(model: nn.Module) -> str:
    """Return the name of the last fully connected layer or convolution: in a classifier, the one of the logits."""
    layers: list[str] = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    assert layers, f"{type(model).__name__} has no layer that could be its head"
    return layers[-1]


def to_channels(model: nn.Module, channels: int) -> None:
    """Make a network for RGB images take `channels`: for 1, sum the first convolution's weights over its channels.

    Raises UserError unless `channels` is 1 or 3.
    """
    if channels == 3:
        return
    if channels != 1:
        raise UserError(f"model: torchvision's networks take images of 3 channels or 1, the data's have {channels}")
    _, old = _first_convolution(model)
    old.weight = nn.Parameter(old.weight.detach().sum(1, keepdim=True))
    old.in_channels = 1


def from_imagenet(name: str, build: Callable[[int], nn.Module]) -> dict[str, Tensor]:
    """Return torchvision's ImageNet weights (IMAGENET1K_V1 if there is one), from torch's folder or the server.

    build: makes the network for a number of classes; loading into it renames tensors of older versions of its layers.
    Raises Skipped, with the reason, if the weights are not available, and UserError if the file there is another one.
    """
    import torchvision

    choices = torchvision.models.get_model_weights(name)
    chosen: Any = next((w for w in choices if w.name == "IMAGENET1K_V1"), next(iter(choices), None))
    if chosen is None:
        raise UserError(f"model.weights: torchvision has no ImageNet weights for {name}; give none or a path")
    try:
        file = _downloaded(chosen.url)
    except OSError as error:
        raise Skipped(
            f"model.weights=imagenet: the weights of {name} are not available ({error}); give model.weights=PATH, "
            "or backbone.weights=PATH to all arms that transfer: a checkpoint or a run directory"
        ) from error
    state = torch_files.load(file, foreign=True)
    for key in list(state):  # in place: an attribute of the dict holds the versions of the layers
        tensor = state.pop(key)
        if not key.startswith(AUXILIARY):
            state[DENSENET.sub(r"\1", key)] = tensor
    with torch.random.fork_rng(devices=[]):
        model = build(len(chosen.meta["categories"]))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f"model.weights: {file} is of another network ({' '.join(str(error).split())[:200]})"
        ) from error
    return model.state_dict()


def _downloaded(url: str) -> Path:
    """Return the file of `url` in torch's folder of checkpoints, after downloading it if it is not there.

    Its name ends in the first digits of its SHA-256, which are compared each time. Raises OSError if it cannot be
    downloaded, and UserError if the file there is another one.
    """
    name = url.rpartition("/")[2]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file, digest = folder / name, f"sha256:{Path(name).stem.rpartition('-')[2]}"
    with fetch.reserved(folder, name):
        fetch.provide(url, file, digest)
    return file


def from_file(path: Path) -> dict[str, Tensor]:
    """Return the weights of a checkpoint: a file of torch.save, or a run directory, whose best checkpoint is read.

    The file holds a state dict, or a dict with one under one of HOLDERS. Only tensors and plain values are unpickled.
    Raises UserError, naming the file, if there is none or it holds something else.
    """
    file = path / "checkpoints" / "best.pt" if path.is_dir() else path
    if not file.exists():
        raise UserError(f"model.weights: there is no {file}")
    try:
        content = torch_files.load(file, foreign=not path.is_dir())
    except storage.Damaged as error:
        raise UserError(f"model.weights: {error}") from error
    if path.is_dir() and isinstance(content, Mapping) and "run" in content:
        run = storage.read_json(path / "run.json")
        if content["run"] != (expected := f"{run.get('fingerprint')}-s{run.get('seed')}"):
            raise UserError(f"model.weights: {file} is of another run ({content['run']}, not {expected})")
    holder = next(
        (key for key in HOLDERS if isinstance(content, Mapping) and isinstance(content.get(key), Mapping)), None
    )
    state = content if holder is None else content[holder]
    named = isinstance(state, dict) and all(isinstance(k, str) and isinstance(t, Tensor) for k, t in state.items())
    if not isinstance(state, dict) or not state or not named:
        raise UserError(f"model.weights: {file} holds no weights; a state dict, or a dict with one as 'model', is read")
    bad = next((k for k, t in state.items() if not is_finite(t)), None)
    if bad is not None:
        raise UserError(f"model.weights: {file} has numbers that are not finite, as in {bad}; give another checkpoint")
    return dict(state)


def is_finite(tensor: Tensor) -> bool:
    """Tell whether all numbers of a tensor are finite; True for a kind of tensor that has no numbers to read."""
    dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return not dense or not tensor.is_floating_point() or bool(tensor.isfinite().all())


def without_prefix(state: Mapping[str, Tensor], known: Collection[str], source: str) -> dict[str, Tensor]:
    """Remove what a wrapper puts before each name: `module.` (DataParallel), `_orig_mod.` (compile), `model.`, ...

    known: the network's own names. Tensors without the prefix are left out: they belong to something else, such as a
    loss. Raises UserError if several prefixes lead to the network's names.
    """
    if any(key in known for key in state):
        return dict(state)
    first = next((name for name in known if any(key.endswith(f".{name}") for key in state)), None)
    if first is None:
        return dict(state)
    prefixes = [key.removesuffix(first) for key in state if key.endswith(f".{first}")]
    matches = [sum(f"{prefix}{name}" in state for name in known) for prefix in prefixes]
    most = [prefix for prefix, count in zip(prefixes, matches, strict=True) if count == max(matches)]
    if len(most) > 1:
        raise UserError(f"model.weights: {source} holds several networks ({', '.join(most)}); save the one to use")
    return {key.removeprefix(most[0]): tensor for key, tensor in state.items() if key.startswith(most[0])}


def load_backbone(model: nn.Module, state: Mapping[str, Tensor], head: str, source: str) -> list[str]:
    """Load all tensors but the head's, which stay as they are; return the names of the loaded ones.

    For a network of gray images, weights for RGB are summed over the channels, as in `to_channels`. Raises UserError if
    nothing fits, or if a tensor outside the head is missing, left over, or of another shape.
    """
    own = {k: t for k, t in model.state_dict().items() if not k.startswith(f"{head}.")}
    state = without_prefix(state, own, source)
    given = {k: t for k, t in state.items() if not k.startswith((f"{head}.", *AUXILIARY))}
    key = f"{_first_convolution(model)[0]}.weight"
    gray, colour = own.get(key), given.get(key)
    if gray is not None and colour is not None and colour.shape == (len(gray), 3, *gray.shape[2:]) != gray.shape:
        given[key] = colour.sum(1, keepdim=True)
    loaded = [k for k in own if k in given]
    if not loaded:
        raise UserError(
            f"model.weights: nothing in {source} fits this network; it holds {', '.join(list(state)[:3])}, ..."
        )
    wrong = [f"{k} is missing" for k in own if k not in given and not k.endswith(".num_batches_tracked")]
    wrong += [f"{k} is left over" for k in given if k not in own]
    wrong += [
        f"{k} is {tuple(given[k].shape)} there and {tuple(own[k].shape)} here"
        for k in loaded
        if given[k].shape != own[k].shape
    ]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(f"model.weights: {source} is of another network: {'; '.join(wrong[:3])}{more}")
    try:
        model.load_state_dict({k: given[k] for k in loaded}, strict=False)
    except RuntimeError as error:  # a kind of tensor that cannot be copied: sparse, quantised, meta
        raise UserError(f"model.weights: {source} cannot be loaded ({' '.join(str(error).split())[:200]})") from error
    log.info("weights: %d tensors from %s; the head (%s) is fresh", len(loaded), source, head)
    return loaded


def _first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d]:
    found = next(((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)), None)
    assert found is not None, f"{type(model).__name__} has no convolution"
    return found
