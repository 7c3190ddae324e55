"""The layout of figures: legends that read row by row, grids whose panels are named and stand evenly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

import cnnexp
from cnnexp.pages.style import canvas, grid_of, label_lowest, row_by_row, turn_off


def test_a_legend_reads_row_by_row() -> None:
    figure = Canvas()
    handles = [Line2D([], [], label=f"arm{i}") for i in range(7)]
    legend = figure.legend(handles=row_by_row(handles, 4), ncols=4, loc="center")
    figure.draw_without_rendering()
    places = {text.get_text(): text.get_window_extent() for text in legend.get_texts()}
    assert sorted(places, key=lambda name: (-round(places[name].y0), places[name].x0)) == [f"arm{i}" for i in range(7)]


def test_panels_are_named_where_none_is_below_and_stand_evenly() -> None:
    figure, axes = canvas(8, 6, 3, 3, sharex=True, sharey=True)
    for axis in axes[:7]:
        axis.plot([1, 15], [0, 1])
        axis.set_title("arm")
    label_lowest(axes, 3, 7, "epoch")
    turn_off(axes[7:])
    figure.draw_without_rendering()
    named = ["epoch" in (axis.get_xlabel(), *(text.get_text() for text in axis.texts)) for axis in axes[:7]]
    assert named == [False] * 4 + [True] * 3
    assert [axis.xaxis.get_tick_params()["labelbottom"] for axis in axes[:7]] == named
    gaps = [axes[i].get_position().y0 - axes[i + 3].get_position().y1 for i in (0, 3)]
    assert gaps[0] == pytest.approx(gaps[1], abs=1e-3), "no band between the rows for the names of two panels"
    for axis in axes[4:6]:
        numbers = [text.get_window_extent() for text in axis.get_xticklabels()]
        assert axis.texts[0].get_window_extent().y1 < min(box.y0 for box in numbers) + 1


def test_a_grid_has_at_most_four_panels_in_a_row() -> None:
    assert [grid_of(panels) for panels in (1, 4, 5, 6, 9)] == [(1, 1), (1, 4), (2, 3), (2, 4), (3, 4)]


DRAW = """
import hashlib, os
from cnnexp.pages.style import canvas, finish, style
with style():
    figure, (axis,) = canvas(2, 1)
    axis.plot([1, 2], label="a_b")
    axis.set_title("$5 of a_b")
    made = finish(figure, "name", "caption")
print(hashlib.sha256(made.png + made.svg[:0]).hexdigest(), os.environ.get("MPLBACKEND"))
"""


def drawn(folder: Path, **more: str) -> list[str]:
    """Return the hash of a figure that a process draws in a folder, and the backend that its user asks for."""
    environment = {**os.environ, "PYTHONPATH": str(Path(cnnexp.__file__).parent.parent), **more}
    command = [sys.executable, "-c", DRAW]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def figure_without_settings() -> str:
    return drawn(Path(__file__).parent)[0]


INLINE, RED = "module://matplotlib_inline.backend_inline", "axes.facecolor: red\nfigure.dpi: 3"
HOME = "home/.config/matplotlib"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("backend", "rc", "place"),
    [
        (INLINE, "text.usetex: True", "."),
        ("ipympl", RED, HOME),
        ("nonsense", "no.such.key: 1", "."),
        (INLINE, "\udcff", HOME),
        ("ipympl", "no.such.key: 1", HOME),
        ("nonsense", RED, "."),
    ],
)
def test_figures_do_not_depend_on_the_users_settings(
    tmp_path: Path, figure_without_settings: str, backend: str, rc: str, place: str
) -> None:
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "matplotlibrc").write_bytes(rc.encode(errors="surrogateescape"))
    own = drawn(tmp_path, HOME=str(tmp_path / "home"), MPLBACKEND=backend)
    assert own == [figure_without_settings, backend]
