"""Several processes at once: one run has one owner, nobody's death needs a hand, and nothing is made twice."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnnexp.data import cache
from cnnexp.records.run_record import find_runs
from cnnexp.records.study import read_study

pytestmark = pytest.mark.integration

SMALL = {"contest": [4, 1], "starts": 3}
FULL = {"contest": [16, 50], "starts": 32, "sweeps": 8}


def races(folder: Path, asked: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Hold the races of contenders.py; return where, and what came out."""
    script = Path(__file__).parents[1] / "helpers" / "contenders.py"
    command = [sys.executable, "-W", "error", str(script), str(folder), json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0 and not done.stderr.count("Traceback"), done.stderr
    return folder, json.loads(done.stdout)


@pytest.fixture(scope="module", params=[SMALL, pytest.param(FULL, marks=pytest.mark.slow)], ids=["small", "full"])
def raced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return where processes met, and what they say."""
    return races(tmp_path_factory.mktemp("races"), request.param)


def test_of_many_that_want_a_run_one_gets_it(
    raced: tuple[Path, dict[str, Any]], record_property: Callable[[str, object], None]
) -> None:
    rounds = raced[1]["contest"]
    record_property("contests for one run", len(rounds))
    record_property("of them with the winner killed", sum(one["killed"] for one in rounds))
    assert sum(one["killed"] for one in rounds) >= 1
    for one in rounds:
        codes = sorted(contender["code"] for contender in one["contenders"])
        winner = next(contender["pid"] for contender in one["contenders"] if contender["code"] != 2)
        assert codes == sorted([-9 if one["killed"] else 0, *[2] * (len(codes) - 1)])
        told = {contender["told"].partition(": ")[2] for contender in one["contenders"] if contender["code"] == 2}
        assert len(told) == 1 and next(iter(told)).endswith(
            f": is in use by pid {winner} on {socket.gethostname()}\n"
        ), "after a kill, too, the living owner is named"
        assert one["status"] == ("interrupted" if one["killed"] else "done")


def test_as_many_starts_as_directories(raced: tuple[Path, dict[str, Any]]) -> None:
    folder, said = raced
    count = len(said["starts"])
    assert {one["code"] for one in said["starts"]} == {0}
    found = find_runs(folder / "starts" / "outputs")
    assert sorted(run.info["seed"] for run in found) == list(range(count))
    assert {run.status for run in found} == {"done"}
    assert len({run.info["result"]["test_loss"] for run in found}) == count, "each its own network"


def test_many_that_need_the_same_images_prepare_them_once(raced: tuple[Path, dict[str, Any]]) -> None:
    folder, said = raced
    told = "".join(one["told"] for one in said["starts"])
    assert told.count("postcards: prepared 70 images") == 1
    ((prepared, _),) = cache.cached(str(folder / "cache"))
    good = cache.load(prepared)
    assert good is not None
    fingerprints = {run.info["data"]["fingerprint"] for run in find_runs(folder)}
    assert len(fingerprints) == 1 and fingerprints == {good.fingerprint}


@pytest.mark.slow
@pytest.mark.parametrize("raced", [FULL], ids=["full"], indirect=True)
def test_two_sweeps_of_a_study_make_every_run_once(raced: tuple[Path, dict[str, Any]]) -> None:
    folder, said = raced
    assert [one["code"] for one in said["sweeps"]] == [0, 0], said["sweeps"]
    found = find_runs(folder / "sweeps")
    assert [run.status for run in found] == ["done"] * 8
    for run in found:
        log = (run.folder / "train.log").read_text()
        assert (log.count("done: "), run.info["resumed"], log.count("Traceback")) == (1, 0, 0)
        assert len(run.rows()) == 2, "no row was written twice"
    study = read_study(folder / "sweeps" / "same")
    assert study is not None and len(study["runs"]) == 8
    assert {entry["folder"] for entry in study["runs"]} == {run.name for run in found}
