"""The checks: each takes a `Bench`, returns what it found, and raises `Failed`."""

import signal
import time
from typing import Any

import numpy as np

from gpu.commands import REPOSITORY, SMALL, Bench, Failed, config_of, finish, info_of, logits_of, same_bits

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
    """Networks of each kind train."""
    names = ["custom", "mlp"] if bench.quick else ["custom", "conv3_wide", "lenet_like", "vgg_like", "mlp", "resnet18"]
    bench.sweep("networks", "model=" + ",".join(names), "data.size=32")
    return {"networks": names}


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
    rows, stop_at = bench.work / "outputs" / "resumed", 6
    with bench.start("train", *words, "study.name=resumed") as process:
        while process.poll() is None and time.monotonic() < bench.deadline:
            if any(len(path.read_bytes().splitlines()) >= stop_at for path in rows.glob("*/metrics.jsonl")):
                process.send_signal(signal.SIGTERM)
                break
            time.sleep(0.02)
        finish(process, bench.deadline)
    if process.returncode != 75:
        raise Failed(f"SIGTERM: exit code {process.returncode}, expected 75")
    bench.cnnexp("train", *words, "study.name=resumed")
    same_bits(*bench.runs("undisturbed"), *bench.runs("resumed"))
    return {"interrupted after rows": stop_at}


def several_gpus(bench: Bench) -> dict[str, Any]:
    """Two processes, each on a GPU of its own, give the logits of one, and the same bits again. Needs two GPUs."""
    import torch

    if bench.cuda and torch.cuda.device_count() < 2:
        return {"status": "not run: one GPU"}
    # Four steps: later a ReLU or a maximum that rounding decides otherwise makes networks differ, however they train.
    words = ["model.norm=batch", "+aug=full", "optimizer=momentum", "device.precision=fp32", "epochs=4st"]
    words += ["device.deterministic=true"] * bench.cuda
    (one,) = bench.train("one-process", *words)
    (two,) = bench.train("two-processes", *words, "device.processes=2")
    (again,) = bench.train("two-again", *words, "device.processes=2")
    same_bits(two, again)
    difference = float(np.abs(logits_of(one) - logits_of(two)).max())
    if difference > 1e-3:
        raise Failed(f"largest difference of a logit: {difference:.3g}")
    bench.train("two-local", *words, "device.processes=2", "device.sync_bn=false")
    return {"largest difference of a logit": difference}


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
    """`cnnexp evaluate` on the device computes the recorded test accuracy, with deterministic kernels."""
    (run,) = bench.train("evaluated", "model.norm=batch", "seed=5", "device.deterministic=true")
    bench.cnnexp("evaluate", str(run.relative_to(bench.work)))
    return {"test accuracy": info_of(run)["result"]["test_accuracy"]}


def exported(bench: Bench) -> dict[str, Any]:
    """An exported program, moved to the device, gives the recorded logits of the test images."""
    import torch
    from torch.export.passes import move_to_device_pass

    from cnnexp.training import build
    from cnnexp.training.device import resolve, set_up

    (run,) = bench.train("exported", "model.norm=batch", "device.precision=fp32")
    bench.cnnexp("export", str(run.relative_to(bench.work)), "--to", "pt2", "--out", "exported")
    program = move_to_device_pass(torch.export.load(bench.work / "exported" / "model.pt2"), bench.device)
    set_up(resolve(config_of(run)["device"]))  # by default torch computes convolutions in TF32
    test = build.build_data(config_of(run)).test
    with torch.no_grad():
        logits = program.module()(torch.from_numpy(test.images[test.indices]).to(bench.device)).cpu().numpy()
    difference = float(np.abs(logits - logits_of(run)).max())
    if difference > 1e-2:
        raise Failed(f"largest difference of a logit: {difference:.3g}")
    return {"largest difference of a logit": difference}
