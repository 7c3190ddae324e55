"""Write a report: of one study, or of several with an index that leads to them."""

import functools
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cnnexp.pages.files import make_folders, write_page
from cnnexp.pages.tables import TERMINAL_WIDTH, Table, to_terminal
from cnnexp.report import Report
from cnnexp.report.analysis.compare import sentences
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.analysis.judge import summary
from cnnexp.report.analysis.plan import more_seeds, rules_in_words
from cnnexp.report.figures.images import TestImages, fetch
from cnnexp.report.look import look
from cnnexp.report.read import unfinished
from cnnexp.report.read.collect import find_groups
from cnnexp.report.render import page
from cnnexp.report.render.claim_tables import tested_effects
from cnnexp.report.render.tables import tables_of, tables_of_studies
from cnnexp.storage.untrusted import checked_folder
from cnnexp.text import in_shell, plural


def write_groups(
    folder: Path,
    out: Path,
    baseline: str | None,
    figures: bool,
    command: str,
    progress: Callable[[str], None],
    reload_seconds: int = 0,
) -> Report:
    """Write the report of every group at or below `folder`; see cnnexp.report.write."""
    groups = find_groups(folder)
    command = command or in_shell(["cnnexp", "report", str(folder)])
    pages, printed, studies = [], [], []
    for path, records in groups:
        name = "" if len(groups) == 1 else path.relative_to(folder).as_posix() if path != folder else "runs-here"
        findings = look(path, records, baseline)
        place = functools.reduce(checked_folder, Path(name).parts, out)
        printed.append(_write_group(findings, place, figures, command, progress, reload_seconds))
        studies.append(findings)
        headline = sentences(findings.study, findings.rows)[0]
        pages.append({"link": f"{name}/index.html", "headline": headline, "study": findings.study})
    if len(groups) > 1:
        make_folders(out, "tables")
        made, claims = tables_of_studies(studies), summary([judged for found in studies for judged in found.judged])
        write_page(out, page.render_overview(pages, made, claims, command, reload_seconds), made)
        printed += [f"Claims of all studies: {claims}. {out / 'tables' / 'claims.md'}\n"] if claims else []
    return Report(out / "index.html", "\n".join(printed))


def _write_group(
    findings: Findings,
    out: Path,
    with_figures: bool,
    command: str,
    progress: Callable[[str], None],
    reload_seconds: int,
) -> str:
    """Write one report; return its text for a terminal."""
    make_folders(out)
    made, name = tables_of(findings), findings.study.name
    drawn, images, data = [], TestImages(), None
    if with_figures:
        from cnnexp.report.figures.draw import draw  # imports matplotlib, which takes longer than all the rest
        from cnnexp.report.render.plot_data import page_data

        progress(f"{name}: drawing figures")
        images = fetch(findings.examples)
        for line in images.missing:
            progress(f"{name}: {line}")
        drawn, data = draw(findings, images), page_data(findings, images)
    write_page(out, page.render(findings, made, drawn, command, images.missing, reload_seconds, data), made, drawn)
    return terminal(findings, made)


MEANINGS = {  # of the verdicts that are easily misread, by how they start
    "within noise": "these seeds show no difference; that does not prove that there is none",
    "not decided (n": "these seeds are too few for a verdict; more seeds may decide",
}


def terminal(findings: Findings, made: Mapping[str, Table[Any]]) -> str:
    """Return the comparison, its headline, claims, effects and what the reader must know, as lines of text."""
    study = findings.study
    lines = [f"{study.name}: {study.question}" if study.question else study.name, ""]
    if findings.rows:
        lines.append(to_terminal(made["comparison.md"]))
        if findings.baseline:
            lines.append("Difference: points against the baseline, paired by seed. [ ]: 95 % intervals.")
    lines.append(sentences(study, findings.rows)[0])
    if findings.judged:
        lines += ["", to_terminal(made["claims.md"])]
        lines += [f"Claims: {summary(findings.judged)}. Reasons: tables/claims.md"]
    if study.reported or (findings.judged and study.source):
        lines += [f"Reported: {study.source or 'the source is not given'}"]
    if findings.effects:
        lines += ["", to_terminal(tested_effects(findings))]
    lines += [f"{verdict.split(' (')[0]}: {why}." for verdict, why in MEANINGS.items() if verdict in "\n".join(lines)]
    lines += [said] if (said := unfinished.sentence([*study.arms, *study.under_way])) else []
    if rules := rules_in_words(findings):
        lines += textwrap.wrap(f"Judged: {' '.join(rules)}", TERMINAL_WIDTH, subsequent_indent="  ")
    if advice := more_seeds(findings):
        lines += [advice[0], f"  {advice[1]}"]
    lines += [f"Read with care: {note}" for note in findings.warnings]
    if study.left_out:
        kinds = sorted({run.status for run in study.left_out})
        lines.append(
            f"Not in the table: {plural(len(study.left_out), 'run')} ({', '.join(kinds)}); the page gives the reasons."
        )
    return "\n".join(lines) + "\n"
