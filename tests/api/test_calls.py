"""`cnnexp.train`, `sweep`, `report` and `Run` in a program's own process."""

import importlib
import inspect
import io
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, chdir, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import untimed
from fake_records import write_run
from image_folders import tree
from tiny import DIVERGE, TINY

import cnnexp
from cnnexp import cli
from cnnexp.errors import Diverged, Incomplete, Interrupted, UserError
from cnnexp.records.run_record import RunRecord
from cnnexp.training import progress

pytestmark = pytest.mark.integration

FUNCTIONS = ("load", "report", "runs", "sweep", "train")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Let SIGINT be Ctrl-C: a shell's background jobs, and what they start, ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def own(outputs: Path) -> Callable[..., cnnexp.Run]:
    """Return a function that makes the tiny run in Python."""
    return lambda *more, **settings: cnnexp.train(*TINY, *more, outputs=outputs, **settings)


def state() -> dict[str, Any]:
    """Return what a call must leave as it is."""
    return {
        "folder": Path.cwd(),
        "environment": dict(os.environ),
        "path": list(sys.path),
        "signals": [signal.getsignal(number) for number in SIGNALS],
        "warnings": (list(warnings.filters), warnings.showwarning),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "random": (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()),  # type: ignore[index]
        "streams": (sys.stdout, sys.stderr),
    }


def test_importing_is_light_and_lists_what_there_is() -> None:
    code = (
        "import sys, cnnexp; names = dir(cnnexp); "
        "sys.exit(any(n in sys.modules for n in ('torch', 'numpy', 'hydra', 'pandas')) or "
        f"not {{*{FUNCTIONS}, 'Run', 'Study', '__version__'}} <= set(names))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("first", ["", "cnnexp.train", "cnnexp.report", "cnnexp.sweep.study"])
def test_functions_are_documented_however_they_are_imported(name: str, first: str) -> None:
    if first:
        __import__(first)
    function = getattr(cnnexp, name)
    assert callable(function) and "Raises" in inspect.getdoc(function)  # type: ignore[operator]
    assert inspect.signature(function).parameters


def test_the_same_run_as_the_command_makes(
    own: Callable[..., cnnexp.Run], train: Callable[..., int], only: Callable[[], RunRecord], tmp_path: Path
) -> None:
    assert train("outputs=" + str(tmp_path / "typed"), "seed=3", "optimizer.lr=0.01") == 0
    made = own(seed=3, optimizer={"lr": 0.01})
    (typed,) = cnnexp.Study(tmp_path / "typed" / "runs")
    assert made.folder.name == typed.folder.name and untimed(made.record) == untimed(typed.record)
    before = made.record.info["finished"]
    assert own("seed=3", "optimizer.lr=0.01").folder == made.folder and made.record.info["finished"] == before
    assert only().info["command"].startswith("cnnexp train data=postcards")


def test_what_a_run_shows(own: Callable[..., cnnexp.Run]) -> None:
    run = own()
    assert run.status == "done" and run.config["epochs"] == "3ep"
    history = run.history
    assert list(zip(history["epoch"], history["split"], strict=True)) == [
        (epoch, split) for epoch in (1, 2, 3) for split in ("train", "val")
    ]
    best = history[(history["split"] == "val") & (history["epoch"] == run.result["best_epoch"])]
    assert best["accuracy"].item() == run.result["val_accuracy"]
    assert f"test accuracy {run.result['test_accuracy']:.2%}" in repr(run) and str(run.folder) in run._repr_html_()
    for kind in ("curves", "confusion"):
        assert run.figure(kind)._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="figure: unknown kind 'curve'; choose one of curves, confusion"):
        run.figure("curve")
    assert run.load().predict(np.zeros((1, 8, 8, 3), np.uint8)).shape == (1, 10)


def test_a_run_without_an_epoch_has_no_figure(tmp_path: Path) -> None:
    run = cnnexp.Run(write_run(tmp_path, "baseline", 0, status="interrupted").folder)
    (run.folder / "metrics.jsonl").unlink(missing_ok=True)
    assert run.history.empty
    for kind in ("curves", "confusion"):
        with pytest.raises(UserError, match=r"has no .* to draw \(the run is interrupted\)"):
            run.figure(kind)


def test_the_process_is_left_as_it_was(own: Callable[..., cnnexp.Run], monkeypatch: pytest.MonkeyPatch) -> None:
    cnnexp.report(own(epochs=1).folder)  # imports all libraries
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    torch.manual_seed(1)
    before, threads = state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run = own(device={"threads": 1}, augmentation="full", seed=1)
        assert torch.get_num_threads() == 2
        run.figure()
        run.figure("confusion")
        cnnexp.report(run.folder)
    finally:
        torch.set_num_threads(threads)
    after = state()
    for name in before:
        assert after[name] == before[name], name


@contextmanager
def chosen(setter: Callable[[Any], None], value: Any, default: Any) -> Iterator[None]:
    setter(value)
    try:
        yield
    finally:
        setter(default)


CHOICES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "device": lambda: torch.device("meta"),
    "dtype": lambda: chosen(torch.set_default_dtype, torch.float64, torch.float32),
    "precision": lambda: chosen(torch.set_float32_matmul_precision, "medium", "highest"),
}


