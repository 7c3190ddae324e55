"""`cnnexp diff`: how two runs differ, in what was asked for, what it ran on, and what came out. Imports no torch."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnnexp.errors import EXIT_DONE
from cnnexp.records.run_record import HASH_CHAIN, TIMING, RunRecord, one_run
from cnnexp.text import visible

EXAMPLES = """\
examples:
  cnnexp diff outputs/ablation/baseline-s0-1a2b3c4d5e outputs/ablation/dropout-s0-5e4d3c2b1a
  cnnexp diff outputs/runs/A outputs/other/B      runs of different studies can be compared too
"""
Row = tuple[str, str, str, str]
ENVIRONMENT = ("code", "own_code", "environment", "device", "data", "model", "schedule")
LARGEST = 1e30  # beyond it a number is no measurement, and may not even be formatted
RESULT = {  # what came out: the heading, and how a value and a difference are written
    "test_accuracy": "percent",
    "val_accuracy": "percent",
    "train_accuracy": "percent",
    "test_loss": "number",
    "val_loss": "number",
    "train_loss": "number",
    "best_epoch": "whole",
    "epochs": "whole",
    "images_per_second": "whole",
    "peak_memory_mib": "whole",
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    arguments = argparse.ArgumentParser(
        prog="cnnexp diff",
        description="Say how two runs differ: config, code, versions, device, data, results, and where they part.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("first", type=Path, metavar="RUN")
    arguments.add_argument("second", type=Path, metavar="RUN")
    return arguments


def main(argv: list[str]) -> int:
    """Print the differences. Raises UserError if one of the folders is not a run."""
    given = parser().parse_args(argv)
    first, second = one_run(given.first), one_run(given.second)
    print(f"a  {visible(first.folder)}  ({first.status})\nb  {visible(second.folder)}  ({second.status})")
    _show("config", config_rows(first, second), "the same")
    _show("code, versions, device, data", environment_rows(first, second), "the same")
    _show("results", result_rows(first, second), "neither run has any")
    print(f"\ntest images\n  {same_images(first, second)}\n\nmetric rows\n  {visible(parting(first, second))}")
    print(f"\ntraining steps\n  {visible(steps_parting(first, second))}")
    return EXIT_DONE


def _show(title: str, rows: list[Row], none: str) -> None:
    from cnnexp.text import align, plain, shorten

    print(f"\n{title}")
    if not rows:
        print(f"  {none}")
        return
    cells = [[shorten(plain(cell), 60) for cell in row] for row in [("", "a", "b", ""), *rows]]
    print("\n".join(f"  {line}" for line in align(cells).splitlines()))


def config_rows(first: RunRecord, second: RunRecord) -> list[Row]:
    """Return the settings that differ, by dotted key; a list is one setting."""
    from cnnexp.config.keys import flatten

    return _differences(flatten(first.config()), flatten(second.config()))


def environment_rows(first: RunRecord, second: RunRecord) -> list[Row]:
    """Return the facts in run.json that differ and that no one set: code, versions, device, data, size of the model."""
    from cnnexp.config.keys import flatten

    facts = [flatten({k: run.info[k] for k in ENVIRONMENT if k in run.info}) for run in (first, second)]
    own = [{k: v for k, v in side.items() if k != "data.prepare_seconds"} for side in facts]
    return _differences(*own)


def _differences(first: dict[str, Any], second: dict[str, Any]) -> list[Row]:
    keys = [*first, *(key for key in second if key not in first)]
    missing = object()
    pairs = {key: (first.get(key, missing), second.get(key, missing)) for key in keys}
    text: Callable[[Any], str] = lambda v: "-" if v is missing else "null" if v is None else str(v)  # noqa: E731
    return [(key, text(a), text(b), "") for key, (a, b) in pairs.items() if a != b]


def result_rows(first: RunRecord, second: RunRecord) -> list[Row]:
    """Return the numbers of both results, and b - a: percentages and points, nats, seconds."""
    rows = [
        _compared(name, kind, *((run.info.get("result") or {}).get(name) for run in (first, second)))
        for name, kind in RESULT.items()
    ]
    seconds = ((run.info.get("seconds") or {}).get("train") for run in (first, second))
    return [row for row in [*rows, _compared("train_seconds", "seconds", *seconds)] if row is not None]


def _compared(name: str, kind: str, a: Any, b: Any) -> Row | None:
    known = [isinstance(value, (int, float)) and abs(value) < LARGEST for value in (a, b)]
    if not any(known):
        return None
    scale, places, unit, change = {
        "percent": (100, 2, " %", " points"),
        "number": (1, 4, "", ""),
        "whole": (1, 0, "", ""),
        "seconds": (1, 1, " s", " s"),
    }[kind]
    texts = [f"{scale * v:.{places}f}{unit}" if k else "-" for v, k in zip((a, b), known, strict=True)]
    return name, texts[0], texts[1], f"{scale * (b - a):+.{places}f}{change}" if all(known) else ""


def same_images(first: RunRecord, second: RunRecord) -> str:
    """Say what McNemar's exact test finds on the test images that both runs answered."""
    import numpy as np

    from cnnexp.report.analysis.statistics import mcnemar, p_value
    from cnnexp.report.read.runs import read_run

    answers = [read_run(run).answers for run in (first, second)]
    if answers[0] is None or answers[1] is None:
        return "no comparison: a run has no predictions, or unusable ones"
    tasks = [[(run.info.get("data") or {}).get(key) for key in ("name", "classes")] for run in (first, second)]
    if tasks[0] != tasks[1]:
        return "no comparison: the runs were tested on different data"
    shared, mine, theirs = np.intersect1d(answers[0]["ids"], answers[1]["ids"], return_indices=True)
    a, b = ({k: v[k][at] for k in ("labels", "predicted")} for v, at in ((answers[0], mine), (answers[1], theirs)))
    if not len(shared) or (a["labels"] != b["labels"]).any():
        return "no comparison: the runs share no test images, or do not agree on their classes"
    right = [side["predicted"] == side["labels"] for side in (a, b)]
    test = mcnemar(right[0], right[1])
    points = 100 * (right[1].mean() - right[0].mean())
    return (
        f"{len(shared)} shared: {test.only_first} only a has right, {test.only_second} only b; b - a: {points:+.2f} "
        f"points, McNemar's exact p {p_value(test.p, equals=True)}\n"
        "  (of these two networks alone; what other seeds would say is for `cnnexp report`)"
    )


