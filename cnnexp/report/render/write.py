"""Write a report: of one study, or of several with an index that leads to them."""

import functools
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnnexp.errors import UserError
from cnnexp.pages.files import is_made_of, make_folders, mark_made_of, write_page
from cnnexp.pages.tables import TERMINAL_WIDTH, Table, to_terminal
from cnnexp.records.run_record import RunRecord
from cnnexp.records.study import read_study
from cnnexp.report import Report
from cnnexp.report.analysis.compare import sentences
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.analysis.judge import summary
from cnnexp.report.analysis.left_out import same_settings, superseded, without_result
from cnnexp.report.analysis.plan import more_seeds, rules_in_words
from cnnexp.report.analysis.units import in_words
from cnnexp.report.figures.images import TestImages, fetch
from cnnexp.report.look import look
from cnnexp.report.read import unfinished
from cnnexp.report.read.changes import stamp
from cnnexp.report.read.collect import find_groups, without_reruns
from cnnexp.report.render import overview, page
from cnnexp.report.render.claim_tables import FACTORIAL_IN_SHORT, is_factorial, tested_effects
from cnnexp.report.render.tables import tables_of
from cnnexp.report.search.findings import read_found
from cnnexp.search.trials import is_search
from cnnexp.storage.untrusted import checked_folder
from cnnexp.text import in_shell, plain, plural, visible

Read = tuple[Path, list[RunRecord], Findings | None, str, str]  # what _read returns of a group
Groups = list[tuple[Path, list[RunRecord]]]
MAX_PAGES = 12  # made together with an overview: more would take minutes


@dataclass(frozen=True)
class Options:
    """How reports are written. figures: False for tables and page only. all_pages: see cnnexp.report.write."""

    baseline: str | None = None
    figures: bool = True
    command: str = ""
    progress: Callable[[str], None] = lambda line: None
    all_pages: bool = False


def write_groups(folder: Path, out: Path, options: Options) -> Report:
    """Write the report of every group at or below `folder`; see cnnexp.report.write."""
    groups = without_reruns(find_groups(folder))
    options = replace(options, command=options.command or in_shell(["cnnexp", "report", str(folder)]))
    if len(groups) == 1 and is_search(groups[0][0]):
        return Report(out / "index.html", _write_search(groups[0][0], out, options, ""))
    if len(groups) == 1:
        findings = look(*groups[0], options.baseline)
        return Report(out / "index.html", _write_group(findings, out, options, ""))
    return _write_studies(folder, out, groups, options)


def _write_studies(folder: Path, out: Path, groups: Groups, options: Options) -> Report:
    """Write the overview, then the pages of those studies that have changed, then new links to these."""
    names = {path: path.relative_to(folder).as_posix() if path != folder else "runs-here" for path, _ in groups}
    places = {path: functools.reduce(checked_folder, Path(name).parts, out) for path, name in names.items()}
    read = [(path, records, *_read(path, records, options.baseline)) for path, records in groups]
    studies = [item for item in read if not is_search(item[0])]
    if studies and not any(item[2] for item in studies) and (options.baseline or len(studies) == len(read)):
        raise UserError(studies[0][3])
    own = dict[Path, str]()
    if options.baseline:
        read = [item if item[2] or item[4] else _with_own_baseline(item, own) for item in read]
    stamps = {path: stamp(path, records, options.baseline, options.figures) for path, records in groups}
    usable = [item for item in read if item[2] or item[4]]
    changed = [item for item in usable if not is_made_of(places[item[0]], stamps[item[0]])]
    left = len(changed) if len(changed) > MAX_PAGES and not options.all_pages else 0

    lines = []
    for path, records, findings, problem, search in read:
        others = [place for place in (out, *names) if place != path and place.is_relative_to(path)]
        line = overview.line(path, records, findings, problem, search, others)
        lines.append(replace(line, note=own.get(path, "")))

    def links() -> list[str]:
        return [f"{name}/index.html" if (places[path] / "index.html").is_file() else "" for path, name in names.items()]

    def write_overview() -> str:
        linked = [replace(line, link=link) for line, link in zip(lines, links(), strict=True)]
        made = overview.tables_of(linked)
        make_folders(out, "tables")
        write_page(out, overview.render(linked, made, options.command), made)
        kept = ", ".join(names[path] for path in own)
        without = f"--baseline has no effect on {kept}, which keep their own\n" if own else ""
        return overview.terminal(linked, out) + without + _not_made(left, options.command)

    earlier, printed = links(), write_overview()
    if left or not changed:
        return Report(out / "index.html", printed)
    options.progress(f"{visible(out / 'index.html')}: the overview is written; its pages follow")
    texts = []
    for count, (path, _, findings, _, _) in enumerate(changed, 1):
        options.progress(f"{names[path]}: page {count} of {len(changed)}")
        if findings is None:
            texts.append(_write_search(path, places[path], options, stamps[path]))
            continue
        texts.append(_write_group(findings, places[path], options, stamps[path]))
    printed = printed if links() == earlier else write_overview()
    return Report(out / "index.html", "\n".join([*texts, printed]))


