"""Compare an operation with torch's: shapes, dtypes, numbers and gradients; then time both."""

import math
import statistics
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor

Shape = tuple[int, ...]
Computation = Callable[..., Tensor]  # of the inputs, one argument each


class Operation(NamedTuple):
    """An operation: the shapes of its inputs and, last, of its output; implementations of it, and torch's own."""

    shapes: tuple[Shape, ...]
    implementations: dict[str, Computation]
    torch: Computation
    settings: str = ""

    @property
    def description(self) -> str:
        """Return the inputs' shapes and the settings, as "128x1024, 256x1024, 256"."""
        shapes = ["x".join(map(str, shape)) for shape in self.shapes[:-1]]
        return ", ".join([*shapes, self.settings] if self.settings else shapes)


class Row(NamedTuple):
    """The comparison of one implementation with torch's. difference: see `largest_difference`, in float64."""

    operation: str
    implementation: str
    measured_on: str
    difference: float
    seconds: float
    torch_seconds: float

    @property
    def ratio(self) -> float:
        """Return the time divided by torch's."""
        return self.seconds / self.torch_seconds


def passes(computation: Computation, inputs: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
    """Compute forward and backward: return the output and the gradient of each input for dL/doutput = upstream.

    An output that needs no gradient is returned alone.
    """
    leaves = [tensor.detach().requires_grad_(True) for tensor in inputs]
    output = computation(*leaves)
    return [output.detach(), *(torch.autograd.grad(output, leaves, upstream) if output.requires_grad else ())]


def draw(shapes: Sequence[Shape], dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[list[Tensor], Tensor]:
    """Draw the inputs and the upstream gradient of an operation from the standard normal distribution."""
    generator = torch.Generator().manual_seed(seed)
    *inputs, upstream = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)
    return inputs, upstream


def largest_difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the largest |a - b| of two lists of tensors, divided by the largest |b| of its tensor if that is above 1.

    NaN if there is one. Raises AssertionError unless number, shapes and dtypes are the same.
    """
    assert len(found) == len(expected), f"{len(found)} tensors, torch {len(expected)}"
    parts = [0.0]
    for a, b in zip(found, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), f"{a.shape} {a.dtype}, torch {b.shape} {b.dtype}"
        parts.append(float((a - b).abs().max() / b.abs().max().clamp_min(1)))
    return math.nan if any(map(math.isnan, parts)) else max(parts)


def median_seconds(call: Callable[[], object], budget: float) -> float:
    """Return the median time of a call, repeated for `budget` seconds; the first counts only if it is the only one."""
    times: list[float] = []
    while not times or sum(times) < budget:
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return statistics.median(times[1:] or times)


def compare(name: str, operation: Operation, budget: float) -> list[Row]:
    """Compare each implementation with torch's in float64, and time both, forward and backward, in float32.

    budget: seconds for each time.
    """
    exact, single = draw(operation.shapes), draw(operation.shapes, torch.float32)
    expected = passes(operation.torch, *exact)
    torch_seconds = median_seconds(lambda: passes(operation.torch, *single), budget)
    rows = []
    for implementation, run in operation.implementations.items():
        difference = largest_difference(passes(run, *exact), expected)
        seconds = median_seconds(lambda run=run: passes(run, *single), budget)  # type: ignore[misc]
        rows.append(Row(name, implementation, operation.description, difference, seconds, torch_seconds))
    return rows
