"""How every figure looks: colours that colour-blind readers can tell apart, type, and saving as PNG and SVG.

Colours: Okabe and Ito (2008), without their yellow and black, which print badly on white, and with two of Paul Tol's.
matplotlib is imported here and in the modules that draw, which are imported only when a figure is wanted.
"""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Canvas
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, NullFormatter

BASELINE = "#4d4d4d"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#999933")
MARKERS = "osD^vPX*"
GREY = "#c4c4c4"
LABEL = 26  # characters of an arm's name in a figure
DPI = 160
RC: Any = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#808080",
    "axes.linewidth": 0.8,
    "axes.labelcolor": "#303030",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "xtick.color": "#606060",
    "ytick.color": "#606060",
    "xtick.labelcolor": "#303030",
    "ytick.labelcolor": "#303030",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "text.parse_math": False,  # names may hold dollar signs
    "svg.fonttype": "none",  # text stays text: small, searchable
    "svg.hashsalt": "cnnexp",  # the same records give the same file
}


@dataclass(frozen=True)
class Figure:
    """A finished figure: its file name without ending, what it shows, and its two files. `wide`: scrolls on a phone."""

    name: str
    caption: str
    png: bytes
    svg: bytes
    wide: bool = False


def canvas(
    width: float, height: float, rows: int = 1, columns: int = 1, square: bool = False, **options: Any
) -> tuple[Canvas, list[Axes]]:
    """Return a figure of width x height inches and its axes, row by row. Draw within `mpl.rc_context(RC)`."""
    figure = Canvas(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.13, h_pad=0.08, compress=square))
    grid = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(grid.flat)


def plain_numbers(axis: Axis) -> None:
    """Write the numbers of a logarithmic axis plainly: its own formatter writes TeX, which nothing reads here."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def finish(figure: Canvas, name: str, caption: str, wide: bool = False) -> Figure:
    """Save a drawn figure as PNG and SVG."""
    png, svg = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes in the PNG; the tables hold it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
        figure.set_layout_engine("none")  # the places found for the PNG hold for the SVG
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": "cnnexp"})
    return Figure(name, caption, png.getvalue(), svg.getvalue(), wide)


def style() -> Any:
    """Return the context in which figures are drawn and saved."""
    return mpl.rc_context(RC)


def row_by_row(handles: Sequence[Any], columns: int) -> list[Any]:
    """Order the handles of a legend of so many columns, which matplotlib fills column by column, to read row by row."""
    return [handle for column in range(columns) for handle in handles[column::columns]]


def label_lowest(axes: Sequence[Axes], columns: int, count: int, label: str) -> None:
    """Number and name the x axis of those of `count` panels in a grid, row by row, that have none below them.

    A name below a panel of a row that is not the last stands in the room of the panel that is missing there, and makes
    none between the rows.
    """
    for i, axis in enumerate(axes[:count]):
        axis.set_xlabel("")
        axis.tick_params(labelbottom=i + columns >= count)
        if i // columns == (count - 1) // columns:
            axis.set_xlabel(label)
        elif i + columns >= count:
            below = axis.annotate(
                label, (0.5, 0), (0, -18), "axes fraction", "offset points", ha="center", va="top", color="#303030"
            )
            for text in (below, *axis.get_xticklabels()):
                text.set_in_layout(False)


def turn_off(axes: Sequence[Axes]) -> None:
    """Hide the panels of a grid that hold nothing."""
    for axis in axes:
        axis.set_axis_off()
