"""Generated requests: each ends with exit code 0 or 2, never a traceback; what is wrong is named in one line.

They go through `cnnexp train` in this process, up to and including the checks: data and runs are out of the way.
CNNEXP_FUZZ is how many there are (`make fuzz`: 10,000). fuzzing.case(number) is the request of a failure.
"""

import logging
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import fuzzing
import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from cnnexp import cli
from cnnexp.config.hydra_errors import of_a_reader
from cnnexp.errors import MAX_MESSAGE

pytestmark = pytest.mark.counts("requests")

REQUESTS = int(os.environ.get("CNNEXP_FUZZ", "500"))
CHUNK = 50
KEY = r"cnnexp: [+~]*[^\s:=]+[:=]"  # what an error of a config file begins with: the key that is wrong
ODD_KEY = r"cnnexp: ([\w.]+\.)?(?P<key>[^\n]+): unknown key '(?P=key)';"  # a key with blanks in it, said twice


class Checked(BaseException):
    """A request went through all checks."""


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[fuzzing.Case], int]]:
    """Return a function that asks for a case and returns the exit code."""

    def checked(*_: Any, **__: Any) -> NoReturn:
        raise Checked

    monkeypatch.setattr("cnnexp.sweep.planning.plan_run", checked)  # the name that it was imported by
    monkeypatch.setattr("cnnexp.training.plan.plan", checked)
    monkeypatch.setattr("cnnexp.sweep.launcher.import_ahead", lambda: None)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(case: fuzzing.Case) -> int:
        for name, content in case.files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content)
        handlers = logging.root.handlers[:]
        try:
            return cli.main(["train", *(word.replace("{DIR}", str(tmp_path)) for word in case.words)])
        except Checked:
            return 0
        except SystemExit as stop:  # of Hydra's own help
            assert isinstance(stop.code, int)
            return stop.code
        finally:
            logging.root.handlers[:] = handlers  # Hydra's own, where a request asks for them, hold this test's streams

    (tmp_path / "empty").mkdir()
    before = Path.cwd()
    os.chdir(tmp_path / "empty")
    yield run
    left = list(Path.cwd().iterdir())
    os.chdir(before)
    assert left == [], "a request that was only checked wrote something"


def found(name: str, told: str, apart: bool) -> bool:
    """Tell whether a text names a key; apart: as a key of its own, with all that stands before it."""
    return re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", told) is not None if apart else name in told


def wrong_about(case: fuzzing.Case, code: int, told: str, seconds: float) -> str:
    """Say what is wrong about an answer, "" if nothing is."""
    if code not in (0, 2) or (case.valid and code):
        return f"exit code {code}"
    if seconds > 20:
        return f"took {seconds:.1f} s"
    if code == 0:
        return ""
    if not told.startswith("cnnexp: ") or told.count("\n") != 1 or not told[:-1].isprintable():
        return "is not told in one printable line"
    if len(told) > MAX_MESSAGE * 2:
        return f"is told in {len(told)} characters"
    if case.blame and not any(found(name, told, case.apart) for name in case.blame):
        return f"does not name {case.blame[0]}"
    if case.files and "mine" not in told and not re.match(KEY, told) and not re.match(ODD_KEY, told):
        return "names neither the file nor a key"
    return ""


def ask_all(
    numbers: range, ask: Callable[[fuzzing.Case], int], capsys: pytest.CaptureFixture[str]
) -> tuple[list[str], Counter[int]]:
    """Ask for many; return what is wrong about the answers, and how often each exit code came."""
    bad, codes = [], Counter[int]()
    for number in numbers:
        case = fuzzing.case(number)
        start = time.process_time()
        try:
            code = ask(case)
        except Exception as error:
            capsys.readouterr()
            bad.append(f"case({number}) {fuzzing.shown(case)}: {type(error).__name__}: {str(error)[:200]}")
            continue
        told = capsys.readouterr().err
        codes[code] += 1
        if problem := wrong_about(case, code, told, time.process_time() - start):
            bad.append(f"case({number}) {fuzzing.shown(case)}: {problem}: {told[:200]}")
    return bad, codes


@pytest.mark.parametrize("told", ["optimizer: is wrong", "lr: is wrong", "optimizer.lrs: is wrong", "it is wrong"])
def test_an_error_that_names_less_than_the_key_is_found(told: str) -> None:
    """Of a wrong value; the control for what follows."""
    case = fuzzing.Case(["optimizer.lr=x"], blame=fuzzing.named("optimizer.lr"), apart=True)
    assert wrong_about(case, 2, f"cnnexp: {told}\n", 0.0) == "does not name optimizer.lr"
    assert wrong_about(case, 2, "cnnexp: optimizer.lr: given 'x'\n", 0.0) == ""
    assert fuzzing.named("model.blocks.3.conv") == ("model.blocks.3.conv", "model.blocks[3].conv")


@pytest.mark.integration
@pytest.mark.counts("requests", 15)
def test_a_few_requests(ask: Callable[[fuzzing.Case], int], capsys: pytest.CaptureFixture[str]) -> None:
    bad, codes = ask_all(range(15), ask, capsys)
    assert bad == []
    assert codes[2] > 5


