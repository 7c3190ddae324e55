"""Every table of a report, by file name. The page, the files on disk and `verify` all use these lists."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from cnnexp.pages.tables import Column, Table
from cnnexp.report.analysis.diagnostics import sentences
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.analysis.units import in_words
from cnnexp.report.read.runs import Run
from cnnexp.report.render import claim_tables, class_tables, comparison_tables, prediction_tables
from cnnexp.report.render.probe_table import diagnostics
from cnnexp.text import DASH


def tables_of(findings: Findings) -> dict[str, Table[Any]]:
    """Return every table of a study's report by file name, such as "comparison.md"; the ending names the form.

    Nothing is written or formatted yet. A table that the study has no data for is missing.
    """
    return {f"{name}.{form}": table for name, forms, table in _tables(findings) for form in forms.split()}


def _tables(findings: Findings) -> Iterator[tuple[str, str, Table[Any]]]:
    """Yield name, forms and table."""
    comparison, arms = comparison_tables.comparison(findings), list(findings.classes.values())
    yield "comparison", "md csv", comparison
    yield "comparison", "tex", comparison_tables.for_papers(findings)
    yield "cost", "md tex", comparison_tables.cost(findings.rows)
    yield "runs", "md", comparison_tables.readable_runs(findings.study)
    yield "runs", "csv", Table(comparison_tables.run_columns(findings.study), findings.study.runs)
    if class_tables.same_classes(arms):
        yield "per_class", "md tex", class_tables.per_class(arms)
        yield "per_class", "csv", class_tables.per_class_csv(arms)
    if arms:
        yield "scores", "md csv tex", comparison_tables.scores(findings.rows)
    source = tuple(_source(findings))
    if findings.reported:
        notes = (*source, *in_words(claim_tables.REPORTED_NOTES, findings.study.folds))
        yield "reported", "md csv tex", Table(claim_tables.REPORTED, findings.reported, notes)
    if findings.judged:
        notes = (*source, *claim_tables.claim_notes(findings.judged))
        columns = claim_tables.claim_columns(findings.judged)
        yield "claims", "md csv", Table(columns, findings.judged, notes)
        in_short = [column for column in columns if column.kind != "reason"]
        yield "claims", "tex", Table(in_short, findings.judged, notes)
    if findings.effects:
        yield "effects", "md csv tex", claim_tables.effects(findings)
    if findings.probes:
        said = [f"{probes.arm.label}: {sentence}" for probes in findings.probes for sentence in sentences(probes)]
        table = diagnostics(findings.probes)
        yield "diagnostics", "md", replace(table, notes=(*said, *table.notes))
    if findings.calibrations:
        said = in_words(prediction_tables.CALIBRATION_NOTES, findings.study.folds)
        yield "calibration", "md csv tex", Table(prediction_tables.CALIBRATION, findings.calibrations, said)
        yield "calibration_bins", "csv", prediction_tables.calibration_bins(findings)
        yield "confusions", "csv", class_tables.confusions_csv(arms)
        yield "mistakes", "csv", prediction_tables.all_mistakes(findings)
    if findings.disagreements:
        yield "disagreement", "md csv", prediction_tables.disagreement(findings)
        yield "never_agreed", "csv", prediction_tables.never_agreed(findings)
        yield "per_class_difference", "md", class_tables.class_differences(findings)
        yield "per_class_difference", "csv", class_tables.class_differences_csv(findings)


def _source(findings: Findings) -> list[str]:
    """Say where reported numbers come from, and which data the runs had."""
    data = sorted({run.text("data", "name") for arm in findings.arms for run in arm.runs} - {""})
    here = f" The runs here: {', '.join(data)}." if data else ""
    return [f"Source of the reported numbers: {findings.study.source}.{here}"] if findings.study.source else []


def tables_of_studies(studies: Sequence[Findings]) -> dict[str, Table[Any]]:
    """Return the tables over all studies of a folder by file name."""
    made: dict[str, Table[Any]] = {"studies.md": Table(STUDIES, [f for f in studies if _runs(f)])}
    if claims := [(findings, judged) for findings in studies for judged in findings.judged]:
        judged = [judged for _, judged in claims]
        shown = [column for column in claim_tables.claim_columns(judged) if column.heading not in ("p", "Limit")]
        made["claims.md"] = _of_studies(shown, claims, claim_tables.claim_notes(judged))
        made["claims.csv"] = _of_studies(claim_tables.CLAIMS, claims)
    if reported := [(findings, row) for findings in studies for row in findings.reported]:
        folds = max(findings.study.folds for findings, _ in reported)
        sources = [f"{findings.study.name}: {findings.study.source}." for findings in studies if findings.study.source]
        notes = (*sources, *in_words(claim_tables.REPORTED_NOTES, folds))
        made["reported.md"] = _of_studies(claim_tables.REPORTED, reported, notes)
    return made


def _of_studies(
    columns: Iterable[Column[Any]], rows: Sequence[tuple[Findings, Any]], notes: Sequence[str] = ()
) -> Table[Any]:
    """Return a table of several studies, the name of the study in front; rows: (study, row of `columns`)."""

    def inner(column: Column[Any]) -> Column[tuple[Findings, Any]]:
        return replace(column, value=lambda row: column.value(row[1]))

    study: Column[tuple[Findings, Any]] = Column("Study", "study", lambda row: row[0].study.name, kind="label")
    return Table([study, *map(inner, columns)], rows, notes)


def _runs(findings: Findings) -> list[Run]:
    return [run for arm in findings.arms for run in (*arm.runs, *arm.diverged)]


def _each(get: Callable[[Run], str]) -> Callable[[Findings], str]:
    """Return the value of a column: the different values of a study's runs, in order."""
    return lambda findings: ", ".join(dict.fromkeys(get(run) for run in _runs(findings)))


def _side(run: Run) -> str:
    image = run.get("data", "image")
    return f"{image[-1]}" if isinstance(image, list) and image else DASH


def _minutes(findings: Findings) -> str:
    return f"{sum(s for run in _runs(findings) if math.isfinite(s := run.number('seconds', 'train'))) / 60:.1f}"


STUDIES: list[Column[Findings]] = [
    Column("Study", "", lambda f: f.study.name, kind="label"),
    Column("Data", "", _each(lambda run: run.text("data", "name")), kind="label"),
    Column("Training images", "", _each(lambda run: f"{run.number('data', 'train'):,.0f}")),
    Column("Pixels", "", _each(_side)),
    Column("Epochs", "", _each(lambda run: f"{run.number('schedule', 'epochs'):g}")),
    Column("Arms", "", lambda f: len(f.arms)),
    Column("Seeds", "", lambda f: len({run.seed for run in _runs(f)})),
    Column("Runs", "", lambda f: len(_runs(f))),
    Column("Precision", "", _each(lambda run: run.text("device", "precision")), kind="label"),
    Column("Device", "", _each(lambda run: run.text("device", "name")), kind="label"),
    Column("Training (min)", "", _minutes),
]
