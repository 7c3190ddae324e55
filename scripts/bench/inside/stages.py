"""Where the time of one `cnnexp train` goes, stage by stage: the command is run in this process, its stages are timed.

Run: python stages.py '{"overrides": ["data=shapes"], "outputs": "somewhere", "begun": 1700000000.0}'
begun: the time at which this process was started. Prints one line of JSON: seconds of every stage, which add up to
`whole`, but for the end of the process.
"""

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ENTERED = time.time()


def main(overrides: list[str], outputs: str, begun: float) -> dict[str, float]:
    """Run `cnnexp train` with a clock around each of its stages."""
    stages: dict[str, float] = {"start of Python": ENTERED - begun}
    started = time.perf_counter()
    import torch  # noqa: F401

    stages["import of torch"] = time.perf_counter() - started
    started = time.perf_counter()
    import hydra

    import cnnexp.sweep.plugin  # noqa: F401
    from cnnexp import cli
    from cnnexp.config import compose as config
    from cnnexp.training import plan, run, setup
    from cnnexp.training.recorder import Recorder

    stages["other imports"] = time.perf_counter() - started
    spent: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        for owner, name in (
            *((config, "check"), (plan, "plan"), (plan, "build_data"), (setup, "new_state")),
            *((run, "training_batches"), (run, "fit"), (Recorder, "evaluate_best")),
        ):
            stack.enter_context(clocked(owner, name, spent))
        stack.enter_context(clocked(hydra, "main", spent, calls=True))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        started = time.perf_counter()
        code = cli.main(["train", *overrides, f"outputs={outputs}"])
        spent["whole"] = time.perf_counter() - started
    assert code == 0
    stages |= named(spent, Path(outputs))
    stages["whole"] = sum(seconds for name, seconds in stages.items() if not name.startswith("of "))
    return stages


def named(spent: dict[str, float], outputs: Path) -> dict[str, float]:
    """Return the seconds of the stages from those of the functions, and what the run recorded of its parts."""
    from cnnexp.records.run_record import find_runs

    recorded = find_runs(outputs)[0].info["seconds"]
    stages = ("main", "check", "plan", "new_state", "training_batches", "fit", "evaluate_best")
    accounted = sum(spent[name] for name in stages)
    return {
        "compose": spent["main"],
        "check": spent["check"],
        "open the prepared data": spent["build_data"],
        "plan the run (device, fingerprint, folder)": spent["plan"] - spent["build_data"],
        "build network and optimiser": spent["new_state"],
        "compile (device.compile: none by default)": spent["training_batches"],
        "training loop": spent["fit"],
        "conclude (best weights on test and training images, predictions)": spent["evaluate_best"],
        **{f"of loop and conclusion: {name}": recorded[name] for name in ("train", "evaluate", "checkpoint")},
        "records, locks, the rest": spent["whole"] - accounted,
    }


@contextlib.contextmanager
def clocked(owner: Any, name: str, spent: dict[str, float], calls: bool = False) -> Iterator[None]:
    """Add the time of every call of `owner.name` to spent[name]; with `calls`, of what its result is used for twice.

    hydra.main(...)(task)() is three calls, of which the last does the work.
    """
    original = getattr(owner, name)

    def timed(function: Callable[..., Any], depth: int) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            result = function(*arguments, **named)
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - started
            return timed(result, depth - 1) if depth else result

        return call

    setattr(owner, name, timed(original, 2 if calls else 0))
    spent.setdefault(name, 0.0)
    try:
        yield
    finally:
        setattr(owner, name, original)


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
