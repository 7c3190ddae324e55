"""The layers, parameters and cost of any torch module, from one forward pass of an image of zeros.

MACs (multiply-accumulate operations) are those of convolutions, fully connected layers and attention, in modules and
functions, by the formulas of torch's FlopCounterMode (2 FLOPs are a MAC). The pass is in eval mode and without
gradients; it leaves modes, statistics, random state and hooks as they were.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from cnnexp.errors import UserError
from cnnexp.models.receptive import Field, Fields


def written(*shapes: tuple[int, ...]) -> tuple[str, int]:
    """Write out how many numbers tensors of these shapes hold, and count them.

    Torch's weight shapes read backwards give the textbook order: (32, 3, 7, 7), (32,) -> "7*7*3*32 + 32 = 4,736", 4736.
    """
    count = sum(math.prod(shape) for shape in shapes)
    text = " + ".join("*".join(str(n) for n in reversed(shape)) or "1" for shape in shapes)
    return (text if text == str(count) else f"{text} = {count:,}") if shapes else "", count


@dataclass(frozen=True)
class Row:
    """One use of one layer. output: its shape without the batch; None if it is not used in eval mode.

    parameters: its own, counted at its first use. macs: for one image. receptive_field: side of the square of input
    pixels that one output depends on; None where that is not known (see receptive.py).
    """

    name: str
    kind: str
    output: tuple[int, ...] | None
    parameters: int
    arithmetic: str
    macs: int
    receptive_field: int | None


@dataclass(frozen=True)
class Summary:
    """The rows in the order of use, and the totals. activations: elements of all outputs for one image."""

    rows: list[Row]
    parameters: int
    trainable_parameters: int
    macs: int
    activations: int


@dataclass
class _Call:
    name: str
    start: int
    field: Field | None
    inner_macs: int = 0
    inner_calls: int = 0


class _Flops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts FLOPs as FlopCounterMode does, without importing torch's compiler (measured: 1.5 s)."""

    total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import the compiler

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute `func`, and count its FLOPs if torch has a formula."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if formula := flop_registry.get(func._overloadpacket):
            self.total += formula(*args, **kwargs, out_val=output)
        return output


class _Watch:
    """Makes a row for each call of a module that calls no other, or has parameters or MACs of its own."""

    def __init__(self, image: Tensor, counter: _Flops):
        self.rows: list[Row] = []
        self.calls: list[_Call] = []
        self.counted: set[int] = set()
        self.fields = Fields(image)
        self.counter = counter

    def before(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Record the start of a call."""
        self.calls.append(_Call(name, self.counter.total, self.fields.of(inputs)))

    def after(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Make the row of a call that ends, if it has one."""
        call = self.calls.pop()
        macs = (self.counter.total - call.start) // 2
        if self.calls:
            self.calls[-1].inner_macs += macs
            self.calls[-1].inner_calls += 1
        leaf = call.inner_calls == 0
        if leaf or self.uncounted(module) or macs > call.inner_macs:
            side = self.fields.after(call.field, module, output) if leaf else None
            self.add(call.name, module, output, macs - call.inner_macs, side, recurse=leaf)

    def uncounted(self, module: nn.Module, recurse: bool = False) -> list[nn.Parameter]:
        """Return the parameters of a module, and with `recurse` of its submodules, that are in no row yet."""
        return [p for p in module.parameters(recurse) if id(p) not in self.counted]

    def add(
        self, name: str, module: nn.Module, output: Any, macs: int = 0, side: int | None = None, recurse: bool = False
    ) -> None:
        """Add a row; its parameters are those in no row yet."""
        new = self.uncounted(module, recurse)
        self.counted.update(id(p) for p in new)
        arithmetic, parameters = written(*(tuple(p.shape) for p in new))
        given = next((t for t in (output if isinstance(output, tuple) else (output,)) if isinstance(t, Tensor)), None)
        shape = None if given is None else tuple(given.shape[1:])
        self.rows.append(Row(name, type(module).__name__, shape, parameters, arithmetic, macs, side))


def summarise(model: nn.Module, image: tuple[int, int, int]) -> Summary:
    """Pass one (1, C, H, W) image of zeros through `model`, on its device, and return its layers and cost.

    Raises UserError, naming the layer, if the model does not take such an image.
    """
    reference = next(model.parameters(), torch.zeros(()))
    x = torch.zeros(1, *image, device=reference.device, dtype=reference.dtype)
    with _untouched(model), _Flops() as counter, ExitStack() as hooks:  # type: ignore[no-untyped-call]
        watch = _Watch(x, counter)
        for name, module in model.named_modules():
            before = partial(watch.before, name or "(itself)")
            hooks.callback(module.register_forward_pre_hook(before).remove)
            hooks.callback(module.register_forward_hook(watch.after).remove)
        try:
            model(x)
        except (RuntimeError, ValueError, AssertionError, IndexError) as error:
            at = watch.calls[-1].name if watch.calls else "(itself)"
            size, reason = "x".join(map(str, image)), str(error).splitlines()[0]
            raise UserError(f"model: an image of {size} does not pass through layer {at}: {reason}") from error
    for name, module in model.named_modules():  # those not used in eval mode, such as auxiliary heads
        if watch.uncounted(module):
            watch.add(name, module, None)
    parameters = list(model.parameters())
    return Summary(
        watch.rows,
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if p.requires_grad),
        counter.total // 2,
        sum(math.prod(row.output) for row in watch.rows if row.output is not None),
    )


def count(model: nn.Module, image: tuple[int, int, int]) -> dict[str, int]:
    """Return {parameters, trainable_parameters, macs} for the record of a run; macs: for one (C, H, W) image."""
    total = vars(summarise(model, image))
    return {key: total[key] for key in ("parameters", "trainable_parameters", "macs")}


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the counter does not see into it
    try:
        with torch.no_grad():
            model.eval()
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, training in modes:
            module.training = training
