"""Put a report together on disk: one group, or several with an index that leads to them."""

import functools
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

from cnnexp import storage, text
from cnnexp.errors import UserError
from cnnexp.pages import tables
from cnnexp.pages.files import make_folders, replace_files
from cnnexp.pages.tables import Table
from cnnexp.records.run_record import RunRecord
from cnnexp.report import Report
from cnnexp.report.analysis import calibration, classes, diagnostics, disagreement, examples, reported_comparison
from cnnexp.report.analysis.compare import sentences
from cnnexp.report.analysis.findings import Findings, analyse
from cnnexp.report.analysis.judge import summary
from cnnexp.report.figures.images import TestImages, fetch
from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.render import claim_tables, columns, page, verdicts
from cnnexp.storage.untrusted import checked_folder

TERMINAL = 120  # columns


def write_groups(
    folder: Path, out: Path, baseline: str | None, figures: bool, command: str, tell: Callable[[str], None]
) -> Report:
    """Write the report of every group at or below `folder`; see cnnexp.report.write."""
    groups = find_groups(folder)
    command = command or shlex.join(["cnnexp", "report", str(folder)])
    try:
        if len(groups) == 1:
            findings = analyse(collect(*groups[0], baseline))
            return Report(out / "index.html", _write_group(findings, out, figures, command, tell))
        return _write_several(groups, folder, out, baseline, figures, command, tell)
    except OSError as error:
        raise UserError(f"{error.filename or out}: cannot write the report ({error.strerror or error})") from error


def _write_several(
    groups: list[tuple[Path, list[RunRecord]]],
    folder: Path,
    out: Path,
    baseline: str | None,
    figures: bool,
    command: str,
    tell: Callable[[str], None],
) -> Report:
    pages, printed, studies = [], [], []
    for path, records in groups:
        name = path.relative_to(folder).as_posix() if path != folder else "runs-here"
        findings = analyse(collect(path, records, baseline))
        study = findings.study
        studies.append(findings)
        place = functools.reduce(checked_folder, Path(name).parts, out)
        printed.append(_write_group(findings, place, figures, command, tell))
        headline = sentences(study, findings.rows)[0]
        pages.append(
            {"link": f"{name}/index.html", "name": study.name, "question": study.question, "headline": headline}
        )
    storage.make_folder(out / "tables")
    files = {f"tables/{name}": text for name, text in tables_over(studies).items()}
    replace_files(out, files | {"index.html": page.render_overview(pages, studies, command)})
    if verdict := verdicts.count(studies):
        printed.append(f"Claims of all studies: {verdict}. {out / 'tables' / 'claims.md'}\n")
    return Report(out / "index.html", "\n".join(printed))


def tables_over(studies: list[Findings]) -> dict[str, str]:
    """Return the tables over all studies as {name: content}."""
    claims, beside = verdicts.of_claims(studies), verdicts.of_reported(studies)
    texts = {"studies.md": tables.to_markdown(verdicts.of_sizes(studies))}
    if claims.rows:
        texts["claims.md"] = _with_notes(claims, claim_tables.CLAIM_NOTES)
        texts["claims.csv"] = tables.to_csv(*verdicts.of_claims_csv(studies))
    if beside.rows:
        texts["reported.md"] = _with_notes(beside, verdicts.notes(studies))
    return texts


def _write_group(findings: Findings, out: Path, with_figures: bool, command: str, tell: Callable[[str], None]) -> str:
    """Write one report; return what the terminal shows of it."""
    make_folders(out)
    files: dict[str, str | bytes] = {f"tables/{name}": text for name, text in tables_of(findings).items()}
    name = findings.study.name
    drawn, images = [], TestImages()
    if with_figures:
        from cnnexp.report.figures.draw import draw  # imports matplotlib, which takes longer than all the rest

        tell(f"{name}: drawing figures")
        images = fetch(findings.examples)
        for line in images.missing:
            tell(f"{name}: {line}")
        drawn = draw(findings, images)
    for figure in drawn:
        files[f"figures/{figure.name}.png"] = figure.png
        files[f"figures/{figure.name}.svg"] = figure.svg
    files["index.html"] = page.render(findings, drawn, command, images.missing)
    replace_files(out, files)
    return terminal(findings)


def tables_of(findings: Findings) -> dict[str, str]:
    """Return the tables of a study's report as {name: content}."""
    study, rows, classes_of = findings.study, findings.rows, list(findings.classes.values())
    whole, short = columns.comparison(rows), columns.comparison(rows, columns.ACCURACY)
    cost, runs = columns.cost([r for r in rows if r.test.n]), columns.runs(study)
    texts = {
        "comparison.md": _with_notes(whole, columns.NOTES),
        "comparison.csv": tables.to_csv(*columns.comparison_csv(rows)),
        "comparison.tex": tables.to_latex(short, columns.NOTES),
        "cost.md": tables.to_markdown(cost),
        "cost.tex": tables.to_latex(cost, ("seconds per run, mean over the seeds",)),
        "runs.md": tables.to_markdown(runs),
        "runs.csv": tables.to_csv(*columns.runs_csv(study)),
    }
    per_class = classes.per_class(classes_of)
    if per_class:
        texts["per_class.md"] = tables.to_markdown(per_class)
        texts["per_class.csv"] = tables.to_csv(*classes.per_class_csv(classes_of))
        texts["per_class.tex"] = tables.to_latex(per_class, ("accuracy in %, mean and deviation over the seeds",))
    return texts | _found(findings) | _answers(findings)