def parting(first: RunRecord, second: RunRecord) -> str:
    """Say where the rows of an epoch and split first differ; times are not compared."""
    a, b = ([{k: v for k, v in r.items() if k not in TIMING} for r in run.rows()] for run in (first, second))
    for number, (mine, theirs) in enumerate(zip(a, b, strict=False)):
        if mine != theirs:
            keys = [k for k in {**mine, **theirs} if mine.get(k) != theirs.get(k)]
            values = ", ".join(f"{k} {mine.get(k)} and {theirs.get(k)}" for k in keys)
            where = f"epoch {mine.get('epoch')}, {mine.get('split')}"
            return f"differ first in row {number + 1} ({where}): {values}"
    if len(a) != len(b):
        return f"the same for {min(len(a), len(b))} rows; then only {'a' if len(a) > len(b) else 'b'} goes on"
    return f"all {len(a)} are the same" if a else "neither run has any"


def steps_parting(first: RunRecord, second: RunRecord) -> str:
    """Say at which training step two runs that kept a hash chain first differ, and in what."""
    from cnnexp.training import hash_chain

    for run in (first, second):
        run.check_file(HASH_CHAIN)
    a, b = (hash_chain.read(run.folder) for run in (first, second))
    shared = len({row["step"] for row in a} & {row["step"] for row in b})
    if not shared:
        return "not known: runs trained with log.hash_chain=true tell at which step they part, and why"
    where = hash_chain.parting(a, b)
    return f"differ first at {where}" if where else f"all {shared} are the same, bit for bit"
