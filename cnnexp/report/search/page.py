"""The page of a search, its figures and tables. The template engine escapes."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnexp.config.words import as_word
from cnnexp.pages import plotly
from cnnexp.pages.files import make_folders, write_page
from cnnexp.pages.tables import Column, Table, to_terminal
from cnnexp.records.names import short_keys
from cnnexp.report.search.findings import Found, Importance, read_found
from cnnexp.search.trials import Trial
from cnnexp.text import duration, plain

if TYPE_CHECKING:
    from cnnexp.pages.style import Figure

TEMPLATES = Path(__file__).parent / "templates"
TOP = 8  # trials in a terminal


def write(folder: Path, out: Path, with_figures: bool, command: str, progress: Callable[[str], None]) -> str:
    """Write the report of a search; return its text for a terminal."""
    found = read_found(folder)
    make_folders(out)
    made, drawn, data = tables_of_search(found), [], None
    if with_figures:
        from cnnexp.report.search.figures import draw  # imports matplotlib
        from cnnexp.report.search.plot_data import page_data

        progress(f"{folder.name}: drawing figures")
        drawn, data = draw(found), page_data(found)
    write_page(out, render(found, made, drawn, data, command), made, drawn)
    return terminal(found, made)


def render(
    found: Found, tables: dict[str, Table[Any]], drawn: "Sequence[Figure]", data: dict[str, Any] | None, command: str
) -> str:
    """Return the page. data: of the interactive figures; None for images."""
    context: dict[str, Any] = {
        "name": plain(found.search.folder.name),
        "sentences": [plain(sentence) for sentence in found.sentences()],
        "best": plain(found.command),
        "retrained": found.retrained.count,
        "space": space_table(found),
        "tables": tables,
        "figures": {figure.name: figure for figure in drawn},
        "why_none": "" if found.importances else found.why_no_importances,
        "command": plain(found.search.command),
        "report_command": command,
    }
    return plotly.render(TEMPLATES, "search.html.j2", context, ["search.js"], data if drawn else None)


def tables_of_search(found: Found) -> dict[str, Table[Any]]:
    """Return the tables of a search, by file name."""
    made = {name: trial_table(found) for name in ("trials.csv", "trials.md")}
    if found.importances:
        made |= {name: importance_table(found) for name in ("importances.csv", "importances.md")}
    return made


def terminal(found: Found, made: dict[str, Table[Any]]) -> str:
    """Return the sentences, the best trials, the importances and the next command, as lines of text."""
    lines = [plain(found.search.folder.name), "", *map(plain, found.sentences())]
    if found.complete:
        lines += ["", to_terminal(Table(trial_table(found).columns, found.complete[:TOP]))]
    if "importances.md" in made:
        lines += [to_terminal(made["importances.md"])]
    if found.command and not found.retrained.count:
        lines += ["train the best settings on new seeds, and test once:", f"  {plain(found.command)}"]
    return "\n".join(lines) + "\n"


def trial_table(found: Found) -> Table[Trial]:
    """Return the table of all trials, the best first."""
    short = short_keys(found.search.space)
    order = [*found.complete, *(trial for trial in found.trials if trial.value is None)]
    name = found.search.metric.replace("validation", "Val")

    def value(key: str) -> Callable[[Trial], str]:
        return lambda trial: plain(as_word(trial.params[key]))

    columns = [
        Column("Trial", "trial", lambda trial: trial.number, str, "label", "Trial"),
        Column(name, "value", lambda trial: math.nan if trial.value is None else trial.value,
               lambda x: found.shown(None if math.isnan(x) else x), terminal=name),
        *(Column(short[key], key, value(key), terminal=short[key]) for key in found.search.space),
        Column("State", "state", lambda trial: trial.shown_state, kind="words", terminal="State"),
        Column("Epochs", "epochs", lambda trial: trial.epochs, terminal="Epochs"),
        Column("Time", "seconds", lambda trial: trial.seconds, duration, terminal="Time"),
        Column("Reason", "message", lambda trial: plain(trial.message), kind="reason"),
    ]  # fmt: skip
    if not any(trial.message for trial in order):
        columns.pop()
    return Table(columns, order)


def importance_table(found: Found) -> Table[Any]:
    """Return the table of importances."""

    def interval(one: Importance) -> str:
        return f"[{100 * one.low:.0f}, {100 * one.high:.0f}]"

    columns: list[Column[Any]] = [
        Column("Setting", "setting", lambda one: plain(one.key), kind="label", terminal="Setting"),
        Column("Importance (%)", "share", lambda one: 100 * one.share, lambda x: f"{x:.0f}", terminal="Importance (%)"),
        Column("95 % interval", "", interval, terminal="95 % interval"),
        Column("", "low95", lambda one: 100 * one.low),
        Column("", "high95", lambda one: 100 * one.high),
    ]
    return Table(columns, found.importances)


def space_table(found: Found) -> Table[Any]:
    """Return the table of the space, with the best settings."""
    best = found.best

    def chosen(row: Any) -> str:
        return plain(as_word(best.params[row[0]])) if best else "-"

    columns: list[Column[Any]] = [
        Column("Setting", "setting", lambda row: plain(row[0]), kind="label"),
        Column("Tried", "tried", lambda row: plain(str(row[1])), kind="words"),
        Column("Best", "best", chosen),
    ]
    return Table(columns, list(found.search.space.items()))
