"""Hold an operation to torch's: shapes, types, numbers and gradients; and to its own finite differences. Then time it.

A `Run` computes an operation forward and backward: run(inputs, upstream) -> [output, gradient of each input]. What has
no gradient here gives its output alone.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor

Shape = tuple[int, ...]
Run = Callable[[Sequence[Tensor], Tensor], list[Tensor]]


class Operation(NamedTuple):
    """An operation: the shapes of its inputs and, last, of its output; ways to compute it, and torch's own."""

    shapes: tuple[Shape, ...]
    ways: dict[str, Run]
    torch: Run
    settings: str = ""

    @property
    def words(self) -> str:
        """Return the inputs' shapes and the settings, as "128x1024, 256x1024, 256"."""
        shapes = ["x".join(map(str, shape)) for shape in self.shapes[:-1]]
        return ", ".join([*shapes, self.settings] if self.settings else shapes)


class Row(NamedTuple):
    """What a comparison of one way with torch's found. difference: see `largest_difference`, in float64."""

    operation: str
    implementation: str
    measured_on: str
    difference: float
    seconds: float
    torch_seconds: float

    @property
    def ratio(self) -> float:
        """Return how many times torch's time this way takes."""
        return self.seconds / self.torch_seconds


def by_autograd(forward: Callable[..., Tensor]) -> Run:
    """Return the Run of a function of the inputs whose gradients torch's autograd finds."""

    def run(inputs: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
        leaves = [tensor.detach().requires_grad_(True) for tensor in inputs]
        output = forward(*leaves)
        return [output.detach(), *torch.autograd.grad(output, leaves, upstream)]

    return run


def draw(shapes: Sequence[Shape], dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[list[Tensor], Tensor]:
    """Draw the inputs and the upstream gradient of an operation from the standard normal distribution."""
    generator = torch.Generator().manual_seed(seed)
    *inputs, upstream = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)
    return inputs, upstream


def largest_difference(mine: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Return the largest |a - b| of two lists of tensors, each over its largest |b| where that is above 1.

    Raises AssertionError if their number, or a shape or a dtype, is not the same. NaN if there is one.
    """
    assert len(mine) == len(theirs), f"{len(mine)} tensors, torch {len(theirs)}"
    parts = [0.0]
    for a, b in zip(mine, theirs, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), f"{a.shape} {a.dtype}, torch {b.shape} {b.dtype}"
        parts.append(float((a - b).abs().max() / b.abs().max().clamp_min(1)))
    return math.nan if any(map(math.isnan, parts)) else max(parts)


def numeric_gradients(run: Run, inputs: Sequence[Tensor], upstream: Tensor, step: float = 1e-6) -> list[Tensor]:
    """Return the gradients of L = sum of upstream y by central differences, (L(x + step) - L(x - step)) / (2 step).

    One number of one input after another: for small ones, in float64, where an error of about 1e-9 is left.
    """
    gradients = [torch.zeros_like(tensor) for tensor in inputs]
    for place, gradient in enumerate(gradients):
        for number in range(gradient.numel()):
            sides = []
            for sign in (1, -1):
                moved = [tensor.clone() for tensor in inputs]
                moved[place].view(-1)[number] += sign * step
                sides.append(float((run(moved, upstream)[0] * upstream).sum()))
            gradient.view(-1)[number] = (sides[0] - sides[1]) / (2 * step)
    return gradients


def seconds(call: Callable[[], object], budget: float) -> float:
    """Return the median time of a call, repeated until `budget` seconds are over; the first counts only if alone."""
    taken: list[float] = []
    while not taken or sum(taken) < budget:
        start = perf_counter()
        call()
        taken.append(perf_counter() - start)
    return statistics.median(taken[1:] or taken)


def compare(name: str, operation: Operation, budget: float) -> list[Row]:
    """Hold each way of an operation to torch's in float64, and time both, forward and backward, in float32."""
    exact, single = draw(operation.shapes), draw(operation.shapes, torch.float32)
    truth = operation.torch(*exact)
    torch_seconds = seconds(lambda: operation.torch(*single), budget)
    rows = []
    for way, run in operation.ways.items():
        difference = largest_difference(run(*exact), truth)
        taken = seconds(lambda run=run: run(*single), budget)  # type: ignore[misc]
        rows.append(Row(name, way, operation.words, difference, taken, torch_seconds))
    return rows
