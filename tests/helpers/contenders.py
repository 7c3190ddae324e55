"""Races between processes, for test_concurrency.py: `python contenders.py FOLDER '{"contest": [16, 50]}'` prints JSON.

Each contender is forked from this process, which has imported torch and planned the run by then: it costs some
milliseconds, not the seconds of a start, so that hundreds can meet at one barrier.
"""

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from tiny import TINY

import cnnexp.training.run  # noqa: F401 - before anything is forked
from cnnexp import cli, train
from cnnexp.config import checks
from cnnexp.config import compose as config
from cnnexp.sweep import launcher, worker
from cnnexp.training import progress
from cnnexp.training.loop import Settings, TrainState
from cnnexp.training.plan import Plan, plan
from cnnexp.training.progress import Progress

CONTEXT: Any = multiprocessing.get_context("fork")
SECONDS = 40.0  # that a contender waits for the others
SHORT = [*TINY, "epochs=1st"]


class Holds(Progress):
    """Keeps a run, once it has begun, until all others were turned away; then goes on, or dies."""

    def __init__(self, turned_away: Any, others: int, dies: bool):
        self.turned_away, self.others, self.dies = turned_away, others, dies

    def start(self, title: str, settings: Settings, state: TrainState) -> None:
        for _ in range(self.others):
            assert self.turned_away.acquire(timeout=SECONDS)
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)


def race(count: int, contend: Callable[[int], int]) -> list[dict[str, Any]]:
    """Let so many processes do `contend(number)` at the same moment: {pid, code, told, and what ended the process}."""
    barrier, results = CONTEXT.Barrier(count), CONTEXT.SimpleQueue()

    def body(number: int) -> None:
        with TemporaryFile("w+") as told, redirect_stdout(StringIO()), redirect_stderr(told):
            barrier.wait(SECONDS)
            try:
                code = contend(number)
            except SystemExit as stop:
                code = stop.code
            told.seek(0)
            results.put({"pid": os.getpid(), "code": code, "told": told.read()})

    processes = [CONTEXT.Process(target=body, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    ended = {process.pid: process.exitcode for process in processes}
    told = []
    while not results.empty():
        told.append(results.get())
    return [*told, *({"pid": pid, "code": code, "told": ""} for pid, code in ended.items() if code)]


def contest(folder: Path, count: int, rounds: int) -> list[dict[str, Any]]:
    """Let so many processes want one run, round after round; in every third the winner is killed, and they go again."""
    base = config.resolve(config.compose([*SHORT, f"outputs={folder}"]))
    checks.check(base)
    planned = plan(base, [], [], "cnnexp train")
    found = []
    for number in range(rounds):
        own = replace(planned, folder=folder / f"round-{number}")
        for dies in (True, False) if number % 3 == 0 else (False,):
            turned_away = CONTEXT.Semaphore(0)
            said = race(count, lambda _, own=own, dies=dies, away=turned_away: want(own, count - 1, dies, away))
            found.append({"killed": dies, "contenders": said, "status": own.record().status})
    return found


def want(plan: Plan, others: int, dies: bool, turned_away: Any) -> int:
    """Do what `cnnexp train` does after planning; returns the exit code."""
    progress.for_terminal = lambda: Holds(turned_away, others, dies)  # type: ignore[assignment, return-value]
    train.run_one = lambda words: train.make(plan)
    code = cli.main(["train"])
    if code:
        turned_away.release()
    return code


def starts(folder: Path, count: int) -> list[dict[str, Any]]:
    """Start so many different runs at the same moment, where no images are prepared yet."""
    return race(count, lambda number: cli.main(["train", *SHORT, f"outputs={folder / 'outputs'}", f"seed={number}"]))


def sweeps(folder: Path, count: int) -> list[dict[str, Any]]:
    """Start the same sweep of so many runs twice at the same moment."""
    worker.CONTEXT, launcher.import_ahead = CONTEXT, lambda: None
    request = ["-m", f"seed=range({count})", "study.name=same", "study.arm=a", "slots=cpu:2", f"outputs={folder}"]
    return race(2, lambda _: cli.main(["train", *SHORT, *request]))


if __name__ == "__main__":
    place, asked = Path(sys.argv[1]), json.loads(sys.argv[2])
    os.environ["CNNEXP_CACHE"] = str(place / "cache")
    made = {}
    if "starts" in asked:  # first: what is forked must not remember any images
        made["starts"] = starts(place / "starts", asked["starts"])
    if "sweeps" in asked:
        made["sweeps"] = sweeps(place / "sweeps", asked["sweeps"])
    if "contest" in asked:
        made["contest"] = contest(place / "contest", *asked["contest"])
    print(json.dumps(made))
