"""The batches of a run of cnnexp, made one after another without training on them.

Run: python pipeline.py '{"overrides": ["data=shapes", "+aug=full"], "steps": 50}'      prints one line of JSON
"""

import json
import sys
from time import perf_counter

from cnnexp.config import compose as config
from cnnexp.training import build
from cnnexp.training import device as devices
from cnnexp.training.setup import batches_of


def main(overrides: list[str], steps: int) -> dict[str, float]:
    """Make `steps` batches, after a few that do not count."""
    plain = config.resolve(config.compose(overrides))
    config.check(plain)
    device = devices.resolve(plain["device"])
    devices.set_up(device)
    batches = batches_of(plain, build.build_data(plain), device)
    for step in range(3):
        batches.at(step)
    started, seen = perf_counter(), 0
    for step in range(3, 3 + steps):
        seen += len(batches.at(step).labels)
    return {"images_per_second": seen / (perf_counter() - started)}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
