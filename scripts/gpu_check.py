"""Check on a GPU what the tests check on a CPU, and measure the GPU rows of docs/performance.md with few epochs.

Run: python scripts/gpu_check.py --out DIR [--data DIR] [--minutes 8]        on a machine with a CUDA device
     python scripts/gpu_check.py --out DIR --device cpu --quick              to test this script

It needs no installation: `PYTHONPATH` with the packages and this project is enough. It writes DIR/gpu_check.json after
every check. `python scripts/benchmark.py --add DIR/gpu_check.json` puts its rows into docs/performance.md.
Exit code: 0 if every check that was run passed, 3 if one failed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gpu import checks
from gpu.commands import Bench, Failed
from gpu.rows import measured_row

CHECKS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    check.__name__: check
    for check in (
        checks.same_as_cpu,
        checks.resume,
        checks.precisions,
        checks.optimizers,
        checks.networks,
        checks.schedules,
        checks.augmentation,
        checks.no_synchronisation,
        checks.resident,
        checks.frozen,
        checks.probes,
        checks.out_of_memory,
        checks.evaluation,
        checks.exported,
        checks.compiled,
        checks.several_gpus,
    )
} | {name: measured_row(name) for name in ("G4", "G1", "G3", "G2", "G5")}


def facts(bench: Bench) -> dict[str, Any]:
    """Return what was checked with: the device and the versions."""
    import torch
    import torchvision

    name = torch.cuda.get_device_name() if bench.cuda else "CPU"
    versions = {"python": sys.version.split()[0], "torch": torch.__version__, "torchvision": torchvision.__version__}
    return {"device": name, "versions": versions, "quick": bench.quick, "date": time.strftime("%Y-%m-%d")}


def run(bench: Bench, names: list[str]) -> Iterator[dict[str, Any]]:
    """Yield {name, status, seconds, ...} of each check: passed, failed, or not run for lack of time, data or GPUs."""
    for name in names:
        check, start = CHECKS[name], time.monotonic()
        found: dict[str, Any] = {"name": name, "what": (check.__doc__ or "").strip()}
        if start > bench.deadline:
            found["status"] = "not run: no time left"
        else:
            try:
                found |= {"status": "passed", **check(bench)}
            except (Failed, subprocess.TimeoutExpired) as error:
                found |= {"status": "failed", "why": str(error)}
            except Exception:
                found |= {"status": "failed", "why": traceback.format_exc(limit=4)}
        yield found | {"seconds": round(time.monotonic() - start, 1)}


def main(argv: list[str]) -> int:
    """Run the checks and write DIR/gpu_check.json after each of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="*", help=f"default: all of {', '.join(CHECKS)}")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--data", type=Path, metavar="DIR", help="holds imagenette2-160 and cifar10-jpeg, for G1 to G5")
    parser.add_argument("--device", default="cuda:0", metavar="cuda:0|cpu")
    parser.add_argument("--minutes", type=float, default=8.0, help="start no check after that time")
    parser.add_argument("--quick", action="store_true", help="tiny, to test this script")
    given = parser.parse_args(argv)
    if wrong := [name for name in given.checks if name not in CHECKS]:
        parser.error(f"no check {wrong[0]}; choose from {', '.join(CHECKS)}")
    given.out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as work:
        deadline = time.monotonic() + 60 * given.minutes
        data = given.data and given.data.resolve()
        bench = Bench(given.device, Path(work), given.quick, data, deadline)
        about = facts(bench)
        for found in run(bench, given.checks or list(CHECKS)):
            results.append(found)
            why = f": {found['why']}" if "why" in found else ""
            print(f"{found['seconds']:6.1f} s  {found['name']:20} {found['status']}{why}", flush=True)
            (given.out / "gpu_check.json").write_text(json.dumps({**about, "checks": results}, indent=1) + "\n")
    return 3 if any(found["status"] == "failed" for found in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
