"""Check on a GPU what the tests check on a CPU, and measure the GPU rows of docs/performance.md with few epochs.

Run: python scripts/gpu_check.py checks --out DIR                       on a machine with a CUDA device
     python scripts/gpu_check.py rows --out DIR2 --data DATA            the rows, in a call of their own
     python scripts/gpu_check.py same_as_cpu G1 --out DIR --data DATA   some of both; without names all are run
     python scripts/gpu_check.py --out DIR --device cpu --quick         to test this script

The most important checks come first: at the end of --minutes the one that runs is ended, and the others do not start.
It writes DIR/gpu_check.json after every check; give each call a DIR of its own.
`python scripts/benchmark.py --add DIR/gpu_check.json` puts its rows into docs/performance.md.
Exit code: 0 if every check that was run passed, 3 if one failed.

It needs no installation: `PYTHONPATH` with the packages and this project is enough. For a machine without network that
has torch and torchvision, make wheels of the packages that it lacks elsewhere, and install these files there:
    pip wheel --no-deps -w wheels "hydra-core>=1.3.8,<1.4" "omegaconf>=2.3,<2.4" "antlr4-python3-runtime==4.9.*"
    pip install --no-index --no-deps --target SITE wheels/*.whl; export PYTHONPATH=SITE:PROJECT
The first command also builds the last of them, of which there is a source distribution only. Plotly is not needed here:
without it the figures of reports are images. G5's arms that transfer start from torchvision's ImageNet weights of
ResNet-18; without that file in torch's folder they are not run, and the other arms are.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.table import ROWS
from gpu import checks, numbers
from gpu.commands import Bench, Failed, NoTime
from gpu.rows import measured_row

CHECKS: dict[str, Callable[[Bench], dict[str, Any]]] = {  # the most important first
    check.__name__: check
    for check in (
        numbers.same_as_cpu,
        numbers.no_synchronisation,
        numbers.precisions,
        checks.resume,
        checks.resident,
        numbers.augmentation,
        checks.evaluation,
        numbers.compiled,
        checks.optimizers,
        checks.exported,
        checks.probes,
        checks.frozen,
        checks.out_of_memory,
        checks.networks,
        checks.schedules,
        checks.several_gpus,
    )
} | {name: measured_row(name) for name in ("G1", "G4", "G3", "G2", "G5")}
GROUPS = {"rows": [name for name in CHECKS if name in ROWS], "checks": [name for name in CHECKS if name not in ROWS]}


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
            except NoTime:
                found["status"] = "not run: no time left"
            except Failed as error:
                found |= {"status": "failed", "why": str(error)}
            except Exception:
                found |= {"status": "failed", "why": traceback.format_exc(limit=4)}
        yield found | {"seconds": round(time.monotonic() - start, 1)}


def main(argv: list[str]) -> int:
    """Run the checks and write DIR/gpu_check.json after each of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="*", help=f"checks, rows, or of {', '.join(CHECKS)}; default: all")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--data", type=Path, metavar="DIR", help="holds imagenette2-160 and cifar10-jpeg, for G1 to G5")
    parser.add_argument("--device", default="cuda:0", metavar="cuda:0|cpu")
    parser.add_argument("--minutes", type=float, default=8.0, help="of all checks; then the one that runs is ended")
    parser.add_argument("--quick", action="store_true", help="tiny, to test this script")
    given = parser.parse_args(argv)
    names = [name for given_name in given.checks for name in GROUPS.get(given_name, [given_name])] or list(CHECKS)
    if wrong := [name for name in names if name not in CHECKS]:
        parser.error(f"no check {wrong[0]}; choose from {', '.join([*GROUPS, *CHECKS])}")
    given.out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="gpu-check-", ignore_cleanup_errors=True) as work:
        deadline = time.monotonic() + 60 * given.minutes
        data = given.data and given.data.resolve()
        bench = Bench(given.device, Path(work), given.quick, data, deadline)
        about = facts(bench)
        for found in run(bench, names):
            results.append(found)
            why = f": {found['why']}" if "why" in found else ""
            print(f"{found['seconds']:6.1f} s  {found['name']:20} {found['status']}{why}", flush=True)
            (given.out / "gpu_check.json").write_text(json.dumps({**about, "checks": results}, indent=1) + "\n")
    return 3 if any(found["status"] == "failed" for found in results) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # and end what was started
    sys.exit(main(sys.argv[1:]))
