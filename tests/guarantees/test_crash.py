"""Killed, out of room or out of power at any operation on the disk: the same command finishes the run, to the bit."""

import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from crash import Disk, Ended, Server, difference, everything
from tiny import TINY

from cnnexp.errors import UserError
from cnnexp.records.run_record import RunRecord
from cnnexp.storage.failpoints import ACTIONS, parse
from cnnexp.training import checkpoint

pytestmark = pytest.mark.integration

SAVES = (4, 8, 12, 15)  # of 15 steps: as `checkpoint.every` asks, and at the end
RUN = [
    *("augmentation=crop", "scheduler=plateau", "scheduler.patience=0", "optimizer.lr=0.02", "checkpoint.every=4st"),
    *("early_stopping.patience=3", "log.steps=5st", "study.name=demo", "study.arm=cut"),
    *("log.hash_chain=true", "probes=gradients"),
]
ALL = bool(os.environ.get("CNNEXP_ALL_FAULTS"))  # every fault at every passage, as scripts/reliability.py asks for
Note = Callable[[str, object], None]
Whole = tuple[Ended, dict[str, Any], bytes]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Return a server, for all tests of this file."""
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return where commands run: in memory if that is possible, for a kill leaves what it left on a disk."""
    memory = Path("/dev/shm")
    room = (memory if os.access(memory, os.W_OK) else tmp_path_factory.mktemp("crash")) / f"cnnexp-crash-{os.getpid()}"
    yield room
    shutil.rmtree(room, ignore_errors=True)


@pytest.fixture(scope="module")
def argv(room: Path) -> list[str]:
    """Return the command."""
    return ["train", *TINY, *RUN, f"outputs={room / 'outputs'}"]


@pytest.fixture(scope="module")
def whole(server: Server, room: Path, argv: list[str]) -> Whole:
    """Return the run that nothing disturbs: its every operation on the disk, what it computes, its last.pt."""
    empty(room)
    ended = server.run(argv, room, record=True)
    assert ended.code == 0, ended.out
    return ended, everything(room), (room / "end.pt").read_bytes()


@pytest.fixture
def check(server: Server, room: Path, argv: list[str], whole: Whole) -> Callable[..., list[str]]:
    """Return a function that gives the same command again, and says what is not as it should be then.

    durable: the step of the last checkpoint that must be there before, if the run is not done.
    """

    def again(what: str, durable: int = 0) -> list[str]:
        before = saved(room)
        folder = run_folder(room)
        done = folder is not None and RunRecord.read(folder).info.get("status") == "done"
        if before < durable and not done:
            return [f"{what}: step {durable} was durable, {before} is there"]
        ended = server.run(argv, room)
        if ended.code or "Traceback" in ended.out:
            return [f"{what}: ended with {ended.code}: {ended.out}"]
        wrong = [f"left behind: {file.name}" for file in room.rglob(".*.tmp")]
        if (different := difference(everything(room), whole[1])) is not None:
            wrong.append(f"another {different}")
        if before and resumed(room) != before:
            wrong.append(f"went on after step {resumed(room)} instead of {before}")
        return [f"{what}: {text}" for text in wrong]

    return again


def empty(room: Path) -> None:
    """Make an empty room."""
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir()


def run_folder(room: Path) -> Path | None:
    """Return the folder of the run, if it is there."""
    return next((room / "outputs" / "demo").glob("*-s0-*"), None)


def saved(room: Path) -> int:
    """Return the step of the last checkpoint of a run that is not done; 0 if there is none."""
    folder = run_folder(room)
    if folder is None or RunRecord.read(folder).info.get("status") == "done":
        return 0
    files = [folder / "checkpoints" / name for name in ("last.pt", "previous.pt")]
    return next((int(checkpoint.read(file)["step"]) for file in files if file.exists()), 0)


def resumed(room: Path) -> int:
    """Return the step after which the run last went on."""
    folder = run_folder(room)
    assert folder is not None
    steps = re.findall(rb"resumed after step (\d+)", (folder / "train.log").read_bytes())
    return int(steps[-1]) if steps else 0


def passages(whole: Whole) -> list[tuple[str, int]]:
    """Return every passage of the run as (failpoint, how often it was passed)."""
    seen: Counter[str] = Counter()
    found = []
    for point, *_ in whole[0].passages:
        seen[point] += 1
        found.append((point, seen[point]))
    return found


def some(cases: list[Any], count: int | None, seed: int = 0) -> list[Any]:
    """Return `count` of the cases, drawn by a seed; all if it is None."""
    return cases if count is None else random.Random(seed).sample(cases, min(count, len(cases)))


SLOW = pytest.param(None if ALL else 60, marks=[pytest.mark.slow, pytest.mark.timeout(900)])  # of some 200 to 700 cases


@pytest.mark.parametrize("count", [6, SLOW])
def test_killed_at_every_operation(server, room, argv, whole, check, record_property: Note, count) -> None:
    cases = [(point, action, n) for point, n in passages(whole) for action in ("kill", "torn")]
    cases = some([c for c in cases if c[1] == "kill" or c[0].endswith(".write")], count)
    wrong = []
    for point, action, n in cases:
        empty(room)
        ended = server.run(argv, room, f"{point}:{action}:{n}")
        if ended.code != -signal.SIGKILL:
            wrong.append(f"{point}:{action}:{n}: ended with {ended.code}")
        wrong += check(f"{point}:{action}:{n}", durable_before(whole, point, n))
    record_property("kill points", len(cases))
    assert wrong == []


