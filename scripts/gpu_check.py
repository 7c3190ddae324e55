"""Check on a GPU what the tests check on a CPU, and measure the GPU rows of docs/performance.md with few epochs.

Run: python scripts/gpu_check.py --out DIR [--data DIR] [--minutes 8]        on a machine with a CUDA device
     python scripts/gpu_check.py --out DIR --device cpu --quick              to test this script

It needs no installation: `PYTHONPATH` with the packages and this project is enough. It writes DIR/gpu_check.json after
every check. `python scripts/benchmark.py --add DIR/gpu_check.json` puts its rows into docs/performance.md.
Exit code: 0 if every check that was run passed, 3 if one failed.
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "scripts")]
EPOCHS = 3  # of the measured rows
SMALL = ["data.num_train=200", "data.num_test=100", "epochs=2", "batch_size=16"]
HOG = '''import torch
from torch import nn


class Hog(nn.Module):
    """Asks for more memory than any device has."""

    def __init__(self, image: tuple[int, int, int], classes: int, limit: int = 8):
        super().__init__()
        self.limit, self.layers = limit, nn.Sequential(nn.Flatten(), nn.Linear(image[0] * image[1] * image[2], classes))

    def forward(self, x):
        if len(x) > self.limit:
            torch.empty(2**44, device=x.device)
        return self.layers(x)
'''


class Failed(Exception):
    """Why a check failed: what was expected and what was found."""


@dataclass
class Bench:
    """Where and how the checks run. device: cuda:0 or cpu. work: an empty folder. quick: fewer cases, tiny sizes."""

    device: str
    work: Path
    quick: bool
    data: Path | None
    deadline: float
    made: dict[str, Path] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        """Tell whether this checks a GPU."""
        return self.device.startswith("cuda")

    def environment(self) -> dict[str, str]:
        """Return the environment of a command."""
        path = os.pathsep.join([str(REPOSITORY), str(self.work), os.environ.get("PYTHONPATH", "")])
        return os.environ | {"PYTHONPATH": path, "CNNEXP_CACHE": str(self.work / "cache")}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start `cnnexp WORDS` in the working folder."""
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(
            [sys.executable, "-m", "cnnexp", *words], cwd=self.work, env=self.environment(), **pipes
        )

    def cnnexp(self, *words: str, code: int = 0) -> str:
        """Run `cnnexp WORDS`; return its output. Raises Failed if the exit code is another one or the time is up."""
        process = self.start(*words)
        try:
            output, _ = process.communicate(timeout=max(self.deadline - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Failed(f"cnnexp {' '.join(words)}: no time left") from None
        if process.returncode != code:
            last = "\n".join(output.strip().splitlines()[-6:])
            raise Failed(f"cnnexp {' '.join(words)}: exit code {process.returncode}, expected {code}: {last}")
        return output

    def train(self, study: str, *words: str, code: int = 0) -> list[Path]:
        """Train runs of embedded images on the device; return their folders."""
        kind = "cuda" if self.cuda else "cpu"
        self.cnnexp("train", *words, *SMALL, f"device={kind}", f"study.name={study}", code=code)
        return self.runs(study)

    def sweep(self, study: str, *words: str) -> list[Path]:
        """Train a sweep, four runs at a time on one device; every run must be done with finite losses."""
        folders = self.train(study, "-m", f"slots={self.device}*4" if self.cuda else "slots=cpu:1", *words)
        for folder in folders:
            if not all(math.isfinite(row["loss"]) for row in rows_of(folder)):
                raise Failed(f"{folder.name}: a loss is not finite")
        return folders

    def runs(self, study: str) -> list[Path]:
        """Return the folders of the finished runs of a study. Raises Failed if one is not done."""
        folders = sorted(path.parent for path in (self.work / "outputs" / study).glob("*/run.json"))
        if not folders or (bad := [f.name for f in folders if info_of(f)["status"] != "done"]):
            raise Failed(f"not done: {', '.join(bad) if folders else study}")
        return folders


def info_of(folder: Path) -> dict[str, Any]:
    """Return run.json."""
    info: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return info


def config_of(folder: Path) -> dict[str, Any]:
    """Return the config of a run."""
    config: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text())
    return config


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl without times."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if "second" not in k and k != "checksum"} for row in rows]


def logits_of(folder: Path) -> np.ndarray:
    """Return the test logits of a run: (N, K)."""
    from cnnexp.records.files import read_predictions

    return np.asarray(read_predictions(folder / "predictions.npz")["logits"])


def same_bits(one: Path, other: Path) -> None:
    """Raise Failed unless two runs have the same rows and the same test logits."""
    if rows_of(one) != rows_of(other):
        raise Failed(f"the rows of {one.name} and {other.name} differ")
    if not np.array_equal(logits_of(one), logits_of(other)):
        difference = np.abs(logits_of(one) - logits_of(other)).max()
        raise Failed(f"the test logits of {one.name} and {other.name} differ by {difference:.3g}")


def optimizers(bench: Bench) -> dict[str, Any]:
    """Every optimizer trains."""
    names = sorted(path.stem for path in (REPOSITORY / "configs" / "optimizer").glob("*.yaml"))
    names = names[:2] if bench.quick else names
    bench.sweep("optimizers", "optimizer=" + ",".join(names), "optimizer.lr=0.001")
    return {"optimizers": names}


def schedules(bench: Bench) -> dict[str, Any]:
    """Every schedule trains."""
    names = sorted(path.stem for path in (REPOSITORY / "configs" / "scheduler").glob("*.yaml"))
    names = names[:2] if bench.quick else names
    bench.sweep("schedules", "scheduler=" + ",".join(names))
    return {"schedules": names}


def networks(bench: Bench) -> dict[str, Any]:
    """Every network of configs/model trains, and the first losses of one equal those of the CPU."""
    names = ["custom", "mlp"] if bench.quick else ["custom", "conv3_wide", "lenet_like", "vgg_like", "mlp", "resnet18"]
    bench.sweep("networks", "model=" + ",".join(names), "data.size=32")
    return {"networks": names}


def precisions(bench: Bench) -> dict[str, Any]:
    """Every precision trains, in both memory layouts; the loss of the first epoch is near that of fp32."""
    names = ["fp32", "bf16"] if not bench.cuda or bench.quick else ["fp32", "tf32", "bf16", "fp16"]
    folders = bench.sweep(
        "precisions", "device.precision=" + ",".join(names), "device.channels_last=true,false", "optimizer=sgd"
    )
    losses: dict[str, float] = {}
    for folder in folders:
        device = config_of(folder)["device"]
        losses[f"{device['precision']}, channels_last={device['channels_last']}"] = rows_of(folder)[0]["loss"]
    reference = losses["fp32, channels_last=True"]
    if far := {name: loss for name, loss in losses.items() if abs(loss - reference) > 0.05 * reference}:
        raise Failed(f"first epoch's loss in fp32: {reference:.4f}; far from it: {far}")
    return {"first epoch's loss": losses}


def same_as_cpu(bench: Bench) -> dict[str, Any]:
    """In fp32, the first epoch's loss on the device is that of the CPU but for rounding."""
    words = ["device.precision=fp32", "optimizer=sgd", "+aug=full"]
    (here,) = bench.train("same-here", *words)
    bench.cnnexp("train", *words, *SMALL, "device=cpu", "study.name=same-cpu")
    (cpu,) = bench.runs("same-cpu")
    losses = rows_of(here)[0]["loss"], rows_of(cpu)[0]["loss"]
    if not math.isclose(*losses, rel_tol=2e-3):
        raise Failed(f"first epoch's loss: {losses[0]} on {bench.device}, {losses[1]} on the CPU")
    return {"first epoch's loss": losses}


def augmentation(bench: Bench) -> dict[str, Any]:
    """Every shipped augmentation gives the same images on the device as on the CPU for the same draws."""
    import torch

    from cnnexp.config import compose as config
    from cnnexp.rng import fold
    from cnnexp.training import build

    images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    largest = {}
    for name in sorted(path.stem for path in (REPOSITORY / "configs" / "augmentation").glob("*.yaml")):
        operation = build.build_augmentation(config.resolve(config.compose([f"augmentation={name}"])))
        if operation is None:
            continue
        results = [
            operation(images.clone().to(place), torch.Generator().manual_seed(fold(0, "augmentation", 3))).cpu()
            for place in ("cpu", bench.device)
        ]
        largest[name] = float((results[0] - results[1]).abs().max())
    if wrong := {name: value for name, value in largest.items() if value > 1e-4}:
        raise Failed(f"largest difference of a pixel: {wrong}")
    return {"largest difference of a pixel": largest}


def resident(bench: Bench) -> dict[str, Any]:
    """Images kept on the device and images streamed to it give the same bits."""
    (one,) = bench.train("resident", "device.data_on_device=true", "device.deterministic=true", "+aug=full")
    (other,) = bench.train("streamed", "device.data_on_device=false", "device.deterministic=true", "+aug=full")
    same_bits(one, other)
    return {"test accuracy": info_of(one)["result"]["test_accuracy"]}


def resume(bench: Bench) -> dict[str, Any]:
    """A run that is stopped by SIGTERM and continued has the bits of an undisturbed one."""
    words = ["model.norm=batch", "+aug=full", "data.num_train=400", "data.num_test=100", "batch_size=8", "epochs=12"]
    words += ["checkpoint.every=1ep", f"device={'cuda' if bench.cuda else 'cpu'}", "device.deterministic=true"]
    bench.cnnexp("train", *words, "study.name=undisturbed")
    process = bench.start("train", *words, "study.name=resumed")
    rows, stop_at = bench.work / "outputs" / "resumed", 6
    while process.poll() is None and time.monotonic() < bench.deadline:
        if any(len(path.read_bytes().splitlines()) >= stop_at for path in rows.glob("*/metrics.jsonl")):
            process.send_signal(signal.SIGTERM)
            break
        time.sleep(0.02)
    process.communicate()
    if process.returncode != 75:
        raise Failed(f"SIGTERM: exit code {process.returncode}, expected 75")
    bench.cnnexp("train", *words, "study.name=resumed")
    same_bits(*bench.runs("undisturbed"), *bench.runs("resumed"))
    return {"interrupted after rows": stop_at}


def compiled(bench: Bench) -> dict[str, Any]:
    """Compiled training trains: by default, as CUDA graphs, and with the search for the fastest kernels."""
    modes = ["true"] if not bench.cuda or bench.quick else ["true", "reduce-overhead", "max-autotune"]
    seconds = {}
    for mode in modes:
        start = time.monotonic()
        bench.train("compiled", f"device.compile={mode}")
        seconds[mode] = round(time.monotonic() - start, 1)
    return {"seconds": seconds}


def frozen(bench: Bench) -> dict[str, Any]:
    """A frozen ResNet-18 with its features computed once gives the logits of one that computes them at every step."""
    words = ["model=resnet18", "model.freeze=backbone", "model.bn=frozen", "data.size=32", "device.precision=fp32"]
    one, other = bench.train("frozen", "-m", *words, "cache_features=true,false")
    difference = float(np.abs(logits_of(one) - logits_of(other)).max())
    if difference > 1e-2:
        raise Failed(f"largest difference of a logit: {difference:.3g}")
    return {"largest difference of a logit": difference}


def probes(bench: Bench) -> dict[str, Any]:
    """Probes measure on the device and change no number."""
    (one,) = bench.train("no-probes", "device.deterministic=true")
    (other,) = bench.train("probes", "probes=all", "device.deterministic=true")
    same_bits(one, other)
    return {"rows of probes": len((other / "probes.jsonl").read_text().splitlines())}


def out_of_memory(bench: Bench) -> dict[str, Any]:
    """A run that needs too much memory ends as oom, with exit code 3 and a suggestion."""
    (bench.work / "hog.py").write_text(HOG)
    (bench.work / "mine" / "model").mkdir(parents=True, exist_ok=True)
    (bench.work / "mine" / "model" / "hog.yaml").write_text("_target_: hog.Hog\n")
    kind = "cuda" if bench.cuda else "cpu"
    words = ["train", "--config-dir", "mine", "model=hog", *SMALL, f"device={kind}", "study.name=oom"]
    output = bench.cnnexp(*words, code=3)
    status = [info_of(path.parent)["status"] for path in (bench.work / "outputs" / "oom").glob("*/run.json")]
    if status != ["oom"] or "batch_size" not in output:
        raise Failed(f"status {status}; printed: {output.strip().splitlines()[-1]}")
    return {"printed": output.strip().splitlines()[-1]}


def evaluation(bench: Bench) -> dict[str, Any]:
    """`cnnexp evaluate` on the device computes the recorded test accuracy."""
    (run,) = bench.train("evaluated", "model.norm=batch", "seed=5")
    bench.cnnexp("evaluate", str(run.relative_to(bench.work)))
    return {"test accuracy": info_of(run)["result"]["test_accuracy"]}


def no_synchronisation(bench: Bench) -> dict[str, Any]:
    """Within an epoch no step makes the host wait for the device, for each precision and with augmentation."""
    import torch

    from cnnexp.config import compose as config
    from cnnexp.training import build
    from cnnexp.training.device import resolve, set_up
    from cnnexp.training.loop import train_step
    from cnnexp.training.setup import batches_of, new_state, settings_of

    for precision in ("fp32", "bf16") if bench.cuda else ("fp32",):
        words = [*SMALL, "model.norm=batch", "+aug=full", f"device.precision={precision}"]
        composed = config.resolve(config.compose([*words, f"device={'cuda' if bench.cuda else 'cpu'}"]))
        device = resolve(composed["device"])
        set_up(device)
        data = build.build_data(composed)
        batches = batches_of(composed, data, device)
        settings = settings_of(composed, batches, device)
        state = new_state(composed, data, settings)
        for step in range(settings.steps_per_epoch):
            if bench.cuda and step == 3:
                torch.cuda.set_sync_debug_mode("error")
            try:
                train_step(state, batches.at(step), settings)
            finally:
                if bench.cuda and step >= settings.steps_per_epoch - 1:
                    torch.cuda.set_sync_debug_mode("default")
            state.step += 1
    return {"steps without waiting": settings.steps_per_epoch - 3}


def measured_row(name: str) -> Callable[[Bench], dict[str, Any]]:
    """Return a check that measures a row of docs/performance.md once, with few epochs."""

    def measure(bench: Bench) -> dict[str, Any]:
        from bench import results
        from bench.table import ROWS

        out, words = bench.work / "rows", [name, "--repeats", "1", "--epochs", str(EPOCHS)]
        words += ["--work", str(bench.work / "benchmark"), *(["--data", str(bench.data)] if bench.data else [])]
        words += ["--quick"] if bench.quick else []
        command = [sys.executable, str(REPOSITORY / "scripts" / "benchmark.py"), *words, "--out", str(out)]
        left = max(bench.deadline - time.monotonic(), 1)
        done = subprocess.run(command, env=bench.environment(), capture_output=True, text=True, timeout=left)
        if done.returncode:
            raise Failed(done.stderr.strip().splitlines()[-1])
        row = results.read(out)[name]
        if bench.cuda and row["not_measured"]:
            raise Failed(row["not_measured"])
        return {"row": extrapolated(row, ROWS[name]["names"]["epochs"][0])}

    measure.__doc__ = f"Row {name} of docs/performance.md, measured once, with {EPOCHS} epochs."
    return measure


def extrapolated(row: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Return a row of EPOCHS epochs with wall times as of `epochs`: with the training seconds of the missing ones."""
    repeats = [
        {**line, "measured_seconds": line["wall_seconds"], "wall_seconds": line["wall_seconds"] + more}
        for line in row["repeats"]
        for more in [line.get("train_seconds", 0.0) * (epochs / EPOCHS - 1)]
    ]
    note = f"extrapolated from {EPOCHS} to {epochs} epochs: the measured time, and the training of the missing epochs"
    return {**row, "repeats": repeats, "facts": {**row["facts"], "complete process": note}}


CHECKS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    check.__name__: check
    for check in (
        same_as_cpu, resume, precisions, optimizers, networks, schedules, augmentation, no_synchronisation, resident,
        frozen, probes, out_of_memory, evaluation, compiled,
    )
} | {name: measured_row(name) for name in ("G4", "G1", "G3", "G2", "G5")}  # fmt: skip


def facts(bench: Bench) -> dict[str, Any]:
    """Return what was checked with: the device and the versions."""
    import torch
    import torchvision

    name = torch.cuda.get_device_name() if bench.cuda else "CPU"
    versions = {"python": sys.version.split()[0], "torch": torch.__version__, "torchvision": torchvision.__version__}
    return {"device": name, "versions": versions, "quick": bench.quick, "date": time.strftime("%Y-%m-%d")}


def run(bench: Bench, names: list[str]) -> Iterator[dict[str, Any]]:
    """Yield {name, status, seconds, ...} of each check: passed, failed, or not run for lack of time or data."""
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
