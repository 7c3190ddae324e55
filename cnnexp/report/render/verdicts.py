"""All studies of a folder in three tables: verdicts on their claims, reported beside reproduced, how large each was."""

import math
from collections.abc import Iterable, Sequence

from cnnexp.pages.tables import Table
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.analysis.judge import summary
from cnnexp.report.analysis.reported_comparison import NOTES as REPORTED_NOTES
from cnnexp.report.analysis.reported_comparison import table
from cnnexp.report.read.runs import Run
from cnnexp.report.render.claim_tables import WORDS, claims, claims_csv

Cells = list[str | float | int]


def of_claims(studies: Sequence[Findings]) -> Table:
    """Return every claim of every study with what its source reports, what came out here, and the verdict."""
    keep = ("Claim", "Reported", "Reproduced", "95 % interval", "n", "Verdict", "Remark")
    lines = []
    for found in studies:
        whole = claims(found.judged)
        columns = [whole.headings.index(name) for name in keep]
        lines += [[found.study.name, *(row[i] for i in columns)] for row in whole.rows]
    return Table(["Study", *keep], lines, left=2, words=WORDS)


def of_claims_csv(studies: Sequence[Findings]) -> tuple[list[str], list[Cells]]:
    """Return the claims of all studies in full precision: headings, and rows in each claim's own unit."""
    headings, _ = claims_csv([])
    lines: list[Cells] = [[found.study.name, *row] for found in studies for row in claims_csv(found.judged)[1]]
    return ["study", *headings], lines


def of_reported(studies: Sequence[Findings]) -> Table:
    """Return every reported number beside the seeds' mean here; no rows if nothing is reported."""
    lines = [[found.study.name, *row] for found in studies for row in table(found.reported).rows]
    return Table(["Study", *table([]).headings], lines, left=3)


def of_sizes(studies: Sequence[Findings]) -> Table:
    """Return what each study ran on: data, images, pixels, epochs, seeds, runs, precision and hours of training."""
    headings = [
        "Study",
        "Data",
        "Training images",
        "Pixels",
        "Epochs",
        "Arms",
        "Seeds",
        "Runs",
        "Precision",
        "Device",
        "Training (min)",
    ]
    lines = []
    for study in (found.study for found in studies):
        runs = [run for arm in study.arms for run in (*arm.runs, *arm.diverged)]
        if not runs:
            continue
        seconds = [s for run in runs if math.isfinite(s := run.number("seconds", "train"))]
        lines.append(
            [
                study.name,
                _each(run.text("data", "name") for run in runs),
                _each(f"{run.number('data', 'train'):,.0f}" for run in runs),
                _each(_side(run) for run in runs),
                _each(f"{run.number('schedule', 'epochs'):g}" for run in runs),
                f"{len(study.arms)}",
                f"{len({run.seed for run in runs})}",
                f"{len(runs)}",
                _each(run.text("device", "precision") for run in runs),
                _each(run.text("device", "name") for run in runs),
                f"{sum(seconds) / 60:.1f}",
            ]
        )
    return Table(headings, lines, left=2, words=frozenset({"Precision", "Device"}))


def _each(values: Iterable[str]) -> str:
    """Return the different values of the runs, in the order in which they come."""
    return ", ".join(dict.fromkeys(values))


def _side(run: Run) -> str:
    image = run.get("data", "image")
    return f"{image[-1]}" if isinstance(image, list) and image else "-"


def count(studies: Sequence[Findings]) -> str:
    """Count the verdicts over all studies: "5 hold, 9 within noise"; "" without claims."""
    return summary([judged for found in studies for judged in found.judged])


def notes(studies: Sequence[Findings]) -> tuple[str, ...]:
    """Return where the reported numbers are from, a line a study, and how reproduced numbers are made."""
    sources = [f"{study.name}: {study.source}." for study in (found.study for found in studies) if study.source]
    return (*sources, *REPORTED_NOTES)
