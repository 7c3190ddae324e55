"""How every figure looks: colours that colour-blind readers can distinguish, type, and saving as PNG, SVG and PDF.

Colours: Okabe and Ito (2008), without their yellow and black, which print badly on white, and two of Paul Tol's.
Only this module and the modules that draw import matplotlib; they are imported only when figures are wanted.
"""

import contextlib
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cnnexp.pages.import_matplotlib import RC

# isort: split
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as PlainFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, NullFormatter

from cnnexp.pages.fonts import families

BASELINE = "#4d4d4d"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#999933")
MARKERS = "osD^vPX*"
GREY, INK = "#c4c4c4", "#303030"
LABEL = 26  # characters of an arm's name in a figure
DPI = 160


class Canvas(PlainFigure):
    """A matplotlib figure without pyplot, which a notebook shows nevertheless."""

    def _repr_png_(self) -> bytes:
        png = io.BytesIO()
        with style():
            self.savefig(png, format="png", dpi=DPI // 2)
        return png.getvalue()


@dataclass(frozen=True)
class Figure:
    """A finished figure: its file name without ending, its caption and its three files. `wide`: scrolls on a phone."""

    name: str
    caption: str
    png: bytes
    svg: bytes
    pdf: bytes
    wide: bool = False


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw and save figures in this context: they depend on no setting of the user's."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rc_file(RC)
        mpl.rcParams["font.family"] = families()
        yield


def canvas(
    width: float, height: float, rows: int = 1, columns: int = 1, square: bool = False, **options: Any
) -> tuple[Canvas, list[Axes]]:
    """Return a figure of width x height inches and its axes, row by row. Draw within `style()`."""
    figure = Canvas(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.13, h_pad=0.08, compress=square))
    grid = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(grid.flat)


def grid_of(panels: int) -> tuple[int, int]:
    """Return the rows and columns of a grid of panels: at most four in a row, and five as three and two."""
    columns = 3 if panels == 5 else min(4, panels)
    return math.ceil(panels / columns), columns


def colour_bar(figure: Canvas, image: Any, axes: Axes | Sequence[Axes], label: str, **options: Any) -> None:
    """Add the scale of an image's colours beside the axes."""
    bar = figure.colorbar(image, ax=axes, **options)
    bar.set_label(label)
    bar.outline.set_visible(False)


def plain_numbers(axis: Axis) -> None:
    """Write the numbers of a logarithmic axis without TeX, which its own formatter uses."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def finish(figure: PlainFigure, name: str, caption: str, wide: bool = False) -> Figure:
    """Save a drawn figure as PNG, SVG and PDF."""
    png, svg, pdf = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        # What a label lacks is replaced before (fonts.py); the tables hold the full names.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
        figure.set_layout_engine(None)  # SVG and PDF keep the layout of the PNG, which takes as long as to draw them
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": "cnnexp"})
        figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Creator": "cnnexp", "Producer": None})
    return Figure(name, caption, png.getvalue(), svg.getvalue(), pdf.getvalue(), wide)


def row_by_row(handles: Sequence[Any], columns: int) -> list[Any]:
    """Order the handles of a legend to read row by row: matplotlib fills a legend column by column."""
    return [handle for column in range(columns) for handle in handles[column::columns]]


def label_lowest(axes: Sequence[Axes], columns: int, count: int, label: str) -> None:
    """Number and name the x axis of those of `count` panels in a grid, row by row, that have none below them.

    A name in a row that is not the last stands where a panel is missing below it and adds no space between the rows.
    """
    for i, axis in enumerate(axes[:count]):
        axis.set_xlabel("")
        axis.tick_params(labelbottom=i + columns >= count)
        if i // columns == (count - 1) // columns:
            axis.set_xlabel(label)
        elif i + columns >= count:
            below = axis.annotate(
                label, (0.5, 0), (0, -18), "axes fraction", "offset points", ha="center", va="top", color=INK
            )
            for text in (below, *axis.get_xticklabels()):
                text.set_in_layout(False)


def turn_off(axes: Sequence[Axes]) -> None:
    """Hide the panels of a grid that hold nothing."""
    for axis in axes:
        axis.set_axis_off()
