"""A wrong request ends with exit code 2 and one line that names the key, what was given and what is allowed."""

import errno
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from cnnexp import cli
from cnnexp.config import compose
from cnnexp.errors import did_you_mean, is_out_of_memory, unknown

WRONG: dict[str, tuple[str, ...]] = {  # request: what its message must name
    "lr=1": ("lr", "type optimizer.lr=1"),
    "data.foo=1": ("data.foo", "data has _target_, cache"),
    "+augmentation=full": ("augmentation", "is chosen already; type augmentation=full, without the plus"),
    "model.norm=none,batch": ("model.norm", "'none,batch'", "to sweep over values, add -m"),
    "optimzer.lr=1": ("optimzer.lr", "did you mean 'optimizer.lr'"),
    "optimizer.lr=abc": ("optimizer.lr", "'abc'", "a number > 0"),
    "optimizer.lr=nan": ("optimizer.lr", "nan", "a number > 0"),
    "optimizer.betas=[0.9]": ("optimizer.betas", "[0.9]", "a list of 2 values"),
    "optimizer=sgd optimizer.nesterov=true": ("optimizer.nesterov", "true", "momentum > 0"),
    "+optimizer.lrr=1": ("optimizer.lrr", "lr, betas, eps, weight_decay", "did you mean 'lr'"),
    "~optimizer.lr": ("optimizer", "lr", "missing", "a number > 0"),
    "model=custm": ("model", "'custm'", "conv4_unpadded_norm, custom", "did you mean 'custom'"),
    "model.kernels=[99,5,3]": ("model.kernels.0", "99", "24x24"),
    "model.kernels=4": ("model.kernels:", "4", "odd"),
    "model.channels=[8,16]": ("model.kernels", "given 3 numbers for 2 layers", "one number, or a list of 2"),
    "model.channels=[8,0,16]": ("model.channels", "[8, 0, 16]", "a list of whole numbers >= 1"),
    "model.pool.kernle=2": ("model.pool.kernle", "did you mean 'model.pool.kernel'"),
    "model.norm={conv:batch}": ("model.norm.fc", "is missing"),
    "model.activation=rleu": ("model.activation", "rleu", "did you mean 'relu'"),
    "model._target_=nowhere.Net": ("model._target_", "nowhere.Net"),
    "data.val_fraction=1.5": ("data.val_fraction", "1.5", ">= 0 and < 1"),
    "data.size=4": ("data.size", "4", ">= 8 and <= 1024"),
    "augmentation.ops=[{flp:{p:1}}]": ("augmentation.ops", "flp", "did you mean 'flip'"),
    "epochs=0": ("epochs", "0", "at least 1"),
    "device.deterministic=1": ("device.deterministic", "given 1", "true or false"),
    "seed=true": ("seed", "given true", "a whole number"),
    "batch_size=null": ("batch_size", "given null", "a whole number >= 1"),
    "batch_size=0": ("batch_size", "0", ">= 1"),
    "loss.label_smoothing=1": ("loss.label_smoothing", "1", ">= 0 and < 1"),
    "seed=null": ("seed", "a whole number >= 0"),
    "checkpoint.every=0st": ("checkpoint.every", "0st", "auto or a duration"),
    "scheduler=step scheduler.every=0ep": ("scheduler.every", "0ep", "at least 1"),
    "device.kind=gpu": ("device.kind", "'gpu'", "cpu, cuda"),
    "study.nme=x": ("study.nme", "did you mean 'study.name'"),
    "+aug=fll": ("aug", "'fll'", "did you mean 'full'"),
    "+arm=batchnorm": ("+arm=batchnorm", "belongs to a study; add +study=NAME"),
    "arm=batchnorm": ("arm", "type +arm=... (with the plus)"),
    "study=ablation": ("study",),
    "+study=ablation +study=wide": ("+study", "ablation and wide", "one study"),
    "+study=ablation,wide": ("+study", "ablation,wide", "one study"),
    "+study=ablaton": ("study", "'ablaton'", "did you mean 'ablation'"),
    "+study=ablation +arm=batchnrm": ("arm", "'batchnrm'", "did you mean 'batchnorm'"),
    "+study=ablation study.seeds=[a]": ("study.seeds", "['a']", "a list of whole numbers"),
    "+study=ablation study.grid={seed:[1]}": ("study.grid", "one of them"),
    "+preset=smal": ("preset", "'smal'", "did you mean 'small'"),
    "foo": ("foo", "key=value"),
    "--plon": ("--plon", "did you mean '--plan'"),
    "--budget soon": ("--budget", "'soon'", "30m"),
    "-m optimzer.lr=1,2": ("optimzer.lr", "did you mean 'optimizer.lr'"),
    "-m optimizer.lr=0.1,abc": ("optimizer.lr", "'abc'", "a number > 0"),
    "-m model=custom,custm": ("model", "'custm'", "did you mean 'custom'"),
    "-m +optimizer.lrr=1,2": ("optimizer.lrr", "did you mean 'lr'"),
    "-m epochs=1,0": ("epochs", "0", "at least 1"),
    "+study=ablation model.nrm=batch": ("model.nrm", "did you mean 'model.norm'"),
    "-m slots=cpu:0": ("slots", "cpu:0", "cpu:<number of slots>"),
    "-m slots=[]": ("slots", "empty", "cpu:2"),
    "-m slots=[cpu,cuda:0]": ("slots", "one kind"),
    "-m slots=cuda:0 device=cpu": ("slots", "cuda:0", "device.kind=cpu"),
}

