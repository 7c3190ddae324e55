"""`cnnexp diff`: how two runs differ in configs, versions, results, test images and rows. Imports no torch."""

from typing import Any

from cnnexp.commands import arguments
from cnnexp.errors import EXIT_DONE
from cnnexp.records.fields import HASH_CHAIN
from cnnexp.records.find import find_run
from cnnexp.records.run_record import RunRecord
from cnnexp.text import align, shorten, shorten_all, visible

EXAMPLES = """\
examples:
  cnnexp diff ablation/baseline/0 ablation/dropout/0
  cnnexp diff latest outputs/other/NAME           runs of different studies can be compared too
"""
Row = tuple[str, ...]  # name, a, b, difference
KERNELS = ("instructions", "processor", "threads", "kernel_variables")  # of a CPU: they decide the order of sums
ENVIRONMENT = ("code", "user_code", "environment", "device", "data", "model", "schedule")
MAX_VALUE = 1e30  # a larger number is not a measurement, and may not even be formatted
RESULTS = {  # column of a table of runs: factor, decimals, unit, unit of the difference
    **dict.fromkeys(("test_accuracy", "val_accuracy", "train_accuracy"), (100, 2, " %", " points")),
    **dict.fromkeys(("test_loss", "val_loss", "train_loss"), (1, 4, "", "")),
    **dict.fromkeys(("best_epoch", "epochs", "images_per_second", "peak_memory_mib"), (1, 0, "", "")),
    "train_seconds": (1, 1, " s", " s"),
}


def main(argv: list[str]) -> int:
    """Print the differences. Raises UserError if one of the folders is not a run."""
    parser = arguments.parser(
        "diff",
        "Show how two runs differ: config, code, versions, device, data, results, and the first row that differs.",
        EXAMPLES,
    )
    parser.add_argument("first", metavar="RUN", help=arguments.RUN)
    parser.add_argument("second", metavar="RUN")
    given = parser.parse_args(argv)
    first, second = find_run(given.first), find_run(given.second)
    print(f"a  {visible(first.folder)}  ({first.status})\nb  {visible(second.folder)}  ({second.status})")
    _print("config", config_rows(first, second), "the same")
    _print("code, versions, device, data", environment_rows(first, second), "the same")
    if line := other_kernels(first, second, ("in a", "in b")):
        print(f"  {visible(line)}")
    _print("results", result_rows(first, second), "neither run has any")
    print(f"\ntest images\n  {same_images(first, second)}\n\nmetric rows\n  {visible(metric_rows(first, second))}")
    print(f"\ntraining steps\n  {visible(training_steps(first, second))}")
    return EXIT_DONE


def _print(title: str, rows: list[Row], none: str) -> None:
    cells = [["", "a", "b", ""]]
    for name, a, b, difference in rows:  # what differs is shown so that one sees it
        cells.append([shorten(visible(name), 60), *shorten_all([visible(a), visible(b)], 60), visible(difference)])
    print(f"\n{title}\n  " + (align(cells).replace("\n", "\n  ") if rows else none))


def config_rows(first: RunRecord, second: RunRecord) -> list[Row]:
    """Return the settings that differ, by dotted key; a list is one setting."""
    return _differences(first.config(), second.config())


def environment_rows(first: RunRecord, second: RunRecord) -> list[Row]:
    """Return the other facts in run.json that differ: code, versions, device, data, size of the model."""
    facts = [{key: run.info[key] for key in ENVIRONMENT if key in run.info} for run in (first, second)]
    return [row for row in _differences(*facts) if row[0] != "data.prepare_seconds"]


def other_kernels(first: RunRecord, second: RunRecord, names: tuple[str, str]) -> str:
    """Warn that two runs on a CPU added numbers in different orders; "" if nothing recorded says so.

    names: of the runs, as ("then", "now").
    """
    devices = [run.info.get("device") or {} for run in (first, second)]
    if any(device.get("kind") != "cpu" or "instructions" not in device for device in devices):
        return ""
    changed = [key for key in KERNELS if devices[0].get(key) != devices[1].get(key)]
    sets = [str(device["instructions"]) for device in devices]
    what = ", ".join(f"{sets[i]} {names[i]}" for i in (0, 1)) if sets[0] != sets[1] else ", ".join(changed)
    sentence = f"other CPU kernels ({what}): numbers may differ in the last bits, and training makes differences grow"
    return sentence if changed else ""


