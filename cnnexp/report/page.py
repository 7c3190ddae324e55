"""The page: one HTML file that holds everything, opens offline and runs nothing. The template engine escapes."""

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cnnexp.report import classes, columns, diagnostics, findings, reported
from cnnexp.report.collect import Arm, Study
from cnnexp.report.compare import Row, sentences
from cnnexp.report.effects import effects
from cnnexp.report.judge import judge, summary
from cnnexp.report.runs import Run
from cnnexp.report.tables import Table

if TYPE_CHECKING:
    from cnnexp.report.style import Figure

SECTIONS = {
    "comparison": "Comparison",
    "reported": "Reported and reproduced",
    "effects": "Effects",
    "figures": "Figures",
    "arms": "Arm by arm",
    "diagnostics": "Diagnostics",
    "cost": "Cost",
    "environment": "Environment",
    "left-out": "Runs not in the table",
    "runs": "Runs",
}
APART = ("confusion_", "cost", "probes_")  # figures that have a place of their own
ENVIRONMENT = (
    ("Device", ("device", "name")),
    ("Kind", ("device", "kind")),
    ("Precision", ("device", "precision")),
    ("Threads", ("device", "threads")),
    ("Data", ("data", "name")),
    ("Data fingerprint", ("data", "fingerprint")),
    ("Python", ("environment", "python")),
    ("torch", ("environment", "torch")),
    ("torchvision", ("environment", "torchvision")),
    ("Platform", ("environment", "platform")),
    ("Host", ("environment", "host")),
    ("cnnexp", ("code", "version")),
    ("Commit", ("code", "commit")),
    ("Code digest", ("code", "digest")),
)


def render(study: Study, rows: Sequence[Row], figures: Sequence["Figure"], command: str) -> str:
    """Return the report's page. command: the one that made the report."""
    by_name = {figure.name: figure for figure in figures}
    comparison = columns.comparison(list(rows))
    context = {
        "study": study,
        "sentences": sentences(study, list(rows)),
        "comparison": comparison,
        "notes": columns.NOTES,
        "rule": _rule(study),
        "figures": [f for f in figures if f.name == "confusion_all" or not f.name.startswith(APART)],
        "cost_figure": by_name.get("cost"),
        "cost": columns.cost([row for row in rows if row.test.n]),
        "arms": [_arm(arm, by_name) for arm in study.arms],
        "per_class": classes.per_class(study.arms),
        "environment": _environment([run for arm in study.arms for run in arm.runs]),
        "left_out": columns.left_out(study),
        "runs": columns.runs(study),
        "commands": _commands(study),
        "repeats": _repeats(run for arm in study.arms for run in arm.runs),
        "report_command": command,
        **_found(study),
        "diagnostics": diagnostics.section(study),
        "figure_of": by_name,
    }
    shown = {"arms": context["arms"], "figures": context["figures"], "environment": context["environment"]}
    tables = {
        "comparison": comparison,
        "effects": context["effects"],
        "cost": context["cost"],
        "left-out": context["left_out"],
        "runs": context["runs"],
    }
    shown |= {name: table.rows for name, table in tables.items() if isinstance(table, Table)}
    shown["diagnostics"] = context["diagnostics"]["arms"]
    shown["reported"] = context["beside"].rows or context["claims"].rows
    context["sections"] = [(name, title) for name, title in SECTIONS.items() if shown[name]]
    return _engine().get_template("page.html.j2").render(context)


def _found(study: Study) -> dict[str, Any]:
    """Return what the page shows of reported numbers, claims and effects; tables without rows where there are none."""
    judged, found = judge(study), effects(study)
    return {
        "beside": reported.table(reported.beside(study)),
        "beside_notes": reported.NOTES,
        "claims": findings.claims(judged),
        "claims_summary": summary(judged),
        "claim_notes": findings.CLAIM_NOTES,
        "effects": findings.effects(found),
        "effect_notes": findings.effect_notes(found),
    }


def render_overview(pages: Sequence[dict[str, str]], command: str) -> str:
    """Return the page that leads to several reports, each {link, name, question, headline}."""
    return _engine().get_template("overview.html.j2").render(pages=pages, report_command=command)


def _engine() -> Environment:
    engine = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    engine.filters["base64"] = lambda content: base64.b64encode(content).decode("ascii")
    return engine


def _arm(arm: Arm, figures: dict[str, "Figure"]) -> dict[str, Any]:
    summaries = classes.class_accuracies(arm)
    names = classes.class_names(arm)
    rows = [[name, columns.percent(s)] for name, s in zip(names, summaries, strict=True)]
    return {
        "label": arm.label,
        "changes": arm.first.texts("changes"),
        "fingerprint": arm.first.text("fingerprint"),
        "seeds": ", ".join(str(run.seed) for run in arm.runs),
        "figure": figures.get(f"confusion_{arm.key}"),
        "has_predictions": classes.confusion(arm) is not None,
        "classes": Table(["Class", "Accuracy (%)"], rows) if rows else None,
        "confused": classes.most_confused(arm),
        "repeats": _repeats(arm.runs),
    }


def _rule(study: Study) -> str:
    """State how the reported epoch was chosen, with the sizes of the splits if all arms share them."""
    runs = [run for arm in study.arms for run in arm.runs]
    sizes = {tuple(columns.number(run.number("data", split)) for split in ("train", "val", "test")) for run in runs}
    train, val, test = sizes.pop() if len(sizes) == 1 else ("", "", "")
    split = f" ({train} images to train on, {val} to validate)" if train not in ("", columns.DASH) else ""
    images = f" ({test} images)" if test not in ("", columns.DASH) else ""
    return (
        f"Validation is split off the training set{split}. The best epoch is the one with the highest validation "
        f"accuracy, ties to the earlier. The test set{images} is evaluated once, on that epoch's checkpoint."
    )


def _environment(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return what the runs were made with; where they differ, every value."""
    found = [(name, list(dict.fromkeys(t for r in runs if (t := r.text(*path))))) for name, path in ENVIRONMENT]
    return [(name, "; ".join(values)) for name, values in found if values]


def _commands(study: Study) -> list[str]:
    """Return what was typed to make the runs in the table, each once."""
    typed = [study.command, *(run.text("command") for arm in study.arms for run in arm.runs)]
    return list(dict.fromkeys(t for t in typed if t))


def _repeats(runs: Iterable[Run]) -> list[tuple[str, str]]:
    return [(run.name, command) for run in runs if (command := run.text("repeat"))]
