"""The page: one HTML file that holds everything, opens offline and runs nothing. The template engine escapes."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnexp.pages.tables import Table
from cnnexp.pages.template import engine
from cnnexp.report.analysis import calibration, classes, diagnostics, disagreement, examples, reported_comparison
from cnnexp.report.analysis.compare import sentences
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.analysis.judge import summary
from cnnexp.report.read.collect import Arm, Study
from cnnexp.report.read.runs import Run
from cnnexp.report.render import claim_tables, columns, verdicts

if TYPE_CHECKING:
    from cnnexp.pages.style import Figure

TEMPLATES = Path(__file__).parent / "templates"
SECTIONS = {
    "comparison": "Comparison",
    "reported": "Reported and reproduced",
    "effects": "Effects",
    "figures": "Figures",
    "arms": "Arm by arm",
    "mistakes": "Most confident mistakes",
    "disagreement": "Where arms disagree",
    "calibration": "Calibration",
    "diagnostics": "Diagnostics",
    "cost": "Cost",
    "environment": "Environment",
    "left-out": "Runs not in the table",
    "runs": "Runs",
}
ELSEWHERE = ("confusion_", "cost", "calibration", "mistakes_", "disagreement_", "probes_")  # with a place of their own
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


def render(
    findings: Findings,
    figures: Sequence["Figure"],
    command: str,
    no_pictures: Sequence[str] = (),
) -> str:
    """Return the report's page. command: the one that made it; no_pictures: why pictures are left out, in lines."""
    by_name = {figure.name: figure for figure in figures}
    study, rows, classes_of = findings.study, findings.rows, list(findings.classes.values())
    comparison = columns.comparison(rows)
    context = {
        "study": study,
        "sentences": sentences(study, rows),
        "comparison": comparison,
        "notes": columns.NOTES,
        "rule": _rule(study),
        "figures": [f for f in figures if f.name == "confusion_all" or not f.name.startswith(ELSEWHERE)],
        "cost_figure": by_name.get("cost"),
        "cost": columns.cost([row for row in rows if row.test.n]),
        "arms": [_arm(arm, findings.classes.get(arm.key), by_name) for arm in study.arms],
        "per_class": classes.per_class(classes_of),
        "confusions": _confusions(classes_of),
        "environment": _environment([run for arm in study.arms for run in arm.runs]),
        "left_out": columns.left_out(study),
        "runs": columns.runs(study),
        "commands": _commands(study),
        "repeats": _repeats(run for arm in study.arms for run in arm.runs),
        "report_command": command,
        **_found(findings),
        **_answers(findings, by_name, no_pictures),
        "diagnostics": diagnostics.section(findings.probes),
        "figure_of": by_name,
    }
    shown = {name: context[name] for name in ("arms", "mistakes", "figures", "environment")}
    tables = {
        "comparison": comparison,
        "effects": context["effects"],
        "disagreement": context["disagreement"],
        "calibration": context["calibration"],
        "cost": context["cost"],
        "left-out": context["left_out"],
        "runs": context["runs"],
    }
    shown |= {name: table.rows for name, table in tables.items() if isinstance(table, Table)}
    shown["diagnostics"] = context["diagnostics"]["arms"]
    shown["reported"] = context["beside"].rows or context["claims"].rows
    context["sections"] = [(name, title) for name, title in SECTIONS.items() if shown[name]]
    return engine(TEMPLATES).get_template("page.html.j2").render(context)


