"""The page: one HTML file that holds everything and opens offline. The template engine escapes every text."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnexp.pages import plotly
from cnnexp.pages.tables import Table
from cnnexp.report.analysis import calibration, diagnostics
from cnnexp.report.analysis.classes import MAX_MATRIX_CLASSES, most_confused
from cnnexp.report.analysis.compare import sentences
from cnnexp.report.analysis.cost import COST_HEADINGS
from cnnexp.report.analysis.examples import MAX_ARMS
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.analysis.judge import summary
from cnnexp.report.analysis.left_out import superseded
from cnnexp.report.analysis.plan import more_seeds, rules_in_words
from cnnexp.report.analysis.units import in_words
from cnnexp.report.read import unfinished
from cnnexp.report.read.probes import Probes
from cnnexp.report.read.runs import Run
from cnnexp.report.read.study import Arm, Study
from cnnexp.report.render import class_tables, comparison_tables, prediction_tables
from cnnexp.report.render.answer import answer
from cnnexp.text import DASH, number

if TYPE_CHECKING:
    from cnnexp.pages.style import Figure

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("report.js", "report_figures.js", "report_sections.js")  # in this order
SECTIONS = {  # title, and what is in it
    "comparison": ("Comparison", "every number of every arm, and how it is judged"),
    "reported": ("Reported and reproduced", "the study's claims and published numbers"),
    "effects": ("Effects", "what the techniques add, alone and together"),
    "figures": ("Accuracy and curves", "test accuracy of every run; training and validation over the epochs"),
    "cost": ("Cost", "accuracy against time and size; time to accuracy"),
    "arms": ("Confusion matrices and arms", "which classes are confused, with their images"),
    "mistakes": ("Most confident mistakes", "file, label, prediction and probability"),
    "disagreement": ("Where arms disagree", "image by image, against the baseline"),
    "scores": ("Precision, recall and F1", "means over the classes"),
    "calibration": ("Calibration", "whether a probability can be believed"),
    "diagnostics": ("Diagnostics", "gradients, updates and units that are dead"),
    "settings": ("Settings that differ", "the configs of two arms, side by side"),
    "environment": ("Environment", "machine, versions and data"),
    "left-out": ("Runs not in the table", "failed, diverged and superseded ones, with reasons"),
    "runs": ("Runs", "every run, with the command that repeats it"),
}
ONLY_CLAIMS = ("Claims", "what the study states, and whether it holds")  # of a study without published numbers
CURVES = (
    "validation (lines with markers) and, when switched on, training (dotted). Mean over the {runs}; band, of "
    "at most 12 arms: ± 1 standard deviation (of two {runs}: both)."
)
CAPTIONS = {  # of the interactive figures, by the name of the fixed one
    "test_accuracy": "Test accuracy: the mean (large marker), its 95 % interval {over} (bar, cut at 0 and 100) "
    "and the single {runs} (small markers). To compare arms, use the paired differences; overlapping bars say little.",
    "accuracy_curves": f"Accuracy over the epochs: {CURVES} Training values are running means over the epoch, with "
    "augmentation and dropout.",
    "loss_curves": f"Loss over the epochs: {CURVES}",
    "cost": "Test accuracy against cost. Large markers are means {over}, small ones are {runs}. The dashed line "
    "is the Pareto front: no other arm is both as accurate and as cheap as an arm on it.",
    "calibration": "Reliability: accuracy against confidence of the test images, sorted into 15 bins of equal width. "
    "On the dashed line the confidence is right; below it the network is over-confident.",
}
AS_IMAGES = ("disagreement_", "probes_")  # names of the figures that an interactive page has as images
MAX_FIGURE_BYTES = 1_000_000  # of these; the others are only files
IN_OTHER_SECTIONS = ("confusion_", "cost", "calibration", "mistakes_", "disagreement_", "probes_")  # names of figures
ENVIRONMENT = {
    "Device": ("device", "name"),
    "Kind": ("device", "kind"),
    "Precision": ("device", "precision"),
    "Threads": ("device", "threads"),
    "CPU instructions": ("device", "instructions"),
    "Data": ("data", "name"),
    "Data fingerprint": ("data", "fingerprint"),
    "Python": ("environment", "python"),
    "torch": ("environment", "torch"),
    "torchvision": ("environment", "torchvision"),
    "Platform": ("environment", "platform"),
    "Host": ("environment", "host"),
    "cnnexp": ("code", "version"),
    "Commit": ("code", "commit"),
    "Code digest": ("code", "digest"),
}


def render(
    findings: Findings,
    tables: Mapping[str, Table[Any]],
    figures: Sequence["Figure"],
    command: str,
    missing_images: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
) -> str:
    """Return the report's page.

    tables: as render.tables.tables_of gives them. command: the one that made the report. missing_images: why images are
    left out, in lines. data: of the interactive figures, see plot_data.py; without it, or without the package that
    draws them, the figures are images.
    """
    drawn_by = plotly.library() if data else None
    figures = _within(MAX_FIGURE_BYTES, figures) if drawn_by else figures
    study, figure_of = findings.study, {figure.name: figure for figure in figures}
    runs = [run for arm in study.arms for run in arm.runs]
    context: dict[str, Any] = {
        "study": study,
        "answer": answer(findings),
        "interactive": drawn_by is not None,
        "captions": dict(zip(CAPTIONS, in_words(CAPTIONS.values(), study.folds), strict=True)),
        "costs": COST_HEADINGS,
        "has_curves": "validation_curves" in figure_of,
        "has_matrices": bool(data and data["matrices"]),
        "settings": bool(drawn_by and data and data["settings"]),
        "sentences": sentences(study, findings.rows),
        "unfinished": unfinished.sentence([*study.arms, *study.under_way]),
        "notes": findings.warnings,
        "tables": tables,
        "rules": rules_in_words(findings),
        "more_seeds": more_seeds(findings),
        "in_cost": comparison_tables.IN_COST,
        "selection": _selection(study),
        "claims_summary": summary(findings.judged),
        "figures": [f for f in figures if f.name == "confusion_all" or not f.name.startswith(IN_OTHER_SECTIONS)],
        "figure_of": figure_of,
        "arms": [_arm(findings, arm, figure_of) for arm in study.arms],
        "confusions": _confusions(findings),
        "mistakes": [(arm, prediction_tables.mistakes(arm, of)) for arm, of in findings.examples.mistakes if of],
        "images_of": prediction_tables.images_of(findings),
        "mistakes_left_out": findings.examples.left_out,
        "missing_images": missing_images,
        "disagreement_figures": [f for f in figures if f.name.startswith("disagreement_")],
        "calibration_sentences": [calibration.sentence(c) for c in findings.calibrations],
        "diagnostics": [_of_probes(probes) for probes in findings.probes],
        "diagnostics_notes": diagnostics.NOTES,
        "environment": _environment(runs),
        "left_out": Table(comparison_tables.LEFT_OUT, study.left_out),
        "superseded": superseded(study),
        "commands": list(dict.fromkeys(text for text in (study.command, *(r.text("command") for r in runs)) if text)),
        "repeats": _repeats(runs),
        "report_command": command,
    }
    context["sections"] = _sections(findings, context)
    context["abouts"] = {name: about for name, (_, about) in _titled(findings).items()}
    return plotly.render(TEMPLATES, "page.html.j2", context, SCRIPTS, data)


def _within(most: int, figures: Sequence["Figure"]) -> list["Figure"]:
    """Return the figures; those of an interactive page that are images lose theirs once `most` bytes are used."""
    kept, used = [], 0
    for figure in figures:
        used += len(figure.svg) if figure.name.startswith(AS_IMAGES) else 0
        kept.append(figure if used <= most else replace(figure, svg=b""))
    return kept


def _sections(findings: Findings, context: Mapping[str, Any]) -> dict[str, str]:
    """Return {id: title} of the sections that there is something to show in."""
    tables = context["tables"]
    shown = {name: context[name] for name in ("arms", "mistakes", "figures", "environment", "diagnostics", "settings")}
    shown |= {name: f"{name}.md" in tables for name in ("effects", "scores", "disagreement", "calibration")}
    shown |= {name: tables[f"{name}.md"].rows for name in ("comparison", "cost", "runs")}
    shown |= {"reported": findings.reported or findings.judged, "left-out": findings.study.left_out}
    return {name: title for name, (title, _) in _titled(findings).items() if shown[name]}


def _titled(findings: Findings) -> dict[str, tuple[str, str]]:
    """Return SECTIONS with the titles that suit this study."""
    return SECTIONS if findings.reported else SECTIONS | {"reported": ONLY_CLAIMS}


def _confusions(findings: Findings) -> Table[Any] | None:
    """Return the most frequent confusions if there are too many classes for matrices."""
    results = list(findings.classes.values())[:MAX_ARMS]
    many = class_tables.same_classes(results) and len(results[0].names) > MAX_MATRIX_CLASSES
    return class_tables.frequent_confusions(results) if many else None


def _arm(findings: Findings, arm: Arm, figures: Mapping[str, "Figure"]) -> dict[str, Any]:
    results = findings.classes.get(arm.key)
    return {
        "key": arm.key,
        "label": arm.label,
        "changes": arm.first.texts("changes"),
        "fingerprint": arm.first.text("fingerprint"),
        "seeds": ", ".join(dict.fromkeys(str(run.seed) for run in arm.runs)),
        "figure": figures.get(f"confusion_{arm.key}"),
        "has_predictions": results is not None,
        "classes": class_tables.classes_of_arm(results) if results else None,
        "many": len(results.names) if results and len(results.names) > MAX_MATRIX_CLASSES else 0,
        "confused": most_confused(results) if results else [],
        "repeats": _repeats(arm.runs),
    }


def _of_probes(probes: Probes) -> tuple[str, list[str], list[str]]:
    """Return an arm's label, what there is to say of its probes, and the names of their figures."""
    figures = [f"probes_{name}_{probes.arm.key}" for name in diagnostics.FIGURES]
    return probes.arm.label, diagnostics.sentences(probes), figures