ASK_ALL = textwrap.dedent("""
    import contextlib, io, json, os, sys, time
    from cnnexp.cli import main

    for request in json.load(sys.stdin):
        if request.startswith("-m slots"):
            import torch  # which these need: its import is not counted
        out, err, start = io.StringIO(), io.StringIO(), time.process_time()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["train", *request.split()])
        print(json.dumps({
            "request": request, "code": code, "out": out.getvalue(), "err": err.getvalue(),
            "cpu_seconds": time.process_time() - start, "torch": "torch" in sys.modules, "left": os.listdir(),
        }))
""")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Ask for everything that is wrong, in one process that has not imported torch and an empty folder."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ASK_ALL],
        input=json.dumps(list(WRONG)),
        cwd=tmp_path_factory.mktemp("empty"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return {answer["request"]: answer for answer in map(json.loads, done.stdout.splitlines())}


@pytest.mark.integration
@pytest.mark.parametrize("request_", WRONG)
def test_a_wrong_request_is_reported_in_one_line(request_: str, answers: dict[str, dict[str, Any]]) -> None:
    answer = answers[request_]
    assert answer["code"] == 2
    assert answer["out"] == ""
    assert answer["err"].startswith("cnnexp: ") and answer["err"].count("\n") == 1
    assert [part for part in WRONG[request_] if part not in answer["err"]] == [], answer["err"]
    assert len(answer["err"]) < 400
    assert answer["left"] == [], "something was written"
    assert answer["cpu_seconds"] < 2, "CPU time, which other processes do not change"
    if not request_.startswith("-m slots"):  # slots are looked for when everything else has been checked
        assert not answer["torch"], "torch was imported before the request was checked"


@pytest.mark.integration
def test_a_wrong_request_is_reported_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cnnexp", "train", "optimizer.lr=abc"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "cnnexp: optimizer.lr: given 'abc'; allowed: a number > 0\n"


@pytest.mark.integration
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize(
    "more", [["device=cuda"], ["device=cuda", "-m", "seed=0,1"], ["device=auto", "-m", "slots=cuda:0"]]
)
def test_a_device_that_is_not_there(
    train: Callable[..., int], outputs: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    assert train(*more) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("cnnexp: device.kind: given 'cuda") and torch.__version__ in message
    assert message.endswith("have cpu")
    assert not outputs.exists()


@pytest.mark.integration
@pytest.mark.parametrize("batch_size", [41, 1000])
def test_a_batch_larger_than_the_data(
    train: Callable[..., int], capsys: pytest.CaptureFixture[str], batch_size: int
) -> None:
    assert train(f"batch_size={batch_size}") == 2
    error = capsys.readouterr().err
    assert f"batch_size: given {batch_size}; allowed: at most 40, the training images; try batch_size=8" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["slots=0"], "slots: given 0; allowed: auto, cpu:2, cuda:0, cuda:0*8, or a list of these"),
        (["-m", "hydra.sweeper.params=1"], "hydra.sweeper.params: cnnexp does not use this setting of Hydra's"),
        (["hydra.run.dir=there"], "outputs=DIR and study.name=NAME say where results go"),
        (["hydra/launcher=basic"], "hydra/launcher: cnnexp does not use this setting of Hydra's"),
        *(
            (["-m", word, "seed=0,1"], "slots=cpu:4 or slots=[cuda:0,cuda:1] makes several runs at a time")
            for word in (
                "hydra/launcher=basic",
                "hydra/launcher=submitit_local",
                "+hydra/launcher=joblib",
                "hydra.launcher.n_jobs=4",
                "hydra.launcher.partition=gpu",
            )
        ),
        *(
            (["-m", word, "seed=0,1"], "type values to try, such as -m optimizer.lr=0.1,0.01")
            for word in ("hydra/sweeper=optuna", "hydra/sweeper=basic", "hydra.sweeper.n_trials=20")
        ),
        (["-m", "+hydra/sweeper=optuna", "seed=0,1"], "hydra/sweeper: cnnexp does not use"),
        (["-m", "hydra.launcher._target_=x.Y"], "hydra.launcher._target_: cnnexp does not use"),
        (["study.name=[a"], "if it is a text, type \"study.name='[a'\""),
        (["study.claims=[a > b]"], """write a text with spaces or signs in double quotes: 'study.claims=["a > b"]'"""),
        (["model.norm=none,"], "write the values of a sweep without spaces: a,b"),
        (["study.name=a=b,c"], "if it is a text, type \"study.name='a=b,c'\""),
        (["study.name=a,b"], "if it is a text, type \"study.name='a,b'\""),
        (["study.name=it's $5, really"], """type 'study.name='"'"'it\\'"'"'s $5, really'"'"''"""),
        (["model=vgg_like", "+model.blocks.12.fc._target_={}"], "model.blocks[12].fc._target_: unknown key '_target_'"),
        (["+model.dropout._target_=x"], "model.dropout._target_: unknown key '_target_'"),
        (["+model.init={normal:{std:0.1,_target_:x}}"], "model.init.normal._target_: unknown key '_target_'"),
        (
            ["augmentation.ops=[{crop:{padding:4,_target_:x}}]"],
            "augmentation.ops[0].crop._target_: unknown key '_target_'",
        ),
        (["--resume"], "--resume: is not needed; the same command continues where it stopped"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_one(
    train: Callable[..., int], capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert train(*words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["launcher", "sweeper"])
@pytest.mark.parametrize(
    "text",
    [
        "hydra:\n  KIND: {_target_: their.Own}",
        "hydra:\n  KIND: {_target_: their.BasicLauncher}",
        "hydra:\n  KIND: {_target_: their.BasicSweeper}",
        "defaults:\n  - override /hydra/KIND: their_own",  # installed, or found with --config-dir
        "defaults:\n  - override /hydra/KIND: not_installed",
    ],
)
def test_a_config_file_cannot_name_another_launcher(
    train: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, text: str
) -> None:
    own = tmp_path / "own"
    for folder in ("preset", "hydra/launcher", "hydra/sweeper"):
        (own / folder).mkdir(parents=True)
    (own / "preset/mine.yaml").write_text(f"# @package _global_\n{text.replace('KIND', kind)}\n")
    (own / "hydra" / kind / "their_own.yaml").write_text("_target_: their.Own\n")
    for words in (["-m", "seed=0,1"], ["seed=0"]):
        assert train("--config-dir", str(own), "+preset=mine", *words) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert re.match(rf"cnnexp: hydra/{kind}: cnnexp does not use this setting of Hydra's \(.*in a config f", error)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("run.dir", "run: {dir: elsewhere}"),
        ("sweep.subdir", "sweep: {subdir: x}"),
        ("job.chdir", "job: {chdir: true}"),
        ("callbacks", "callbacks: {a: {_target_: os.system}}"),
        ("sweeper.params", "sweeper: {params: {seed: '1,2'}}"),
        ("sweeper.max_batch_size", "sweeper: {max_batch_size: 2}"),
        ("mode", "mode: MULTIRUN"),
        ("verbose", "verbose: true"),
        ("job.name", "job: {name: mine}"),
        ("job.config.override_dirname", "job: {config: {override_dirname: {item_sep: _}}}"),
        ("job_logging.disable_existing_loggers", "job_logging: {disable_existing_loggers: true}"),
    ],
)
def test_a_config_file_cannot_set_what_has_no_effect(
    train: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, text: str
) -> None:
    (tmp_path / "own/preset").mkdir(parents=True)
    (tmp_path / "own/preset/mine.yaml").write_text(f"# @package _global_\nhydra:\n  {text}\n")
    assert train("--config-dir", str(tmp_path / "own"), "+preset=mine", "--plan") == 2
    error = capsys.readouterr().err
    shown = key.partition(".")[0] if key.startswith(("run", "sweep.")) else key
    assert error.startswith(f"cnnexp: hydra.{shown}: cnnexp does not use this setting of Hydra's (in a config file)")


@pytest.mark.integration
def test_a_users_config_file_is_never_passed_over_for_one_of_the_package(
    train: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own/augmentation/flip.yaml"
    own.parent.mkdir(parents=True)
    own.write_text((compose.folder() / "augmentation/flip.yaml").read_text())
    words = ["--config-dir", str(tmp_path / "own"), "--plan"]
    assert train(*words, "augmentation=flip") == 0, "a copy says the same"
    own.write_text("_target_: mine.flip\n")
    assert train(*words, "augmentation=none") == 0, "it is not chosen"
    capsys.readouterr()
    assert train(*words, "augmentation=flip") == 2
    error = f"cnnexp: {own}: is not read, because cnnexp has its own augmentation/flip.yaml; rename your file\n"
    assert capsys.readouterr().err == error


def test_a_folder_that_hydra_takes_for_a_group_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "outputs").mkdir()
    assert cli.main(["train", "--config-dir", str(tmp_path), "--cfg", "job", "epochs=1ep"]) == 0
    assert cli.main(["train", "--config-dir", str(tmp_path), "outputs=elsewhere"]) == 2
    assert f"outputs: the folder {tmp_path}/outputs would be a group of configs" in capsys.readouterr().err


@pytest.mark.integration
def test_slots_of_a_single_run_are_reported_to_do_nothing(
    train: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("slots=cpu:2") == 0
    assert "cnnexp: slots: are for sweeps (-m)" in capsys.readouterr().err


@pytest.mark.integration
def test_half_precision_on_a_cpu(train: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert train("device.precision=fp16") == 2
    assert "device.precision: given 'fp16'; allowed on cpu: fp32, bf16" in capsys.readouterr().err


@pytest.mark.integration
def test_a_bug_shows_its_traceback(train: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnexp.training.loop.train_step", None)
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        train()


@pytest.mark.integration
def test_a_closed_pipe_is_no_bug() -> None:
    command = f"{sys.executable} -m cnnexp train --cfg job | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30)
    assert "Traceback" not in done.stderr
    assert done.stderr == ""


def test_no_command_and_an_unknown_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert cli.main(["trian"]) == 2
    assert capsys.readouterr().err == "cnnexp: no command 'trian' (did you mean 'train'?); see cnnexp --help\n"


def test_guesses_are_made_only_of_what_is_close() -> None:
    assert did_you_mean("optimzer", ["optimizer", "model"]) == " (did you mean 'optimizer'?)"
    assert did_you_mean("xyz", ["optimizer", "model"]) == ""
    assert str(unknown("model.norm", "norm", "bach", ["none", "batch"])) == (
        "model.norm: unknown norm 'bach'; choose one of none, batch (did you mean 'batch'?)"
    )


OUT_OF_MEMORY = [
    MemoryError(),
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 67108864 bytes"),
    RuntimeError("can't start new thread"),
    torch.OutOfMemoryError("CUDA out of memory"),
]
TOO_FEW = [OSError(errno.EMFILE, os.strerror(errno.EMFILE)), BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))]


@pytest.mark.parametrize("error", [*OUT_OF_MEMORY, *TOO_FEW], ids=str)
def test_what_a_limit_refuses_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cnnexp.commands.runs.main", Mock(side_effect=error))
    memory = error in OUT_OF_MEMORY
    assert is_out_of_memory(error) == memory
    assert cli.main(["runs"]) == (3 if memory else 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cnnexp: out of memory (" if memory else "cnnexp: a file: cannot be used (")
    assert "see ulimit" in line or "ulimit -n" in line


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "no such file"), ImportError("no module"), ValueError("out")])
def test_other_errors_are_not_for_want_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)
