"""A trained network with its preprocessing inside: uint8 images in, logits out, in float32 and torch's own layers."""

import json
from typing import Any

import torch
from torch import Tensor, nn

from cnnexp.data.batches import Normalise
from cnnexp.reference.layers import BY_FORMULA
from cnnexp.training.bf16 import IN_FP32
from cnnexp.training.inference import TrainedModel, Transform

TORCHS = {ours: theirs for replaced in (BY_FORMULA, IN_FP32) for theirs, ours in replaced.items()}


class Portable(nn.Module):
    """(N, H, W, C) uint8, already of the network's size, to logits (N, K) float32. N is free."""

    scale: Tensor
    shift: Tensor

    def __init__(self, model: TrainedModel):
        """model: on the CPU; its network becomes a part of this one, and its layers torch's own."""
        super().__init__()
        normalise = Normalise(model.transform.mean, model.transform.std, torch.device("cpu"))
        self.register_buffer("scale", normalise.scale)
        self.register_buffer("shift", normalise.shift)
        self.network = model.model.eval()
        for module in self.network.modules():
            module.__class__ = TORCHS.get(type(module), type(module))

    def forward(self, images: Tensor) -> Tensor:
        """Normalise and classify."""
        x = images.permute(0, 3, 1, 2).to(torch.float32) * (1 / 255)
        logits: Tensor = self.network(x * self.scale + self.shift)
        return logits


def size_of(transform: Transform) -> str:
    """Return "96 x 128 pixels": height and width."""
    _, height, width = transform.image
    return f"{height} x {width} pixels"


def resize_rule(transform: Transform) -> str:
    """Say how an image of any size becomes one of the network's size."""
    what = "the largest centred part of that shape" if transform.resize == "crop" else "the full image, stretched"
    colours = "grayscale" if transform.image[0] == 1 else "RGB"
    return (
        f"apply the EXIF orientation, of pixels of more than 8 bits keep the upper 8 of {transform.bits or 16}, "
        f"convert to {colours} (transparent parts over white), and scale {what} to "
        f"{size_of(transform)} (height x width) in one antialiased bilinear resampling, or not if it has that size; "
        "a JPEG of at least 6 times that size may be decoded at 1/2 of its size first, of 12 times at 1/4"
    )


def facts(model: TrainedModel) -> dict[str, str]:
    """Return what every exported file says of itself, as text: classes, preprocessing, and the run it is from."""
    channels, height, width = model.transform.image
    found: dict[str, Any] = {
        "classes": model.classes,
        "input": {"shape": ["N", height, width, channels], "dtype": "uint8", "order": "height, width, channel"},
        "resize": resize_rule(model.transform),
        "mean": model.transform.mean,
        "std": model.transform.std,
        "run": f"{model.record.info.get('fingerprint')}-s{model.record.info.get('seed')}",
        "weights": model.weights.name,
        "data": (model.record.info.get("data") or {}).get("name"),
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}