def _read(path: Path, records: list[RunRecord], baseline: str | None) -> tuple[Findings | None, str, str]:
    """Return the findings on a study, why it cannot be read, and of a search its result in a sentence.

    A study that cannot be read has no findings; the others still have their lines.
    """
    try:
        if is_search(path):
            return None, "", plain(read_found(path).sentences()[0])
        return look(path, records, baseline), _damage(path), ""
    except (UserError, OSError) as error:
        return None, str(error), ""
    except Exception as error:  # `cnnexp report` of the study alone shows where
        return None, f"internal error: {type(error).__name__}: {error}", ""


def _with_own_baseline(item: Read, own: dict[Path, str]) -> Read:
    """Read a study again that refuses the baseline of the command, with its own one; a note says so, also in `own`."""
    path, records, _, refused, _ = item
    findings, problem, search = _read(path, records, None)
    if findings is None:
        return path, records, None, problem, search
    base = findings.baseline
    own[path] = f"{refused}. Here it has no effect: {f'compared with {base.label}' if base else 'nothing is compared'}."
    findings.study.notes.append(own[path])
    return path, records, findings, problem, search


def _write_search(path: Path, out: Path, options: Options, made_of: str) -> str:
    """Write the report of a search; return its text for a terminal. made_of: as `_write_group`."""
    from cnnexp.report.search import page as search_page

    text = search_page.write(path, out, options.figures, options.command, options.progress)
    mark_made_of(out, made_of)
    return text


def _damage(path: Path) -> str:
    """Return why a study's study.json cannot be read; a report is made without it."""
    try:
        read_study(path)
    except UserError as error:
        return str(error)
    return ""


def _not_made(pages: int, command: str) -> str:
    if not pages:
        return ""
    more = f"{command} --all-pages" if "--all-pages" not in command else command
    return f"{pages} studies have changed since their pages were made. To make these pages too:\n  {more}\n"


def _write_group(findings: Findings, out: Path, options: Options, made_of: str) -> str:
    """Write one report; return its text for a terminal. made_of: a stamp of the records, "" for none."""
    make_folders(out)
    made, name = tables_of(findings), findings.study.name
    drawn, images, data = [], TestImages(), None
    if options.figures:
        from cnnexp.report.figures.draw import draw  # imports matplotlib, which takes longer than all the rest
        from cnnexp.report.render.plot_data import page_data

        options.progress(f"{name}: drawing figures")
        images = fetch(findings.examples)
        for line in images.missing:
            options.progress(f"{name}: {line}")
        drawn, data = draw(findings, images), page_data(findings, images)
    write_page(out, page.render(findings, made, drawn, options.command, images.missing, data), made, drawn)
    mark_made_of(out, made_of)
    return terminal(findings, made)


MEANINGS = (  # of the verdicts that are easily misread: verdict, the pattern it is found by, what it means
    ("within noise", "within noise", "these {units} show no difference; that does not prove that there is none"),
    ("not decided", r"not decided \(n = \d+\)", "these {units} are too few for a verdict{more}"),
    ("no spread", r"not decided \(n = \d+, no spread\)", "all {units} are equal, and a t-test needs values that vary"),
)


def terminal(findings: Findings, made: Mapping[str, Table[Any]]) -> str:
    """Return the comparison, its headline, claims, effects and what the reader must know, as lines of text."""
    study = findings.study
    lines = [f"{study.name}: {study.question}" if study.question else study.name, ""]
    if findings.rows:
        lines.append(to_terminal(made["comparison.md"]))
        if findings.baseline:
            lines += in_words(["Difference: points against the baseline, {paired}. [ ]: 95 % intervals."], study.folds)
    lines.append(f"{sentences(study, findings.rows)[0]} {without_result(study)}".rstrip())
    if findings.judged:
        lines += ["", to_terminal(made["claims.md"])]
        lines += [f"Claims: {summary(findings.judged)}. Reasons: tables/claims.md"]
    if study.reported or (findings.judged and study.source):
        lines += [f"Reported: {study.source or 'the source is not given'}"]
    if findings.effects:
        lines += ["", to_terminal(tested_effects(findings))]
        lines += textwrap.wrap(FACTORIAL_IN_SHORT, TERMINAL_WIDTH) if is_factorial(findings) else []
    above = "\n".join(lines)
    meanings = [f"{verdict}: {why}." for verdict, pattern, why in MEANINGS if re.search(pattern, above)]
    lines += in_words(meanings, study.folds)
    lines += [said] if (said := unfinished.sentence([*study.arms, *study.under_way])) else []
    if rules := rules_in_words(findings):
        lines += textwrap.wrap(f"Judged: {' '.join(rules)}", TERMINAL_WIDTH, subsequent_indent="  ")
    if advice := same_settings(findings) or more_seeds(findings):
        lines += [advice[0], f"  {advice[1]}"]
    lines += [f"Read with care: {note}" for note in findings.warnings]
    if study.left_out:
        kinds = sorted({run.status for run in study.left_out})
        lines.append(
            f"Not in the table: {plural(len(study.left_out), 'run')} ({', '.join(kinds)}); the page gives the reasons."
        )
        lines += [said] if (said := superseded(study)) else []
    return "\n".join(lines) + "\n"
