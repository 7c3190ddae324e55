"""The command line: light helps, the script, the printed config, completion."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from fake_records import write_run

from cnnexp import __version__, cli
from cnnexp.config.flags import read
from cnnexp.config.words import in_order
from cnnexp.errors import STOPPED, UserError
from cnnexp.records.run_record import RunRecord

REPOSITORY = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "torchvision", "hydra", "omegaconf", "pandas", "matplotlib", "scipy", "numpy")
MAX_HELP_LINES = {**dict.fromkeys(("runs", "evaluate", "predict", "diff", "gc"), 35), "data": 25}
LOOK = f"""
import json, sys
from cnnexp.cli import main
try:
    code = main(json.loads(sys.argv[1]))
except SystemExit as stop:  # argparse leaves so
    code = stop.code
sys.stderr.write(json.dumps([code, [name for name in {HEAVY} if name in sys.modules]]))
"""


@pytest.mark.parametrize("command", ["evaluate", "predict", "mistakes", "export", "rerun", "diff"])
def test_the_help_says_every_way_to_name_a_run(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    ways = "its folder, its name=, study/arm/seed, the first digits of its fingerprint, or latest"
    assert ways in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["predict"], "cnnexp predict: RUN, IMAGE: missing; for example: cnnexp predict latest photo.jpg; see"),
        (["predict", "latest"], "cnnexp predict: IMAGE: missing; for example: cnnexp predict latest photo.jpg; see"),
        (["evaluate"], "cnnexp evaluate: RUN: missing; for example: cnnexp evaluate latest; see"),
        (["rerun"], "cnnexp rerun: RUN: missing; for example: cnnexp rerun ablation/baseline/0; see"),
        (["diff", "a"], "missing; for example: cnnexp diff ablation/baseline/0 ablation/dropout/0; see"),
        (["runs", "--colour"], "cnnexp runs: --colour: no such option or word; for example: cnnexp runs; see"),
        (["evaluate", "latest", "--split", "dev"], "invalid choice: 'dev'"),
        (["summary", "--classes", "many"], "argument --classes: invalid int value: 'many'"),
    ],
)
def test_wrong_words_are_one_line_with_an_example(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith(f"cnnexp {words[0]}: ") and error.count("\n") == 1
    assert line in error and f"see cnnexp {words[0]} --help" in error


@pytest.mark.integration
@pytest.mark.parametrize("command", ["", *cli.COMMANDS])
def test_help_is_short_light_and_quick(command: str) -> None:
    words = json.dumps([command, "--help"] if command else ["--help"])
    seconds = []
    for _ in range(3):
        start = perf_counter()
        done = subprocess.run([sys.executable, "-c", LOOK, words], capture_output=True, text=True, timeout=20)
        seconds.append(perf_counter() - start)
    assert json.loads(done.stderr) == [0, []], "the exit code, and what need not be imported for a help"
    assert f"usage: cnnexp {command}".strip() in done.stdout
    assert "examples:" in done.stdout
    assert done.stdout.count("\n") < MAX_HELP_LINES.get(command, 45)
    assert max(map(len, done.stdout.splitlines())) <= 120
    assert statistics.median(seconds) < 1.5  # 0.1 s on an idle machine


@pytest.mark.integration
def test_commands_that_read_records_import_no_torch(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, "baseline", seed)
    first, second = sorted(str(f) for f in (tmp_path / "demo").iterdir())
    code = (
        "import sys; from cnnexp.cli import main\n"
        f"assert [main(['runs', {str(tmp_path)!r}]), main(['gc', {str(tmp_path)!r}])] == [0, 0]\n"
        f"assert main(['diff', {first!r}, {second!r}]) == 0 and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.integration
def test_as_a_script(tiny: list[str], only: Callable[[], RunRecord], tmp_path: Path) -> None:
    script = [sys.executable, "-W", "error", REPOSITORY / "cnnexp" / "train.py", *tiny, "epochs=2st"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert only().status == "done"
    assert done.stdout.splitlines()[-1] == str(only().folder)
    assert "Traceback" not in done.stderr


def test_the_composed_config_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "optimizer.lr=0.25", "+aug=flip", "--cfg", "job"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["optimizer"]["lr"] == 0.25
    assert config["augmentation"]["ops"] == [{"flip": {"p": 0.5}}]
    assert "hydra" not in config


def complete(line: str) -> list[str]:
    """Return what the shell would offer after `line`."""
    environment = {**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    command = [sys.executable, "-m", "cnnexp", "-sc", "query=bash"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.integration
def test_completion() -> None:
    assert complete("cnnexp t") == ["train", "track"]
    assert complete("cnnexp ") == list(cli.COMMANDS)
    assert {"optimizer=", "optimizer."} <= set(complete("cnnexp train opt"))
    assert complete("cnnexp train optimizer=ad") == ["optimizer=adagrad", "optimizer=adam", "optimizer=adamw"]
    assert complete("cnnexp train probes=a") == ["probes=activations", "probes=all"]
    assert "probes.every=" in complete("cnnexp train probes.")
    assert [word for word in complete("cnnexp train scheduler=") if not word[10:].isalpha()] == [], "files only"
    assert complete("cnnexp train +study=ab") == ["+study=ablation"]
    assert complete("cnnexp train +study=ablation +arm=bat") == ["+arm=batchnorm"]
    assert complete("cnnexp train +aug=fu") == ["+aug=full"] and complete("cnnexp train aug=fu") == ["aug=full"]
    assert complete("cnnexp report out") == []
    assert complete("cnnexp train --pl") == ["--plan"] and complete("cnnexp report --ba") == ["--baseline"]
    assert complete("cnnexp data im") == ["imagenette"]
    assert complete("cnnexp data imagenette aug=fu") == ["aug=full"]
    assert complete("cnnexp summary --classes 3 model=re") == ["model=resnet18"]
    assert complete("cnnexp train --plan optimizer=adamw probes=a") == ["probes=activations", "probes=all"]
    assert complete("cnnexp train --nonsense +study=zzz optimizer=adag") in ([], ["optimizer=adagrad"])


@pytest.mark.parametrize("key", ["model.weights", "backbone.weights", "data.root"])
def test_paths_are_completed(key: str, tmp_path: Path) -> None:
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    (tmp_path / "outer" / "inner.pt").touch()
    assert complete(f"cnnexp train {key}={tmp_path}/ou") == [f"{key}={tmp_path}/outer/"]
    assert complete(f"cnnexp train {key}={tmp_path}/outer/in") == [
        f"{key}={tmp_path}/outer/inner/",
        f"{key}={tmp_path}/outer/inner.pt",
    ]


def test_the_help_of_train_lists_the_groups_and_their_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--help"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["scheduler", "constant*,", "cosine,", "onecycle,", "plateau,", "step"] in lines
    assert ["device", "auto*,", "cpu,", "cuda,", "mps"] in lines
    assert {"data", "model", "augmentation", "optimizer", "+study", "+preset"} <= {line[0] for line in lines if line}


@pytest.mark.parametrize(
    ("typed", "ordered"),
    [
        (["seed=1", "+arm=a", "x=2", "+study=b"], ["+study=b", "+arm=a", "seed=1", "x=2"]),
        (["+preset=s", "+arm=a", "+study=b"], ["+study=b", "+arm=a", "+preset=s"]),
        (["+preset=s", "x=1", "+preset=[t,u]", "+pretrain=p"], ["+pretrain=p", "+preset=[s,t,u]", "x=1"]),
        (["x=1", "~y", "+pretrain=p"], ["+pretrain=p", "x=1", "~y"]),
        (["+aug=full", "aug.ops=[]", "+aug.x=1"], ["augmentation=full", "augmentation.ops=[]", "+augmentation.x=1"]),
    ],
)
def test_study_and_arm_are_put_before_what_else_was_typed(typed: list[str], ordered: list[str]) -> None:
    assert in_order(typed) == ordered


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["seed=1"], {}),
        (["seed=1", "--plan"], {"sweep": True, "plan": True, "one": True}),
        (["-m", "seed=1", "--plan"], {"sweep": True, "plan": True}),
        (["-m", "--fail-fast"], {"sweep": True, "fail_fast": True}),
        (["--no-wait"], {"sweep": True, "no_wait": True}),
        (["--budget", "2h", "x=1"], {"sweep": True, "budget": 7200}),
        (["--budget=90s"], {"sweep": True, "budget": 90}),
        (["--budget=30m"], {"sweep": True, "budget": 1800}),
        (["--budget=1.5h"], {"sweep": True, "budget": 5400}),
        (["--budget=1h30m"], {"sweep": True, "budget": 5400}),
        (["--budget=0.5"], {"sweep": True, "budget": 1}),
        (["--budget=5"], {"sweep": True, "budget": 5}),
        (["+study=b"], {"sweep": True}),
        (["+study=b", "hydra.mode=RUN"], {}),
        (["hydra.mode=MULTIRUN"], {"sweep": True}),
        (["--cfg", "job", "--config-dir", "there", "seed=1"], {"prints": ["--cfg=job"]}),
        (["-c", "job", "--resolve"], {"prints": ["-c=job", "--resolve"]}),
    ],
)
def test_flags_say_what_is_asked_for(typed: list[str], expected: dict[str, Any]) -> None:
    asked = vars(read(typed))
    overrides = [word for word in typed if "=" in word and not word.startswith("-")]
    neutral = {"prints": [], "sweep": False, "plan": False, "fail_fast": False, "no_wait": False, "budget": None}
    neutral |= {"max_seeds": 0, "search": None, "one": False}
    assert asked == {"overrides": overrides, **neutral, **expected}


@pytest.mark.parametrize("time", ["", "0", "0m", "-5", "1d", "1.5.2h", "30m1h", "1e3", "٣h"])
def test_a_budget_is_a_time(time: str) -> None:
    with pytest.raises(UserError, match=r"--budget: given '.*'; allowed: a time such as 90s, 30m, 1.5h or 1h30m"):
        read([f"--budget={time}"])


@pytest.mark.parametrize(("command", "words"), [("train", STOPPED), ("work", STOPPED), ("report", "interrupted")])
def test_an_interrupted_command_says_what_to_do(
    command: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "ends_early", SimpleNamespace(main=interrupted))
    monkeypatch.setitem(cli.COMMANDS, command, ("ends_early", ""))
    assert cli.main([command]) == 130
    assert capsys.readouterr().err == f"cnnexp: {words}\n"
