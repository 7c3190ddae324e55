"""Which layers of a network compute in bf16 on a CPU: decided by a test of each layer's shape, once per machine.

bf16 convolutions are twice as fast on processors that support them, but some kernels of some torch versions are slow or
wrong for some shapes (pytorch issues 183815, 163347). So each shape is timed in both precisions, forward and backward,
and its results are compared; slow or inaccurate layers stay in fp32. The measurements are kept in <cache>/bf16.json, by
processor, versions and threads, and the choice is recorded with the run.
"""

import platform
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.training import cpu
from cnnexp.training.device import Device

REPEATS = 3  # timings, of which the median counts, after a warm-up
MAX_TIME_RATIO = 1.1  # bf16 / fp32: timings vary by a tenth
MAX_ERROR = 0.02  # |bf16 - fp32| / |fp32|, in the Euclidean norm; five times the rounding of a bf16 number
MAX_IMAGES = 32  # in a test


@dataclass(frozen=True)
class Measurement:
    """The test of one shape: milliseconds forward and backward, and the largest relative error."""

    bf16_ms: float
    fp32_ms: float
    error: float

    @property
    def good(self) -> bool:
        """Tell whether the layer may compute in bf16."""
        return self.bf16_ms <= MAX_TIME_RATIO * self.fp32_ms and self.error <= MAX_ERROR


class InFp32:
    """Computes a layer in fp32, even if autocast is on."""

    def forward(self, input: Tensor) -> Tensor:
        """Compute in fp32."""
        with torch.autocast(input.device.type, enabled=False):
            output: Tensor = super().forward(input.float())  # type: ignore[misc]
        return output


class Fp32Conv2d(InFp32, nn.Conv2d):
    """A convolution in fp32."""


class Fp32Linear(InFp32, nn.Linear):
    """A fully connected layer in fp32."""


IN_FP32: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: Fp32Conv2d, nn.Linear: Fp32Linear}


def keep_in_fp32(model: nn.Module, names: Iterable[str]) -> None:
    """Let the named layers of a network compute in fp32, in place; their tensors and names do not change."""
    for name in names:
        layer = model.get_submodule(name)
        layer.__class__ = IN_FP32[type(layer)]


def unfit(model: nn.Module, image: tuple[int, int, int], batch_size: int, device: Device, cache: Path) -> list[str]:
    """Return the names of the layers that are slow or inaccurate in bf16 here. Tests shapes that are not known yet.

    image: (C, H, W). cache: the folder of bf16.json. One process tests at a time; others wait.
    """
    shapes = shapes_of(model, (min(batch_size, MAX_IMAGES), *image), device)
    processor = "; ".join([cpu.name(), *(f"{name} {value}" for name, value in cpu.kernels().items())])
    layout = "channels last" if device.channels_last else "channels first"
    versions = f"torch {torch.__version__}; python {platform.python_version()}"
    machine = f"{processor}; {versions}; {device.threads} threads; {layout}"
    file = cache / "bf16.json"
    with storage.lock(cache / ".bf16.lock", wait=True):
        known = _read(file)
        here = known.setdefault(machine, {})
        missing = {key: name for name, key in shapes.items() if key not in here}
        for key, name in missing.items():
            here[key] = asdict(test(model.get_submodule(name), key, device))
        if missing:
            storage.write_json(file, known)
    return [name for name, key in shapes.items() if not Measurement(**here[key]).good]


def _read(file: Path) -> dict[str, dict[str, Any]]:
    try:
        known = storage.read_json(file)
        tests = {m: {key: Measurement(**t) for key, t in found.items()} for m, found in known.items()}
        return {m: {key: asdict(t) for key, t in found.items() if type(t.good) is bool} for m, found in tests.items()}
    except (UserError, TypeError, AttributeError):  # none yet, or malformed: test again
        return {}


def shapes_of(model: nn.Module, batch: tuple[int, ...], device: Device) -> dict[str, str]:
    """Return {layer: "Conv2d(...) of 32 x 3 x 64 x 64"} for the layers that a batch of this shape passes through."""
    seen: dict[str, str] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda layer, given: seen.update({name: f"{layer} of {' x '.join(map(str, given[0].shape))}"})

    layers = [(name, layer) for name, layer in model.named_modules() if type(layer) in IN_FP32]
    hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in layers]
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(batch, device=device.torch))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    return seen


def test(layer: nn.Module, key: str, device: Device) -> Measurement:
    """Time a layer in both precisions on random input of the shape at the end of `key`, and compare the results."""
    shape = [int(size) for size in key.rpartition(" of ")[2].split(" x ")]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator)
    if len(shape) == 4 and device.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    times: dict[bool, list[float]] = {False: [], True: []}
    results: dict[bool, list[Tensor]] = {}
    for _ in range(1 + REPEATS):
        for low in (False, True):
            start = perf_counter()
            results[low] = _forward_and_backward(layer, x, low)
            times[low].append(perf_counter() - start)
    fp32_ms, bf16_ms = (1e3 * statistics.median(times[low][1:]) for low in (False, True))
    pairs = zip(results[True], results[False], strict=True)
    return Measurement(bf16_ms, fp32_ms, max(float((a - b).norm() / b.norm().clamp_min(1e-30)) for a, b in pairs))


def _forward_and_backward(layer: nn.Module, x: Tensor, low: bool) -> list[Tensor]:
    """Return the output, and the gradients of the input and the weights, in fp32."""
    x = x.detach().requires_grad_(True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        output = layer(x)
    learning = [x, *(p for p in layer.parameters() if p.requires_grad)]
    gradients = torch.autograd.grad(output, learning, output.detach())
    return [tensor.detach().float() for tensor in (output, *gradients)]