def _answers(findings: Findings, figures: dict[str, "Figure"], no_pictures: Sequence[str]) -> dict[str, Any]:
    """Return what the page shows of single test images, of classes against the baseline, and of calibration."""
    calibrated, seen = findings.calibrations, findings.examples
    baseline = findings.baseline.label if findings.baseline else ""
    mistakes = [(arm, figures.get(f"mistakes_{arm.key}"), examples.table(found)) for arm, found in seen.mistakes]
    return {
        "mistakes": [(arm.label, figure, table) for arm, figure, table in mistakes if table.rows],
        "mistakes_left_out": seen.left_out,
        "no_pictures": no_pictures,
        "disagreement": disagreement.table(findings.disagreements),
        "disagreement_notes": disagreement.NOTES,
        "disagreement_figures": [f for name, f in figures.items() if name.startswith("disagreement_")],
        "class_differences": disagreement.class_table(findings),
        "class_note": disagreement.CLASS_NOTE.format(baseline=baseline),
        "calibration": calibration.table(calibrated),
        "calibration_figure": figures.get("calibration"),
        "calibration_sentences": [calibration.sentence(c) for c in calibrated],
        "calibration_notes": calibration.NOTES,
    }


def _found(findings: Findings) -> dict[str, Any]:
    """Return what the page shows of reported numbers, claims and effects; tables without rows where there are none."""
    judged, found = findings.judged, findings.effects
    return {
        "beside": reported_comparison.table(findings.reported),
        "beside_notes": reported_comparison.NOTES,
        "claims": claim_tables.claims(judged),
        "claims_summary": summary(judged),
        "claim_notes": claim_tables.CLAIM_NOTES,
        "effects": claim_tables.effects(found),
        "effect_notes": claim_tables.effect_notes(found),
    }


def render_overview(pages: Sequence[dict[str, str]], studies: Sequence[Findings], command: str) -> str:
    """Return the page that leads to several reports, each {link, name, question, headline}, and has their verdicts."""
    context = {
        "pages": pages,
        "claims": verdicts.of_claims(studies),
        "claims_summary": verdicts.count(studies),
        "claim_notes": claim_tables.CLAIM_NOTES,
        "beside": verdicts.of_reported(studies),
        "beside_notes": verdicts.notes(studies),
        "sizes": verdicts.of_sizes(studies),
        "report_command": command,
    }
    return engine(TEMPLATES).get_template("overview.html.j2").render(context)


def _confusions(results: Sequence[classes.ClassResults]) -> Table | None:
    """Return the most frequent confusions where there are too many classes for matrices."""
    table = classes.confusions_table(results[: examples.ARMS])
    return table if table.rows and any(len(found.names) > classes.MATRIX for found in results) else None


def _arm(arm: Arm, results: classes.ClassResults | None, figures: dict[str, "Figure"]) -> dict[str, Any]:
    return {
        "label": arm.label,
        "changes": arm.first.texts("changes"),
        "fingerprint": arm.first.text("fingerprint"),
        "seeds": ", ".join(str(run.seed) for run in arm.runs),
        "figure": figures.get(f"confusion_{arm.key}"),
        "has_predictions": results is not None,
        "classes": classes.own_table(results) if results else None,
        "many": len(results.names) if results and len(results.names) > classes.MATRIX else 0,
        "confused": classes.most_confused(results) if results else [],
        "repeats": _repeats(arm.runs),
    }


def _rule(study: Study) -> str:
    """State how the reported epoch was chosen, with the sizes of the splits if all arms share them."""
    runs = [run for arm in study.arms for run in arm.runs]
    sizes = {tuple(columns.number(run.number("data", split)) for split in ("train", "val", "test")) for run in runs}
    train, val, test = sizes.pop() if len(sizes) == 1 else ("", "", "")
    split = f" ({train} images to train on, {val} to validate)" if train not in ("", columns.DASH) else ""
    images = f" ({test} images)" if test not in ("", columns.DASH) else ""
    last = any(run.text("protocol", "keep_epoch") == "last" for run in runs)
    if any(run.text("protocol", "validate_on") == "test" for run in runs):
        return (
            f"There is no validation split: the test set{images} was evaluated after every epoch, and the "
            f"{'last' if last else 'best'} of them counts. So these are not accuracies on images never looked at; "
            "where validation is named here, it is the test set."
        )
    return (
        f"Validation is split off the training set{split}. "
        + (
            "The last epoch counts, not the best one. "
            if last
            else "The best epoch is the one with the highest validation accuracy, ties to the earlier. "
        )
        + f"The test set{images} is evaluated once, on that epoch's checkpoint."
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
