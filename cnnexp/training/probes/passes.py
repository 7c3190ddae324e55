"""Probes of a pass over a split in eval mode: activations, dead units, and running statistics against those seen.

A **unit** is a channel of a feature map after a convolution, and a single number after a fully connected layer. A unit
is **dead** if it is zero for every image of the split, at every position: its weights cannot learn from these images.
Networks from YAML pool before a ReLU (models/layout.py), so their maps are seen after pooling: the maximum of a window
is zero if the complete window is. No dropout, no augmentation; batch norm uses its running statistics.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from cnnexp.training.probes.magnitudes import counts, histogram

IMAGES = 64  # the first of the split, for the histograms of activations: a pass has 10^8 numbers and more
SILENT = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.GELU, nn.Threshold)  # exactly zero for a range of inputs
ACTIVATIONS = (
    *SILENT,
    *(nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.SiLU, nn.Mish, nn.Softplus),
    *(nn.Sigmoid, nn.Hardsigmoid, nn.Tanh),
)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Pass:
    """Observes a network while the block runs, in which a split passes through it once, in eval mode."""

    def __init__(self, model: nn.Module, learner: nn.Module, wanted: Mapping[str, Any]):
        """learner: the part of `model` that the images pass through. wanted: the `probes` node of a config."""
        inside = set(learner.modules())
        self.learner, self.wanted = learner, wanted
        self.named = {name: module for name, module in model.named_modules() if module in inside}
        self.hooks: list[RemovableHandle] = []
        self.batches = 0
        self.calls: Counter[str] = Counter()  # in this batch: a module can be used more than once
        self.after = ("", False)  # the last layer with weights, and whether it is a convolution
        self.activations: dict[str, dict[str, str]] = {}
        self.seen: dict[str, Seen] = {}  # of the layers in `activations`
        self.alive: dict[str, Tensor] = {}  # (units,) bool
        self.norms: dict[str, list[tuple[int, Tensor, Tensor]]] = {}  # (numbers, mean, mean square), from running_mean

    def __enter__(self) -> Self:
        self.hooks.append(self.learner.register_forward_pre_hook(self._begin))
        for name, module in self.named.items():
            if isinstance(module, (*CONVOLUTIONS, nn.Linear)):
                self.hooks.append(module.register_forward_pre_hook(self._weights(name)))
            elif isinstance(module, ACTIVATIONS) and (self.wanted["activations"] or self.wanted["dead_units"]):
                self.hooks.append(module.register_forward_hook(self._activation(name)))
            elif isinstance(module, _BatchNorm) and module.track_running_stats and self.wanted["batch_norm"]:
                self.hooks.append(module.register_forward_pre_hook(self._batch_norm(name)))
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _begin(self, learner: nn.Module, given: tuple[Tensor, ...]) -> None:
        self.batches += 1
        self.calls.clear()
        self.after = ("", False)

    def _weights(self, name: str) -> Callable[..., None]:
        def note(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            self.after = (name, isinstance(module, CONVOLUTIONS))

        return note

    def _activation(self, name: str) -> Callable[..., None]:
        def look(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            self.calls[name] += 1
            layer = name if self.calls[name] == 1 else f"{name}, use {self.calls[name]}"
            weights, convolution = self.after
            if layer not in self.activations:
                same_block = weights.rpartition(".")[0] == name.rpartition(".")[0]
                after = weights if same_block else ""
                self.activations[layer] = {"layer": layer, "type": type(module).__name__, "after": after}
                self.seen[layer] = Seen()
            if self.wanted["activations"]:
                self.seen[layer].add(output)
            if self.wanted["dead_units"] and isinstance(module, SILENT):
                alive = not_zero(output, 1 if convolution else -1)
                self.alive[layer] = self.alive[layer] | alive if layer in self.alive else alive

        return look

    def _batch_norm(self, name: str) -> Callable[..., None]:
        def look(module: _BatchNorm, given: tuple[Tensor, ...]) -> None:
            assert module.running_mean is not None
            x = given[0].float()
            dims = [d for d in range(x.ndim) if d != 1]
            away = x - module.running_mean.view(-1, *[1] * (x.ndim - 2))
            found = (x.numel() // x.shape[1], away.mean(dims), away.square().mean(dims))
            self.norms.setdefault(name, []).append(found)

        return look

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the pass: activations, dead units and batch norm, each in the order of use."""
        rows: list[dict[str, Any]] = []
        for layer, named in self.activations.items():
            if self.wanted["activations"]:
                rows.append({"kind": "activation", **named, **self.seen[layer].facts()})
            if layer in self.alive:
                alive = self.alive[layer]
                rows.append({"kind": "dead_units", **named, "units": len(alive), "dead": int((~alive).sum())})
        for name, found in self.norms.items():
            norm = self.named[name]
            assert isinstance(norm, _BatchNorm) and norm.running_var is not None
            rows.append(
                {"kind": "batch_norm", "layer": name, "type": type(norm).__name__}
                | drift(found, norm.running_var.cpu().double(), norm.eps)
            )
        return rows


class Seen:
    """The activations of the first IMAGES images of a split, batch by batch."""

    def __init__(self) -> None:
        self.images = 0
        self.batches: list[tuple[int, float, float, Tensor]] = []  # numbers, their mean and deviation, their counts

    def add(self, output: Tensor) -> None:
        """Add the activations (N, ...) of a batch."""
        x = output[: IMAGES - self.images]
        if len(x):
            deviation, mean = torch.std_mean(x.float(), correction=0)
            self.batches.append((x.numel(), float(mean), float(deviation), counts(x)))
            self.images += len(x)

    def facts(self) -> dict[str, Any]:
        """Return {mean, std} of all numbers, and their histogram."""
        sizes, means, deviations, of_bins = zip(*self.batches, strict=True)
        total = sum(sizes)
        mean = sum(size * mean for size, mean in zip(sizes, means, strict=True)) / total
        squares = (size * (std**2 + (of - mean) ** 2) for size, of, std in zip(sizes, means, deviations, strict=True))
        return {"mean": mean, "std": math.sqrt(sum(squares) / total), **histogram(torch.stack(of_bins).sum(0))}


def not_zero(x: Tensor, unit: int) -> Tensor:
    """Return (units,) bool: which units are not zero everywhere. unit: the dimension of x that is the units."""
    dims = [d for d in range(x.ndim) if d != unit % x.ndim]
    return (x.amax(dims) != 0) | (x.amin(dims) != 0)


def drift(found: list[tuple[int, Tensor, Tensor]], variance: Tensor, eps: float) -> dict[str, float]:
    """Compare the input of a batch norm with the running statistics that it normalises with.

    found: per batch, the numbers per channel, and the mean and mean square (C,) of x - running_mean. variance: the
    running variance (C,). Returns {mean_shift, variance_ratio}; equal statistics give 0 and 1:
    - mean_shift: distance of the means in running standard deviations, root mean square over channels;
    - variance_ratio: the larger variance over the smaller, geometric mean over channels.
    """
    weights = torch.tensor([number for number, _, _ in found], dtype=torch.float64)
    weights = (weights / weights.sum()).view(-1, 1)
    away = torch.stack([mean for _, mean, _ in found]).cpu().double()
    square = torch.stack([mean for _, _, mean in found]).cpu().double()
    shift = (weights * away).sum(0)
    seen = (weights * square).sum(0) - shift.square()
    factor = (seen.clamp_min(0) + eps).log() - (variance + eps).log()
    return {
        "mean_shift": float((shift.square() / (variance + eps)).mean().sqrt()),
        "variance_ratio": float(factor.abs().mean().exp()),
    }
