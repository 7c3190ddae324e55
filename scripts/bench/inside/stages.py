"""Time the stages of one `cnnexp train`, which runs in this process.

Run: python stages.py '{"overrides": ["data=postcards"]}' OUTPUTS BEGUN
BEGUN: the time at which this process was started. Prints one line of JSON: the seconds of every stage, and their sum,
`all stages`, which lacks the end of the process.
"""

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

ENTERED = time.time()


def main(overrides: list[str], outputs: str, begun: float) -> dict[str, float]:
    """Run `cnnexp train` with a clock around each of its stages."""
    import torch  # noqa: F401

    imported = time.time()
    import hydra  # noqa: F401
    from turns import clock, train  # type: ignore[import-not-found]

    from cnnexp.config import checks
    from cnnexp.training import plan, run, setup
    from cnnexp.training.recorder import Recorder

    ready = time.time()
    spent: dict[str, float] = {}
    entrypoint = importlib.import_module("cnnexp.train")
    parts: dict[Any, str] = {entrypoint: "main single", checks: "check", plan: "plan build_data", setup: "new_state"}
    for owner, names in {**parts, run: "training_batches fit", Recorder: "evaluate_best"}.items():
        for name in names.split():
            clock(owner, name, spent)
    recorded = train(overrides, Path(outputs))["seconds"]
    stages = {
        "start of Python": ENTERED - begun,
        "import of torch": imported - ENTERED,
        "other imports": ready - imported,
        "compose": spent["main"] - spent["single"],
        "check": spent["check"],
        "open the prepared data": spent["build_data"],
        "plan the run (device, fingerprint, folder)": spent["plan"] - spent["build_data"],
        "build network and optimiser": spent["new_state"],
        "compile (device.compile: none by default)": spent["training_batches"],
        "training loop": spent["fit"],
        "evaluate the best weights, on test and training images": spent["evaluate_best"],
    }
    stages["records, locks, the rest"] = time.time() - begun - sum(stages.values())
    of_both = {f"in these two: {name}": recorded[name] for name in ("train", "evaluate", "checkpoint")}
    return {**stages, **of_both, "all stages": sum(stages.values())}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]), outputs=sys.argv[2], begun=float(sys.argv[3]))))