@pytest.mark.slow
@pytest.mark.counts("requests", CHUNK)
@pytest.mark.parametrize("start", range(0, REQUESTS, CHUNK))
def test_requests(start: int, ask: Callable[[fuzzing.Case], int], capsys: pytest.CaptureFixture[str]) -> None:
    bad, codes = ask_all(range(start, min(start + CHUNK, REQUESTS)), ask, capsys)
    assert bad == []
    if sum(codes.values()) == CHUNK:
        assert codes[0] and codes[2], "there are right and wrong ones"


NEARBY = (
    "optimizer.",
    "scheduler.",
    "augmentation.",
    "model.norm",
    "model.dropout",
    "loss.label_smoothing",
    "clip_norm",
)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(40))
def test_requests_that_are_trained_for_a_step(number: int, train: Callable[..., int]) -> None:
    draw = random.Random(f"trained {number}")
    chosen = [f"{group}={draw.choice(fuzzing.CHOICES[group])}" for group in ("optimizer", "scheduler", "augmentation")]
    own = [pair for word in chosen for pair in fuzzing.OF_CHOICE[tuple(word.split("="))]]  # type: ignore[index]
    keys = [(key, value) for key, value in [*fuzzing.TOP, *own] if key.startswith(NEARBY) and "_target_" not in key]
    words = [f"{key}={fuzzing.near(draw, value)}" for key, value in draw.sample(keys, 3)]
    assert train(*chosen, *words, "epochs=1st", "device=cpu", "device.threads=1") in (0, 2, 3)


@pytest.mark.integration
def test_a_sweep_of_too_many_or_no_values(
    ask: Callable[[fuzzing.Case], int], capsys: pytest.CaptureFixture[str]
) -> None:
    for word, told in (
        ("seed=range(0,10000000000)", "seed: these values make more than 10,000 runs"),
        ("optimizer.lr=range(0,1,1e-300)", "optimizer.lr: these values make more than 10,000 runs"),
        ("seed=0,1 seed=2,3", "seed: given more than once, with several values; give all its values in one place"),
        ("seed=range(3,0)", "seed=range(3,0): there is no such value"),
    ):
        assert ask(fuzzing.Case(["-m", *word.split()])) == 2
        assert capsys.readouterr().err.startswith(f"cnnexp: {told}")
    assert ask(fuzzing.Case(["-m", "seed=range(0,101)", "batch_size=range(1,101)"])) == 2
    assert "seed, batch_size: these values make" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--cfg=nowhere"], "--cfg: given 'nowhere'; allowed: job, hydra, all"),
        (["--cfg"], "--cfg: given ''; allowed: job"),
        (["--config-dir", "--plan"], "--config-dir: given '--plan'; allowed: a folder"),
        (["--plan=1"], "--plan=1: --plan takes no value"),
        (["model._target_=builtins.type"], "model._target_: 'builtins.type' does not say what it takes"),
        (["model._target_=..a"], "model._target_: given '..a'; allowed: the dotted name"),
        (["optimizer.lr=" + "9" * 400], "optimizer.lr: given 99999"),
        (["study.name='a\x1b[31m\nb'", "seed=x"], "seed: given 'x'"),
        (["\x1b[31m=1"], r"\x1b[31m=1: cannot be read"),
        (["optimizer.lr=${optimizer.lr}"], "optimizer.lr: "),
    ],
)
def test_requests_that_once_ended_badly(
    words: list[str], told: str, ask: Callable[[fuzzing.Case], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(fuzzing.Case(words)) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"cnnexp: {told}") and message.count("\n") == 1 and message[:-1].isprintable()


@pytest.mark.parametrize("name", ["not utf-8", "a huge number", "a deep list", "an interpolation of itself", "a cycle"])
def test_a_file_that_cannot_be_read_is_named(
    name: str, ask: Callable[[fuzzing.Case], int], capsys: pytest.CaptureFixture[str]
) -> None:
    case = fuzzing.Case(["+preset=mine", "--config-dir={DIR}"], {"preset/mine.yaml": fuzzing.FILES[name]})
    assert ask(case) == 2
    message = capsys.readouterr().err
    assert message.startswith(("cnnexp: +preset=mine: ", "cnnexp: optimizer.lr: ")) and message.count("\n") == 1


def broken() -> None:
    raise ZeroDivisionError("a bug")


def test_a_bug_of_what_a_config_names_is_still_a_bug() -> None:
    with pytest.raises(InstantiationException) as caught:
        instantiate({"_target_": f"{__name__}.broken"})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert not of_a_reader(caught.value.__cause__)


def test_a_config_folder_whose_name_has_an_equals_sign(ask: Callable[[fuzzing.Case], int], tmp_path: Path) -> None:
    (tmp_path / "a=b" / "preset").mkdir(parents=True)
    (tmp_path / "a=b" / "preset" / "mine.yaml").write_text("# @package _global_\nseed: 1\n")
    assert ask(fuzzing.Case(["+preset=mine", "--config-dir", str(tmp_path / "a=b")])) == 0