def _answers(findings: Findings) -> dict[str, str]:
    """Return the tables of single test images, of classes against the baseline, and of calibration."""
    texts: dict[str, str] = {}
    if calibrated := findings.calibrations:
        table = calibration.table(calibrated)
        texts["calibration.md"] = _with_notes(table, calibration.NOTES)
        texts["calibration.csv"] = tables.to_csv(*calibration.csv(calibrated))
        texts["calibration.tex"] = tables.to_latex(table, calibration.NOTES)
        texts["calibration_bins.csv"] = tables.to_csv(*calibration.bins_csv(calibrated))
        texts["confusions.csv"] = tables.to_csv(*classes.confusions_csv(list(findings.classes.values())))
        texts["mistakes.csv"] = tables.to_csv(*examples.csv(findings.examples))
    if found := findings.disagreements:
        texts["disagreement.md"] = _with_notes(disagreement.table(found), disagreement.NOTES)
        texts["disagreement.csv"] = tables.to_csv(*disagreement.csv(found))
        texts["never_agreed.csv"] = tables.to_csv(*examples.never_agreed_csv(findings.examples))
        texts["per_class_difference.md"] = tables.to_markdown(disagreement.class_table(findings))
        texts["per_class_difference.csv"] = tables.to_csv(*disagreement.class_csv(findings))
    return texts


def _found(findings: Findings) -> dict[str, str]:
    """Return the tables of what was reported, claimed, and found by the arithmetic of the arms, where there is any."""
    texts: dict[str, str] = {}
    source = (f"Reported: {findings.study.source}",) if findings.study.source else ()
    if reported := findings.reported:
        table = reported_comparison.table(reported)
        texts["reported.md"] = _with_notes(table, (*source, *reported_comparison.NOTES))
        texts["reported.csv"] = tables.to_csv(*reported_comparison.csv(reported))
    if judged := findings.judged:
        texts["claims.md"] = _with_notes(claim_tables.claims(judged), (*source, *claim_tables.CLAIM_NOTES))
        texts["claims.csv"] = tables.to_csv(*claim_tables.claims_csv(judged))
    if found := findings.effects:
        texts["effects.md"] = _with_notes(claim_tables.effects(found), claim_tables.effect_notes(found))
        texts["effects.csv"] = tables.to_csv(*claim_tables.effects_csv(found))
    if (section := diagnostics.section(findings.probes))["arms"]:
        said = [f"{arm['label']}: {sentence}" for arm in section["arms"] for sentence in arm["sentences"]]
        texts["diagnostics.md"] = _with_notes(section["table"], (*said, *section["notes"]))
    return texts


def _with_notes(table: Table, notes: Iterable[str]) -> str:
    """Return a table in Markdown, and its notes below it."""
    return tables.to_markdown(table) + "\n" + "\n".join(f"{text.markdown(note)}  " for note in notes) + "\n"


def terminal(findings: Findings) -> str:
    """Return the comparison, its headline, and what the reader must know, as lines of text."""
    study, rows = findings.study, findings.rows
    lines = [f"{study.name}: {study.question}" if study.question else study.name, ""]
    if rows:
        lines.append(tables.to_terminal(columns.comparison_terminal(rows, study.reported), TERMINAL))
        if study.baseline:
            lines.append(
                "Difference: points against the baseline, paired by seed; [ ]: 95 % intervals; verdicts after Holm."
            )
    lines.append(sentences(study, rows)[0])
    lines += _claims_and_effects(findings)
    lines += [f"Read with care: {note}" for note in study.notes]
    if study.left_out:
        count = len(study.left_out)
        kinds = sorted({run.status for run in study.left_out})
        lines.append(f"Not in the table: {count} run{'s' * (count != 1)} ({', '.join(kinds)}); the page says why.")
    return "\n".join(lines) + "\n"


def _claims_and_effects(findings: Findings) -> list[str]:
    """Return the verdicts on the claims, where the reported numbers are from, and the tested effects, as lines."""
    judged, found, study, lines = findings.judged, findings.effects, findings.study, []
    if judged:
        lines += ["", tables.to_terminal(claim_tables.claims_terminal(judged), TERMINAL)]
        lines += [f"Claims: {summary(judged)}. Why, and what would decide: tables/claims.md"]
    if study.reported or (judged and study.source):
        lines += [f"Reported: {study.source or 'the source is not given'}"]
    if found:
        lines += ["", tables.to_terminal(claim_tables.effects_terminal(found), TERMINAL)]
    return lines