def durable_before(whole: Whole, point: str, number: int) -> int:
    """Return the step of the last checkpoint that is durable when a point is passed for the `number`-th time."""
    return begun_after(whole[0].passages[: passages(whole).index((point, number))])


def begun_after(done: list[Any]) -> int:
    """Return the step of the last checkpoint that is durable after some operations, whatever was done to make it so.

    One must be durable before the next one is begun.
    """
    begun = sum(p[0] == "replace.open" and Path(p[1]).name.startswith(".last.pt.") for p in done)
    return (0, 0, *SAVES)[begun]


def faults(whole: Whole) -> list[str]:
    """Return failpoints that raise: one kind at each passage, all kinds in turn; with ALL, all kinds at each."""
    kinds = ("enospc", "eio", "eacces", "short")
    found = []
    for number, (point, n) in enumerate(passages(whole)):
        chosen = kinds if ALL else (kinds[number % 4],)
        found += [f"{point}:{kind}:{n}" for kind in chosen if kind != "short" or point.endswith(".write")]
        found += [f"*:enospc:{number + 1}+"] if ALL or number % 2 else []
    return found


@pytest.mark.parametrize("count", [5, SLOW])
def test_a_fault_at_every_operation(server, room, argv, whole, check, record_property: Note, count) -> None:
    cases = some(faults(whole), count)
    wrong, stopped = [], 0
    for failpoint in cases:
        empty(room)
        ended = server.run(argv, room, failpoint)
        stopped += ended.code != 0
        wrong += [f"{failpoint}: {text}" for text in told_badly(ended, room)]
        point, _, n = failpoint.split(":")
        wrong += check(failpoint, 0 if point == "*" else durable_before(whole, point, int(n)))
    record_property("faults", len(cases))
    record_property("of them stopped the run", stopped)
    assert wrong == []
    assert stopped > len(cases) / 2


def told_badly(ended: Ended, room: Path) -> list[str]:
    """Return what is wrong with how a command told that the disk failed, and with the status that it left."""
    lines = [
        line for line in ended.out.splitlines() if line.startswith("cnnexp: ") and "10 validation images" not in line
    ]
    wrong = ["a traceback"] if "Traceback" in ended.out else []
    if ended.code not in (0, 2, 3) or (ended.code != 0 and len(lines) != 1):
        wrong.append(f"code {ended.code}, {ended.out}")
    folder = run_folder(room)
    if folder is not None and (folder / "run.json").exists():
        status = RunRecord.read(folder).status
        if status not in ("failed", "interrupted", "done"):
            wrong.append(f"status {status}")
    return wrong


@pytest.mark.parametrize("count", [2, pytest.param(25, marks=pytest.mark.slow)])
def test_killed_at_any_moment(server, room, argv, whole, check, record_property: Note, count) -> None:
    empty(room)
    start = time.monotonic()
    server.run(argv, room)
    length, draw, wrong, hits = time.monotonic() - start, random.Random(1), [], 0
    for number in range(count):
        empty(room)
        child = server.start(argv, room)
        time.sleep(draw.random() * length)
        with suppress(ProcessLookupError):  # it has ended
            os.kill(child, signal.SIGKILL)
        hits += server.wait().code == -signal.SIGKILL
        wrong += check(f"kill {number}")
    record_property("random kills", count)
    record_property("of them before the end", hits)
    assert wrong == []
    assert 3 * hits > count, "they are to come before the end"


@pytest.mark.parametrize("count", [6, SLOW])
def test_power_lost_after_every_operation(server, room, argv, whole, check, record_property: Note, count) -> None:
    done = whole[0].passages
    states: dict[Any, tuple[int, str, int]] = {}
    for prefix in range(len(done) + 1):
        for how in ("dropped", "empty", "torn"):
            empty(room)
            durable = replay(done[:prefix], room, how)
            files = {f.relative_to(room): f.read_bytes() for f in sorted(room.rglob("*")) if f.is_file()}
            states.setdefault(
                tuple((n, c) for n, c in files.items() if n.name not in ("train.log", ".lock")), (prefix, how, durable)
            )
    wrong = []
    at_the_end = [(len(done), how, 0) for how in ("dropped", "empty", "torn")]
    chosen = [*some(list(states.values()), count), *at_the_end]
    for prefix, how, durable in chosen:
        empty(room)
        replay(done[:prefix], room, how)
        folder = run_folder(room)
        if folder is not None and RunRecord.read(folder).info.get("status") == "done":
            (room / "end.pt").write_bytes(whole[2])  # what the run left there before it dropped last.pt
        elif prefix == len(done):
            wrong.append(f"the end, {how}: the run was done, and is not recorded as such")
        elif (found := saved(room)) < durable:
            wrong.append(f"{prefix}, {how}: step {durable} was durable, {found} is there")
        wrong += check(f"{prefix}, {how}")
    record_property("operations", len(done))
    record_property("different states after a power loss", len(chosen))
    assert wrong == []


def replay(passages: list[Any], room: Path, how: str) -> int:
    """Leave in `room` what a power loss after some operations leaves; return the last step that must be there then."""
    disk = Disk(room)
    for passage in passages:
        disk.do(*passage)
    disk.leave(room, how)
    return begun_after(passages)


@pytest.mark.parametrize(
    "text", ["", ":kill:1", "replace.sync", "replace.sync:kill", "replace.sync:burn:1", "a:kill:x"]
)
def test_a_failpoint_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UserError, match=r"CNNEXP_FAILPOINT: given '.*'; allowed: POINT:ACTION:N"):
        parse(text)
    assert {"kill", "enospc", "eio", "short"} <= set(ACTIONS)