def test_what_a_program_has_chosen_in_torch_changes_no_number(outputs: Path) -> None:
    plain = untimed(cnnexp.train(*TINY, outputs=outputs).record)
    for name, choice in CHOICES.items():
        with choice():
            before = _choices()
            run = cnnexp.train(*TINY, outputs=outputs / name)
            assert _choices() == before, name
        assert untimed(run.record) == plain, name


def _choices() -> tuple[Any, ...]:
    modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
    return *modes, torch.get_default_dtype(), torch.get_default_device(), torch.get_float32_matmul_precision()


def test_in_a_thread(own: Callable[..., cnnexp.Run]) -> None:
    made: list[cnnexp.Run] = []
    threads = [threading.Thread(target=lambda seed=seed: made.append(own(seed=seed))) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [run.status for run in made] == ["done", "done"]
    alone = own(seed=1, study={"name": "alone"})
    assert untimed(alone.record) == untimed(next(run.record for run in made if run.config["seed"] == 1))


@pytest.mark.parametrize(("times", "becomes"), [(1, None), (2, KeyboardInterrupt), (2, RuntimeError)])
def test_an_interrupted_run_goes_on(
    own: Callable[..., cnnexp.Run], only: Callable[[], RunRecord], monkeypatch: pytest.MonkeyPatch, times: int,
    becomes: type[BaseException] | None,
) -> None:  # fmt: skip
    class Stops(progress.Progress):
        def epoch(self, line: str, state: Any) -> None:
            try:
                for _ in range(times if state.step == 10 else 0):
                    os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt as error:
                assert becomes is not None
                raise becomes("as torch's code for files turns it") from error

    before = [signal.getsignal(number) for number in SIGNALS]
    monkeypatch.setattr(progress, "for_terminal", Stops)
    with pytest.raises(KeyboardInterrupt):
        own("checkpoint.every=1ep")
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert only().status == "interrupted" and only().resumes
    monkeypatch.undo()
    again = own("checkpoint.every=1ep")
    assert again.status == "done" and again.record.info["resumed"] == 1
    uncut = own("checkpoint.every=1ep", study={"name": "uncut"})
    assert untimed(again.record) == untimed(uncut.record)


def test_a_programs_own_handler_gets_the_signal(
    own: Callable[..., cnnexp.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stops(progress.Progress):
        def epoch(self, line: str, state: Any) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    received: list[int] = []
    monkeypatch.setattr(progress, "for_terminal", Stops)
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with pytest.raises(cnnexp.errors.Interrupted):
            own()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]


def test_failures_are_exceptions(own: Callable[..., cnnexp.Run]) -> None:
    for message in ("is not finite", "diverged before: .*; to repeat it, delete"):
        with pytest.raises(Diverged, match=message):
            own(*DIVERGE)
    for words, message in (
        (["optimizer.lrr=1"], r"optimizer.lrr: no such key \(did you mean 'optimizer.lr'\?\)"),
        (["optimizer.lr=abc"], "optimizer.lr: given 'abc'; allowed: a number > 0"),
        (["-m", "seed=0,1"], "asks for several runs; use cnnexp.sweep"),
        (["--cfg=job"], "--cfg=job: belongs to the command"),
        (["model._target_=__main__.Net"], "is in a notebook or script, which no record can name; move it to a file"),
    ):
        with pytest.raises(UserError, match=message) as raised:
            own(*words)
        assert raised.value._render_traceback_() == [f"cnnexp: {raised.value}"]


@pytest.mark.parametrize("call", [cnnexp.train, cnnexp.sweep])
def test_a_search_is_refused_with_the_command_to_type(call: Callable[..., Any], outputs: Path) -> None:
    words = [*TINY, f"outputs={outputs}", "+search=tpe", "search.space={optimizer.lr:[0.1,0.2]}"]
    with pytest.raises(UserError, match=r"^\+search=tpe: is made by the command; type: cnnexp train ") as raised:
        call(*words)
    assert shlex.split(str(raised.value).partition("type: ")[2]) == ["cnnexp", "train", *words]
    assert not outputs.exists()


@pytest.mark.parametrize(
    "space", [{"search.space": {"optimizer.lr": {"low": 0.1, "high": 0.2}}},
              {"search": {"space": {"optimizer.lr": {"low": 0.1, "high": 0.2}}}}]
)  # fmt: skip
def test_a_search_with_a_dict_as_its_space(space: dict[str, Any], outputs: Path) -> None:
    with pytest.raises(UserError, match=r"^\+search=tpe: is made by the command; type: ") as raised:
        cnnexp.train(*TINY, space, search="tpe", outputs=outputs)
    typed = shlex.split(str(raised.value).partition("type: ")[2])
    assert "search.space={optimizer.lr:{low:0.1,high:0.2}}" in typed


def test_a_part_that_was_edited_after_its_import(
    own: Callable[..., cnnexp.Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "edited_part.py"
    module.write_text("def same(images, generator):\n    return images\n")
    (tmp_path / "mine" / "augmentation").mkdir(parents=True)
    (tmp_path / "mine" / "augmentation" / "same.yaml").write_text("_target_: edited_part.same\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    chosen = {"augmentation": "same", "config_dir": tmp_path / "mine", "epochs": 1}
    own(**chosen)
    module.write_text("def same(images, generator):\n    return images.flip(-1)\n")
    with pytest.raises(UserError, match=r"edited_part: has changed since it was imported here; importlib\.reload"):
        own(**chosen)
    importlib.reload(sys.modules["edited_part"])
    assert own(**chosen).status == "done"


def test_an_own_part_has_only_the_settings_that_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "open_part.py").write_text(
        "from torch import nn\n\ndef build(classes, **more):\n    assert more == {'width': 4}\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(192, classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = [word for word in TINY if not word.startswith("model.")]
    node = {"_target_": "open_part.build", "width": 4}
    assert cnnexp.train(*words, model=node, outputs=tmp_path / "own").config["model"] == node


def test_files_that_changed_between_two_calls_are_read_again(tmp_path: Path, outputs: Path) -> None:
    photos = tree(tmp_path / "photos", count=8)
    call = {"data": "folder", "data.root": photos, "data.size": 8, "batch_size": 2, "epochs": "1st", "device": "cpu"}
    first = cnnexp.train(call, outputs=outputs)
    next(photos.rglob("*.*")).unlink()
    second = cnnexp.train(call, outputs=outputs)
    assert first.record.info["data"]["fingerprint"] != second.record.info["data"]["fingerprint"]


def test_runs_and_studies_are_found_after_the_program_goes_elsewhere(tmp_path: Path) -> None:
    write_run(tmp_path / "outputs", "baseline", 0)
    (tmp_path / "elsewhere").mkdir()
    with chdir(tmp_path):
        study = cnnexp.Study("outputs/demo")
        (run,) = study
        assert (run.folder.parent, study.folder) == (Path("outputs/demo"),) * 2, "short while it is true"
    with chdir(tmp_path / "elsewhere"):
        assert run.status == "done" and len(study) == 1 and study.report().index.exists()
        assert run.folder.parent == study.folder == tmp_path / "outputs/demo" and str(tmp_path) in repr(study)


def test_the_page_of_a_call_names_the_command_that_makes_it(tmp_path: Path) -> None:
    for arm in ("baseline", "dropout"):
        write_run(tmp_path / "outputs", arm, 0)
    study, out = tmp_path / "outputs/demo", tmp_path / "my page"
    page = cnnexp.report(study, out=out, baseline="dropout", figures=False).index.read_text()
    assert f"cnnexp report {study} --out &#39;{out}&#39; --baseline dropout --no-figures" in page
    assert "--no-figures" not in cnnexp.report(study, baseline="dropout").index.read_text()


@pytest.mark.slow
def test_a_sweep_from_a_script_without_a_guard(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "import multiprocessing.forkserver as f, sys, cnnexp\n"
        f"study = cnnexp.sweep(*{TINY!r}, optimizer={{'lr': [0.001, 0.01]}}, seed=range(2), outputs='out',\n"
        "                     study={'name': 'norm'}, slots='cpu:2')\n"
        "print('made', len(study), list(study.table['status']), study.report('optimizer.lr=0.001').index)\n"
        "assert f._forkserver._forkserver_pid is None\n"
        "again = cnnexp.sweep(*sys.argv[1:], study={'name': 'norm'}, outputs='out', check=False)\n"
    )
    done = subprocess.run([sys.executable, script, *TINY, "seed=0,1"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "made 4 ['done', 'done', 'done', 'done'] out/norm/report/index.html" in done.stdout
    assert done.stdout.count("made 4") == 1, "the script ran once"


@pytest.mark.slow
def test_a_sweep_with_a_run_that_fails(outputs: Path) -> None:
    diverges = ["scheduler=step", "scheduler.every=1ep", "scheduler.gamma=1e30", "optimizer=sgd", "model.norm=none"]
    with pytest.raises(Incomplete, match=r"runs failed, diverged or are left \(Study: 1 diverged") as raised:
        cnnexp.sweep(*TINY, *diverges, outputs=outputs, seed=[0])
    assert [run.status for run in raised.value.study] == ["diverged"]  # type: ignore[attr-defined]
    assert len(cnnexp.sweep(*TINY, *diverges, outputs=outputs, seed=[0], check=False)) == 1


def test_a_missing_run() -> None:
    for call in (cnnexp.Run, cnnexp.Study, cnnexp.load, cnnexp.runs):
        with pytest.raises(UserError, match="gone"):
            call("gone")
    assert cli.main(["runs", "gone"]) == 2


def test_a_sweep_whose_cluster_is_gone_is_incomplete(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> int:
        raise Interrupted(75)

    monkeypatch.setattr("cnnexp.sweep.launcher.launch", gone)
    write_run(outputs / "s", "a", 0)
    words = (*TINY, "seed=0,1", f"outputs={outputs}", "study.name=s")
    with pytest.raises(Incomplete, match="or are left"):
        cnnexp.sweep(*words)
    assert len(cnnexp.sweep(*words, check=False).runs) == 1
