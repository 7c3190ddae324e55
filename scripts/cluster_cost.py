"""Time what several workers cost and save: the numbers of docs/clusters.md. For a machine with two free cores.

Run: python scripts/cluster_cost.py engines      seconds of a sweep of tiny runs on each engine (1, 20, 200); 3 min
     python scripts/cluster_cost.py nodes        a sweep on one and on two Ray nodes of a core each; 7 min
     python scripts/cluster_cost.py processes    a run of one process with two threads, and of two with one each; 1 min

Ray needs `pip install 'cnnexp[ray]'`, SLURM root and Debian's slurm-wlm; an engine that is not there is left out. Each
line is the median of the repeats, with their range; the repeats of what is compared take turns.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE / "tests" / "helpers"))
import ray_cluster  # noqa: E402
import slurm_node  # noqa: E402

from cnnexp.records.run_record import find_runs  # noqa: E402

CNNEXP = [sys.executable, "-m", "cnnexp"]
DEVICE = ("device.kind=cpu", "device.precision=fp32", "device.threads=1")
TINY = ("data.num_train=100", "data.num_test=50", "data.size=16", "batch_size=16", "epochs=1st", *DEVICE)
LONGER = ("data.num_train=2000", "data.num_test=200", "batch_size=50", "epochs=16ep", "model.norm=batch", *DEVICE)
ONE_RUN = ("model.norm=batch", "data.size=32", "data.num_train=1000", "batch_size=100", "epochs=8ep", *DEVICE[:2])
Case = Callable[[], float]  # makes something once; returns the seconds that it took


def command(*words: str, environ: dict[str, str] | None = None) -> float:
    """Run a command of cnnexp; return the seconds it took. Ends this program if it fails."""
    started = time.perf_counter()
    done = subprocess.run([*CNNEXP, *words], env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"cnnexp {' '.join(words)}\n{done.stdout}{done.stderr}")
    return time.perf_counter() - started


class Lab:
    """Clusters that are started once, and an empty folder for each sweep."""

    def __init__(self, folder: Path, stack: ExitStack):
        self.folder, self.stack, self.made = folder, stack, 0

    def sweep(self, runs: int, words: tuple[str, ...], environ: dict[str, str] | None = None) -> float:
        """Make this many runs, with seeds from 0; return the seconds. With `cluster=by_hand`, a worker makes them."""
        outputs = self.folder / f"outputs{self.made}"
        self.made += 1
        places = (f"outputs={outputs}", "study.name=sweep")
        seconds = command("train", "-m", f"seed=range(0,{runs})", *places, *words, environ=environ)
        if "cluster=by_hand" in words:
            seconds += command("work", str(outputs / "sweep"), "slots=cpu:2")
        done = [run.status for run in find_runs(outputs)]
        assert done == ["done"] * runs, done
        return seconds

    def ray(self, nodes: int) -> dict[str, str]:
        """Start a Ray cluster with nodes of a core each; return the environment in which a command joins it."""
        logs = self.folder / f"ray{nodes}"
        logs.mkdir()
        cluster = self.stack.enter_context(ray_cluster.ray_cluster(logs, nodes))
        return {**os.environ, "RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": "disabled"}

    def slurm(self) -> dict[str, str]:
        """Start a SLURM node; return its environment."""
        return self.stack.enter_context(slurm_node.slurm_node(self.folder / "slurm"))


def engines(lab: Lab) -> Iterator[tuple[str, list[float]]]:
    """Yield the seconds of sweeps of tiny runs: two at a time, on each engine that is there."""
    there: dict[str, tuple[tuple[str, ...], dict[str, str] | None]] = {
        "local": (("slots=cpu:2",), None),
        "by hand": (("cluster=by_hand",), None),
    }
    if ray_cluster.available():
        there["ray"] = ("cluster=ray", "cluster.cpus=1"), lab.ray(2)
    if slurm_node.available():
        there["slurm"] = ("cluster=slurm", "cluster.workers=2", "cluster.cpus=1"), lab.slurm()
    for runs, repeats in ((1, 3), (20, 2), (200, 1)):

        def case(words: tuple[str, ...], environ: dict[str, str] | None, runs: int = runs) -> Case:
            return lambda: lab.sweep(runs, (*TINY, *words), environ)

        cases = {f"{name}, {runs} runs": case(words, environ) for name, (words, environ) in there.items()}
        yield from in_turns(cases, repeats).items()


def nodes(lab: Lab) -> Iterator[tuple[str, list[float]]]:
    """Yield the seconds of a sweep of eight runs on one and on two Ray nodes of a core each."""
    words = (*LONGER, "cluster=ray", "cluster.cpus=1")
    environs = {f"{count} node(s)": lab.ray(count) for count in (1, 2)}

    def case(environ: dict[str, str]) -> Case:
        return lambda: lab.sweep(8, words, environ)

    yield from in_turns({name: case(environ) for name, environ in environs.items()}, 3).items()


def processes(lab: Lab) -> Iterator[tuple[str, list[float]]]:
    """Yield the seconds and the images a second of a run with two threads, and of one with two processes."""
    speeds: dict[str, list[float]] = {}

    def case(name: str, count: int) -> Case:
        def make() -> float:
            outputs = lab.folder / f"outputs{lab.made}"
            lab.made += 1
            words = (*ONE_RUN, "device.threads=2", f"device.processes={count}", f"outputs={outputs}")
            seconds = command("train", *words)
            (run,) = find_runs(outputs)
            speeds.setdefault(f"{name}: images/s", []).append(run.info["result"]["images_per_second"])
            return seconds

        return make

    cases = {"one process, two threads": 1, "two processes, one thread each": 2}
    yield from in_turns({name: case(name, count) for name, count in cases.items()}, 5).items()
    yield from speeds.items()


def in_turns(cases: dict[str, Case], repeats: int) -> dict[str, list[float]]:
    """Make every case once, then each again, and so on; return what each took."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, case in cases.items():
            found[name].append(case())
    return found


def main(words: list[str]) -> int:
    """Print a line for every case of one measurement."""
    measurements = {"engines": engines, "nodes": nodes, "processes": processes}
    if len(words) != 1 or words[0] not in measurements:
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for name, values in measurements[words[0]](Lab(Path(folder), stack)):
            print(f"{name:42} {statistics.median(values):8.1f} ({min(values):.1f} to {max(values):.1f})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
