"""What is left of a training step when everything around it is free: forward, backward and update, on one batch.

Nothing is gathered, augmented, normalised, counted, validated or saved. What the processor can do at all stands beside
it: the product of two square matrices.

Run: python limit.py '{"overrides": ["data=shapes", "model=custom"], "seconds": 5}'
Prints one line of JSON: images_per_second, gflops (of the step: six operations a MAC), product_gflops.
"""

import json
import sys
from collections.abc import Callable
from time import perf_counter

import torch
from torch.nn import functional

from cnnexp.config import compose as config
from cnnexp.data.batches import Batches, DeviceImages
from cnnexp.models.summary import count
from cnnexp.training import build
from cnnexp.training import device as devices
from cnnexp.training.device import Device

SIDE = 2048  # of the matrices


def main(overrides: list[str], seconds: float) -> dict[str, float]:
    """Measure the step and the product, each for about so many seconds."""
    settings = config.resolve(config.compose(overrides))
    device = devices.resolve(settings["device"])
    devices.set_up(device)
    data = build.build_data(settings)
    torch.manual_seed(settings["seed"])
    model = build.build_model(settings, data.image, len(data.classes)).to(memory_format=torch.channels_last)
    optimizer = build.build_optimizer(settings, model)
    size = settings["batch_size"]
    batch = Batches(DeviceImages(data.train, device.torch), size, 0, None, data.mean, data.std).at(0)

    def step() -> None:
        with device.autocast():
            logits = model(batch.images)
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(logits.float(), batch.labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    rate = size * per_second(step, seconds)
    macs = count(model, data.image)["macs"]
    return {
        "images_per_second": rate,
        "gflops": 6e-9 * macs * rate,
        "product_gflops": 2e-9 * SIDE**3 * per_second(product(device), seconds / 2),
    }


def product(device: Device) -> Callable[[], None]:
    """Return a product of two matrices, in the precision of the step."""
    a, b = (torch.randn(SIDE, SIDE) for _ in range(2))
    if device.precision == "bf16":
        a, b = a.bfloat16(), b.bfloat16()
    out = torch.empty_like(a)

    def multiply() -> None:
        torch.mm(a, b, out=out)

    return multiply


def per_second(act: Callable[[], None], seconds: float) -> float:
    """Return how often something can be done in a second, after three times that are not counted."""
    for _ in range(3):
        act()
    times, started = 0, perf_counter()
    while perf_counter() - started < seconds:
        act()
        times += 1
    return times / (perf_counter() - started)


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
