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
from cnnexp.report.analysis import classes, confidence, diagnostics, disagreement, examples, reported
from cnnexp.report.analysis.compare import Row, compare, sentences
from cnnexp.report.analysis.confidence import calibrations
from cnnexp.report.analysis.effects import effects
from cnnexp.report.analysis.examples import Examples, find_examples
from cnnexp.report.analysis.judge import judge, summary
from cnnexp.report.figures.images import TestImages, fetch
from cnnexp.report.read.collect import Study, collect, find_groups
from cnnexp.report.render import columns, findings, page, verdicts
from cnnexp.storage.trusted import own_folder

TERMINAL = 120  # columns


def write_groups(
    folder: Path, out: Path, baseline: str | None, figures: bool, command: str, tell: Callable[[str], None]
) -> Report:
    """Write the report of every group at or below `folder`; see cnnexp.report.write."""
    groups = find_groups(folder)
    command = command or shlex.join(["cnnexp", "report", str(folder)])
    try:
        if len(groups) == 1:
            study = collect(*groups[0], baseline)
            return Report(out / "index.html", _write_group(study, out, figures, command, tell))
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
        study = collect(path, records, baseline)
        studies.append(study)
        place = functools.reduce(own_folder, Path(name).parts, out)
        printed.append(_write_group(study, place, figures, command, tell))
        headline = sentences(study, compare(study))[0]
        pages.append(
            {"link": f"{name}/index.html", "name": study.name, "question": study.question, "headline": headline}
        )
    storage.make_folder(out / "tables")
    files = _over_all(studies) | {"index.html": page.render_overview(pages, studies, command)}
    replace_files(out, {name: content.encode("utf-8", errors="replace") for name, content in files.items()})
    if verdict := verdicts.count(studies):
        printed.append(f"Claims of all studies: {verdict}. {out / 'tables' / 'claims.md'}\n")
    return Report(out / "index.html", "\n".join(printed))


def _over_all(studies: list[Study]) -> dict[str, str]:
    """Return the tables over all studies as {file: content}."""
    claims, beside = verdicts.of_claims(studies), verdicts.of_reported(studies)
    texts = {"tables/studies.md": tables.to_markdown(verdicts.of_sizes(studies))}
    if claims.rows:
        texts["tables/claims.md"] = _with_notes(claims, findings.CLAIM_NOTES)
        texts["tables/claims.csv"] = tables.to_csv(*verdicts.of_claims_csv(studies))
    if beside.rows:
        texts["tables/reported.md"] = _with_notes(beside, verdicts.notes(studies))
    return texts


def _write_group(study: Study, out: Path, with_figures: bool, command: str, tell: Callable[[str], None]) -> str:
    """Write one report; return what the terminal shows of it."""
    make_folders(out)
    rows, seen = compare(study), find_examples(study)
    files = _tables(study, rows, seen)
    drawn, images = [], TestImages()
    if with_figures:
        from cnnexp.report.figures.draw import draw  # imports matplotlib, which takes longer than all the rest

        tell(f"{study.name}: drawing figures")
        images = fetch(seen)
        for line in images.missing:
            tell(f"{study.name}: {line}")
        drawn = draw(study, rows, seen, images)
    for figure in drawn:
        files[f"figures/{figure.name}.png"] = figure.png
        files[f"figures/{figure.name}.svg"] = figure.svg
    whole = page.render(study, rows, seen, drawn, command, images.missing)
    files["index.html"] = whole.encode("utf-8", errors="replace")
    replace_files(out, files)
    return terminal(study, rows)


def _tables(study: Study, rows: list[Row], seen: Examples) -> dict[str, bytes]:
    """Return the tables as {path in the report: content}."""
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
    per_class = classes.per_class(study.arms)
    if per_class:
        texts["per_class.md"] = tables.to_markdown(per_class)
        texts["per_class.csv"] = tables.to_csv(*classes.per_class_csv(study.arms))
        texts["per_class.tex"] = tables.to_latex(per_class, ("accuracy in %, mean and deviation over the seeds",))
    texts |= _found(study) | _answers(study, seen)
    return {f"tables/{name}": text.encode("utf-8", errors="replace") for name, text in texts.items()}