def _selection(study: Study) -> str:
    """State how the reported epoch was chosen, with the sizes of the splits if all arms share them."""
    runs = [run for arm in study.arms for run in arm.runs]
    sizes = {tuple(number(run.number("data", split)) for split in ("train", "val", "test")) for run in runs}
    train, val, test = sizes.pop() if len(sizes) == 1 else (DASH, DASH, DASH)
    split = f" (images: {train} to train on, {val} to validate)" if train != DASH else ""
    images = f" ({test} image{'s' * (test != '1')})" if test != DASH else ""
    last = any(run.text("protocol", "keep_epoch") == "last" for run in runs)
    if any(run.text("protocol", "validate_on") == "test" for run in runs):
        return (
            f"There is no validation split: the test set{images} was evaluated after every epoch, and the "
            f"{'last' if last else 'best'} of these evaluations counts. So these are not accuracies on unseen images. "
            "Where this page says validation, it means the test set."
        )
    monitors = dict.fromkeys(run.monitor.replace("_", " ") for run in runs)
    words = " or ".join(f"{'lowest' if name == 'loss' else 'highest'} validation {name}" for name in monitors)
    best = f"The best epoch is the one with the {words}, ties to the lower loss."
    return (
        f"The validation images are taken from the training set{split}. "
        f"{'The last epoch counts, not the best one.' if last else best} "
        f"The test set{images} is evaluated once, with the checkpoint of that epoch."
    )


def _environment(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return the environment of the runs; where they differ, every value."""
    found = [(name, list(dict.fromkeys(t for r in runs if (t := r.text(*path))))) for name, path in ENVIRONMENT.items()]
    return [(name, "; ".join(values)) for name, values in found if values]


def _repeats(runs: Iterable[Run]) -> list[tuple[str, str]]:
    return [(run.name, command) for run in runs if (command := run.text("repeat"))]
