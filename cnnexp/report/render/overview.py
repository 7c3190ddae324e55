"""The page over several studies: a line each, and accuracy against cost of all arms. It draws no figure itself."""

import datetime
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnexp.pages import template
from cnnexp.pages.plotly import SCRIPT, library, rounded
from cnnexp.pages.tables import Column, Table, to_terminal
from cnnexp.records.run_record import RunRecord
from cnnexp.report.analysis.compare import in_short
from cnnexp.report.analysis.cost import COST_HEADINGS, costs_of
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.analysis.judge import summary
from cnnexp.report.read.runs import UNFINISHED
from cnnexp.report.render.answer import status
from cnnexp.report.render.page import TEMPLATES
from cnnexp.report.render.tables import tables_of_studies
from cnnexp.text import in_shell, mib, number, plain, plural, shorten

CHANGED_BY_RUNS = ("run.json", "metrics.jsonl")
MAX_VERDICT = 70  # characters in a terminal


@dataclass(frozen=True)
class Line:
    """A study of the overview. problem: what of it cannot be read, "" if all can. findings: None without usable ones.

    search: of a search, its result in a sentence; "" of a study. note: what else must be known of the verdict.
    link: to its page, relative to the overview, "" if there is none. size: bytes of its folder. changed: seconds since
    1970 of its runs' last change, 0 without runs.
    """

    folder: Path
    statuses: Sequence[str]
    findings: Findings | None
    problem: str = ""
    link: str = ""
    size: int = 0
    changed: float = 0.0
    search: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """Return the study's name as it can be shown."""
        return self.findings.study.name if self.findings else plain(self.folder.name)

    @property
    def verdict(self) -> str:
        """Return the verdict in a sentence, or why there is none."""
        found = self.findings
        if self.search:
            return self.search
        damage = f"Cannot be read: {plain(self.problem)}" if self.problem else ""
        return f"{in_short(found.study, found.rows, most=4)} {damage}".rstrip() if found else damage

    @property
    def status(self) -> tuple[str, str]:
        """Return the kind of the status, and its words."""
        if self.search:
            return "none", "Search"
        return status(self.findings)[:2] if self.findings and not self.problem else ("damaged", "Damaged")

    @property
    def data(self) -> str:
        """Return the names of the data sets."""
        runs = self.findings.study.runs if self.findings else []
        return ", ".join(dict.fromkeys(name for run in runs if (name := run.text("data", "name"))))

    @property
    def done(self) -> int:
        """Return how many runs are done."""
        return self.statuses.count("done")

    @property
    def unfinished(self) -> int:
        """Return how many runs are under way, interrupted or planned."""
        waiting = [run for run in self.findings.study.left_out if run.status == "not run"] if self.findings else []
        return sum(status in UNFINISHED for status in self.statuses) + len(waiting)

    @property
    def without_result(self) -> int:
        """Return how many runs ended without a result: failed, diverged, malformed and skipped ones."""
        return sum(status != "done" and status not in UNFINISHED for status in self.statuses)

    @property
    def day(self) -> str:
        """Return the time of the last change, "" without runs."""
        return f"{datetime.datetime.fromtimestamp(self.changed):%Y-%m-%d %H:%M}" if self.changed else ""

    @property
    def command(self) -> str:
        """Return the command that makes the study's page."""
        return in_shell(["cnnexp", "report", str(self.folder)])


def line(
    folder: Path,
    records: Sequence[RunRecord],
    findings: Findings | None,
    problem: str,
    search: str,
    others: Collection[Path],
) -> Line:
    """Return a study's line, without its link. others: folders below it that are not part of it."""
    statuses = [run.status for run in (findings.study.runs if findings else records)]
    size, changed = _size(folder, others), _changed(records)
    return Line(folder, statuses, findings, problem, "", size, changed, search)