def _answers(study: Study, seen: Examples) -> dict[str, str]:
    """Return the tables of single test images, of classes against the baseline, and of calibration."""
    texts: dict[str, str] = {}
    if calibrated := calibrations(study.arms):
        table = confidence.table(calibrated)
        texts["calibration.md"] = _with_notes(table, confidence.NOTES)
        texts["calibration.csv"] = tables.to_csv(*confidence.csv(calibrated))
        texts["calibration.tex"] = tables.to_latex(table, confidence.NOTES)
        texts["calibration_bins.csv"] = tables.to_csv(*confidence.bins_csv(calibrated))
        texts["confusions.csv"] = tables.to_csv(*classes.confusions_csv(study.arms))
        texts["mistakes.csv"] = tables.to_csv(*examples.csv(seen))
    if seen.disagreements:
        texts["disagreement.md"] = _with_notes(disagreement.table(seen.disagreements), disagreement.NOTES)
        texts["disagreement.csv"] = tables.to_csv(*disagreement.csv(seen.disagreements))
        texts["never_agreed.csv"] = tables.to_csv(*examples.never_agreed_csv(seen))
        texts["per_class_difference.md"] = tables.to_markdown(disagreement.class_table(study))
        texts["per_class_difference.csv"] = tables.to_csv(*disagreement.class_csv(study))
    return texts


def _found(study: Study) -> dict[str, str]:
    """Return the tables of what was reported, claimed, and found by the arithmetic of the arms, where there is any."""
    texts: dict[str, str] = {}
    source = (f"Reported: {study.source}",) if study.source else ()
    if beside := reported.beside(study):
        texts["reported.md"] = _with_notes(reported.table(beside), (*source, *reported.NOTES))
        texts["reported.csv"] = tables.to_csv(*reported.csv(beside))
    if judged := judge(study):
        texts["claims.md"] = _with_notes(findings.claims(judged), (*source, *findings.CLAIM_NOTES))
        texts["claims.csv"] = tables.to_csv(*findings.claims_csv(judged))
    if found := effects(study):
        texts["effects.md"] = _with_notes(findings.effects(found), findings.effect_notes(found))
        texts["effects.csv"] = tables.to_csv(*findings.effects_csv(found))
    if (section := diagnostics.section(study))["arms"]:
        said = [f"{arm['label']}: {sentence}" for arm in section["arms"] for sentence in arm["sentences"]]
        texts["diagnostics.md"] = _with_notes(section["table"], (*said, *section["notes"]))
    return texts


def _with_notes(table: Table, notes: Iterable[str]) -> str:
    """Return a table in Markdown, and its notes below it."""
    return tables.to_markdown(table) + "\n" + "\n".join(f"{text.markdown(note)}  " for note in notes) + "\n"


def terminal(study: Study, rows: list[Row]) -> str:
    """Return the comparison, its headline, and what the reader must know, as lines of text."""
    lines = [f"{study.name}: {study.question}" if study.question else study.name, ""]
    if rows:
        lines.append(tables.to_terminal(columns.comparison_terminal(rows, study.reported), TERMINAL))
        if study.baseline:
            lines.append(
                "Difference: points against the baseline, paired by seed; [ ]: 95 % intervals; verdicts after Holm."
            )
    lines.append(sentences(study, rows)[0])
    lines += _claims_and_effects(study)
    lines += [f"Read with care: {note}" for note in study.notes]
    if study.left_out:
        count = len(study.left_out)
        kinds = sorted({run.status for run in study.left_out})
        lines.append(f"Not in the table: {count} run{'s' * (count != 1)} ({', '.join(kinds)}); the page says why.")
    return "\n".join(lines) + "\n"


def _claims_and_effects(study: Study) -> list[str]:
    """Return the verdicts on the claims, where the reported numbers are from, and the tested effects, as lines."""
    judged, found, lines = judge(study), effects(study), []
    if judged:
        lines += ["", tables.to_terminal(findings.claims_terminal(judged), TERMINAL)]
        lines += [f"Claims: {summary(judged)}. Why, and what would decide: tables/claims.md"]
    if study.reported or (judged and study.source):
        lines += [f"Reported: {study.source or 'the source is not given'}"]
    if found:
        lines += ["", tables.to_terminal(findings.effects_terminal(found), TERMINAL)]
    return lines
