"""A training step as it is, and compiled by torch.compile: how long compiling takes, and what it gains.

Run: python compiled.py '{"overrides": ["data=shapes"], "steps": 20}'      prints one line of JSON
"""

import json
import sys
from time import perf_counter

import torch

from cnnexp import build, config
from cnnexp import device as devices
from cnnexp.loop import train_step
from cnnexp.start import batches_of, new_state, settings_of


def main(overrides: list[str], steps: int) -> dict[str, float]:
    """Time `steps` steps of each kind, in turns of five."""
    plain = config.resolve(config.compose(overrides))
    config.check(plain)
    device = devices.resolve(plain["device"])
    devices.set_up(device)
    data = build.build_data(plain)
    batches = batches_of(plain, data, device)
    settings = settings_of(plain, batches, device)
    state, compiled = (new_state(plain, data, settings) for _ in range(2))
    compiled.learner = torch.compile(compiled.learner)  # type: ignore[assignment]
    train_step(state, batches.at(0), settings)
    started = perf_counter()
    train_step(compiled, batches.at(0), settings)
    first = perf_counter() - started
    seconds = {"as it is": 0.0, "compiled": 0.0}
    for turn in range(max(steps // 5, 1)):
        for name, one in (("as it is", state), ("compiled", compiled)):
            started = perf_counter()
            for step in range(5 * turn, 5 * turn + 5):
                train_step(one, batches.at(step), settings)
            seconds[name] += perf_counter() - started
    seen = max(steps // 5, 1) * 5 * plain["batch_size"]
    return {"compile_seconds": first, **{name: seen / spent for name, spent in seconds.items()}}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