def _size(folder: Path, others: Collection[Path]) -> int:
    """Return the bytes of the files in a folder; links are not followed."""
    total, skipped = 0, set(others)
    for place, below, names in os.walk(folder):
        below[:] = [name for name in below if Path(place, name) not in skipped]
        for name in names:
            try:
                total += Path(place, name).lstat().st_size
            except OSError:  # deleted meanwhile
                continue
    return total


def _changed(records: Sequence[RunRecord]) -> float:
    found = []
    for record in records:
        for name in CHANGED_BY_RUNS:
            try:
                found.append((record.folder / name).lstat().st_mtime)
            except OSError:
                continue
    return max(found, default=0.0)


def render(lines: Sequence[Line], tables: Mapping[str, Table[Any]], command: str) -> str:
    """Return the page. tables: as render.tables.tables_of_studies gives them."""
    data, drawn_by = _data(lines), library()
    statuses = [status for line in lines for status in line.statuses]
    parts = {"done": sum(x.done for x in lines), "unfinished": sum(x.unfinished for x in lines)}
    parts["without a result"] = sum(x.without_result for x in lines)
    context = {
        "lines": lines,
        "mib": mib,
        "total": f"{len(lines):,} studies, {plural(len(statuses), 'run')}: "
        f"{', '.join(f'{n:,} {name}' for name, n in parts.items())}. {mib(sum(x.size for x in lines))} on disk.",
        "missing": [x for x in lines if not x.link and x.findings],
        "tables": tables,
        "claims_summary": claims_of(lines),
        "costs": data["costs"],
        "groups": data["groups"],
        "data": data,
        "library": drawn_by.packed if drawn_by and data["points"] else "",
        "report_command": command,
    }
    scripts = [SCRIPT] * bool(context["library"]) + [TEMPLATES / "overview.js"]
    return template.render(TEMPLATES, "overview.html.j2", context, scripts, [drawn_by.digest] if drawn_by else [])


def terminal(lines: Sequence[Line], out: Path) -> str:
    """Return a line per study, and what became of all claims."""
    table = to_terminal(Table(TERMINAL, lines))
    claims = claims_of(lines)
    return table + (f"Claims of all studies: {claims}. {out / 'tables' / 'claims.md'}\n" if claims else "")


def claims_of(lines: Sequence[Line]) -> str:
    """Return how many claims of all studies hold."""
    return summary([judged for line in lines if line.findings for judged in line.findings.judged])


def tables_of(lines: Sequence[Line]) -> dict[str, Table[Any]]:
    """Return the tables over all studies that can be read."""
    return tables_of_studies([line.findings for line in lines if line.findings])


TERMINAL: list[Column[Line]] = [
    Column("", "", lambda line: line.name, kind="label", terminal="Study"),
    Column("", "", lambda line: line.status[1], kind="label", terminal="Status"),
    Column("", "", lambda line: line.done, terminal="Done"),
    Column("", "", lambda line: line.unfinished, terminal="Unfinished"),
    Column("", "", lambda line: line.without_result, terminal="No result"),
    Column("", "", lambda line: shorten(line.verdict, MAX_VERDICT), kind="words", terminal="Verdict"),
]


def _data(lines: Sequence[Line]) -> dict[str, Any]:
    """Return every arm that has a result, with its costs. groups: of arms with as many test images of the same data."""
    points, groups = [], dict[str, int]()
    for place, line in enumerate(lines):
        for row in line.findings.rows if line.findings else ():
            if not row.test.n:
                continue
            run = row.arm.runs[0]
            group = f"{run.text('data', 'name') or 'unknown data'} ({number(run.number('data', 'test'))} test images)"
            groups[group] = groups.get(group, 0) + 1
            points.append(
                {
                    "study": place,
                    "name": line.name,
                    "arm": row.arm.label,
                    "group": group,
                    "n": row.test.n,
                    "test": rounded(100 * row.test.mean),
                    "costs": costs_of(row.mean),
                }
            )
    return {"points": points, "costs": COST_HEADINGS, "groups": sorted(groups, key=lambda name: (-groups[name], name))}