def _differences(*nodes: dict[str, Any]) -> list[Row]:
    from cnnexp.config.keys import flatten

    first, second = map(flatten, nodes)
    missing = object()
    rows: list[Row] = []
    for key in {**first, **second}:
        pair = first.get(key, missing), second.get(key, missing)
        if pair[0] != pair[1]:
            a, b = ("-" if value is missing else "null" if value is None else str(value) for value in pair)
            if a == b:  # the text '1' and the number 1
                a, b = ("-" if value is missing else "null" if value is None else repr(value) for value in pair)
            rows.append((key, a, b, ""))
    return rows


def result_rows(first: RunRecord, second: RunRecord) -> list[Row]:
    """Return the numbers of both results, and b - a: percentages and points, nats, seconds."""
    from cnnexp.records.table import row

    results = row(first), row(second)
    rows: list[Row] = []
    for name, (factor, decimals, unit, unit_of_difference) in RESULTS.items():
        a, b = (v if v is not None and abs(v) < MAX_VALUE else None for v in (result[name] for result in results))
        texts = ["-" if value is None else f"{factor * value:.{decimals}f}{unit}" for value in (a, b)]
        difference = "" if a is None or b is None else f"{factor * (b - a):+z.{decimals}f}{unit_of_difference}"
        if texts != ["-", "-"]:
            rows.append((name, *texts, difference))
    return rows


def same_images(first: RunRecord, second: RunRecord) -> str:
    """Describe McNemar's exact test on the test images of both runs."""
    import numpy as np

    from cnnexp.report.analysis.statistics import mcnemar, p_value
    from cnnexp.report.read.runs import read_run

    a, b = (read_run(run).predictions for run in (first, second))
    if a is None or b is None:
        return "no comparison: a run has no predictions, or unusable ones"
    tasks = [[(run.info.get("data") or {}).get(key) for key in ("name", "classes")] for run in (first, second)]
    if tasks[0] != tasks[1]:
        return "no comparison: the runs were tested on different data"
    shared, mine, theirs = np.intersect1d(a.ids, b.ids, return_indices=True)
    if not len(shared) or (a.labels[mine] != b.labels[theirs]).any():
        return "no comparison: the runs share no test images, or do not agree on their classes"
    test = mcnemar(a.right[mine], b.right[theirs])
    points = 100 * (b.right[theirs].mean() - a.right[mine].mean())
    return (
        f"{len(shared)} shared: {test.only_first} only a has right, {test.only_second} only b; b - a: {points:+z.2f} "
        f"points, McNemar's exact p {p_value(test.p, equals=True)}\n"
        "  (this compares these two networks only; `cnnexp report` compares arms over their seeds)"
    )


def metric_rows(first: RunRecord, second: RunRecord) -> str:
    """Describe the first metric row that differs; times are not compared."""
    from cnnexp.records.identical import first_difference, untimed

    count = len(untimed(first))
    return first_difference(first, second) or (f"all {count} are the same" if count else "neither run has any")


def training_steps(first: RunRecord, second: RunRecord) -> str:
    """Describe the first training step at which the hash chains of two runs differ, and in what."""
    from cnnexp.training import hash_chain

    for run in (first, second):
        run.check_file(HASH_CHAIN)
    a, b = (hash_chain.read(run.folder) for run in (first, second))
    shared = len({row["step"] for row in a} & {row["step"] for row in b})
    if not shared:
        return "not known: runs trained with log.hash_chain=true show the step at which they part, and why"
    where = hash_chain.parting(a, b)
    return f"differ first at {where}" if where else f"all {shared} are the same, bit for bit"
