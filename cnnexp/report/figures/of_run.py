"""Figures of one run, for Python: they are returned, and not saved."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cnnexp.pages.style import INK, canvas, style
from cnnexp.records.run_record import RunRecord
from cnnexp.report.analysis.classes import class_results
from cnnexp.report.figures.curves import DASHED, METRICS, draw_axes, draw_curve
from cnnexp.report.figures.looks import looks
from cnnexp.report.figures.matrices import matrix
from cnnexp.report.read.runs import read_run
from cnnexp.report.read.study import Arm, set_labels


def curves(record: RunRecord) -> Figure | None:
    """Draw loss and accuracy over the epochs, in training (dashed) and validation; None without a finished epoch."""
    arm = _arm(record)
    if not arm.runs[0].rows:
        return None
    colour = looks([arm], None)[arm.key].colour
    with style():
        figure, axes = canvas(8.4, 3.0, 1, 2)
        for axis, metric in zip(axes, reversed(METRICS), strict=True):
            draw_curve(axis, arm, "train", metric, colour, dashed=True)
            draw_curve(axis, arm, "val", metric, colour)
            draw_axes(axis, METRICS[metric][0])
        names = {"training (running mean)": DASHED, "validation": "solid"}
        handles = [Line2D([], [], color=INK, linestyle=dash, label=name) for name, dash in names.items()]  # type: ignore[arg-type]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def confusion(record: RunRecord) -> Figure | None:
    """Draw the confusion matrix of the test images; None without predictions, or with too many classes."""
    found = class_results(_arm(record))
    if found is None:
        return None
    with style():
        return matrix(found)


def _arm(record: RunRecord) -> Arm:
    run = read_run(record)
    arm = Arm(run.arm, run.fingerprint, [run])
    set_labels([arm])
    return arm
