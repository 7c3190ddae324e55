"""Parts of training steps of cnnexp, each alone.

batches: making so many batches. seconds: forward, backward and update on one batch, for so many seconds; nothing is
gathered, augmented, counted, validated or saved. The product of two square matrices shows what the processor can do.

Run: python steps.py '{"overrides": ["data=postcards", "+aug=full"], "batches": 50}'      or "seconds": 5
Prints one line of JSON: images_per_second; with `seconds` also gflops (of the step: six operations per
multiply-accumulate) and product_gflops.
"""

import json
import sys
from collections.abc import Callable
from time import perf_counter

import torch
from torch.nn import functional

from cnnexp.config import compose as config
from cnnexp.data.batches import Batches, DeviceImages, Normalise
from cnnexp.models.summary import count
from cnnexp.training import build
from cnnexp.training import device as devices
from cnnexp.training.setup import batches_of

SIDE = 2048  # of the matrices


def main(overrides: list[str], batches: int = 0, seconds: float = 0.0) -> dict[str, float]:
    """Measure making batches, or steps on one batch."""
    settings = config.resolve(config.compose(overrides))
    device = devices.resolve(settings["device"])
    devices.set_up(device)
    data = build.build_data(settings)
    if batches:
        made = batches_of(settings, data, device)
        return {"images_per_second": len(made.at(0).labels) * per_second(made.at, batches=batches)}
    torch.manual_seed(settings["seed"])
    model = build.build_model(settings, data.image, len(data.classes)).to(memory_format=torch.channels_last)
    optimizer = build.build_optimizer(settings, model)
    images, normalise = DeviceImages(data.train, device.torch), Normalise(data.mean, data.std, device.torch)
    batch = Batches(images, settings["batch_size"], 0, None, normalise).at(0)

    def step(_: int) -> None:
        with device.autocast():
            logits = model(batch.images)
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(logits.float(), batch.labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    kind = torch.bfloat16 if device.precision == "bf16" else torch.float32
    a, b = (torch.randn(SIDE, SIDE).to(kind) for _ in range(2))
    out = torch.empty_like(a)
    rate = len(batch.labels) * per_second(step, seconds=seconds)
    products = per_second(lambda _: torch.mm(a, b, out=out), seconds=seconds / 2)
    gflops = 6e-9 * count(model, data.image)["macs"] * rate
    return {"images_per_second": rate, "gflops": gflops, "product_gflops": 2e-9 * SIDE**3 * products}


def per_second(act: Callable[[int], object], batches: int = 0, seconds: float = 0.0) -> float:
    """Return how often `act(number)` can be done per second, after three calls that are not counted."""
    for number in range(3):
        act(number)
    times, started = 0, perf_counter()
    while times < batches or perf_counter() - started < seconds:
        act(3 + times)
        times += 1
    return times / (perf_counter() - started)


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
