"""The figure of accuracy against cost in a real browser: the names of points that are close do not overlap."""

import itertools

import browsers
import pytest
from browsers import show
from fake_records import write_study

pytestmark = pytest.mark.integration

pytest.importorskip("plotly", reason="plotly is not installed")
CLOSE = {f"augmentation_{n}": (0.6 + 0.002 * n, 0.1, 60.0 + n / 2) for n in range(7)}
ARMS = {"baseline": (0.6, 0.3, 60.0), **CLOSE, "far": (0.5, 0.1, 20.0), "costly": (0.65, 0.1, 160.0)}
FRONT = {
    "small": {"first": (0.5, 0.1, 1.0), "second": (0.6, 0.1, 2.0), "third": (0.65, 0.1, 3.0)},
    "large": {"costly": (0.7, 0.1, 200.0), "worse": (0.55, 0.1, 100.0)},
}
BOXES = """() => [...document.querySelectorAll('#plot-cost .annotation-text')].map((text) => {
    const box = text.getBoundingClientRect();
    return [text.textContent, box.left, box.right, box.top, box.bottom];
})"""


@pytest.mark.parametrize("axis", ["linear", "log"])
def test_names_of_close_points_do_not_overlap(visit, tmp_path, monkeypatch, axis):
    folder = write_study(tmp_path, ARMS, seeds=2)
    page = visit(browsers.interactive_page(folder, monkeypatch))
    if axis == "log":
        show(page, "figures")
        page.locator("#log-axis").check()
    show(page, "cost")
    page.locator("#plot-cost").scroll_into_view_if_needed()
    page.wait_for_selector("#plot-cost[data-drawn]")
    boxes = page.evaluate(BOXES)
    assert sorted(name for name, *_ in boxes) == sorted(ARMS)
    check_apart(page, boxes)
    assert not page.errors


def test_names_on_the_front_of_many_studies_stay_in_the_figure(visit, tmp_path, monkeypatch):
    for name, arms in FRONT.items():
        write_study(tmp_path, arms, study=name, seeds=2)
    page = visit(browsers.interactive_page(tmp_path, monkeypatch))
    page.locator("#plot-cost").scroll_into_view_if_needed()
    page.wait_for_selector("#plot-cost[data-drawn]")
    boxes = page.evaluate(BOXES)
    assert sorted(name for name, *_ in boxes) == ["large: costly", "small: first", "small: second", "small: third"]
    check_apart(page, boxes)
    axis = page.locator("#plot-cost").bounding_box()["x"] + 56
    assert all(axis <= left for _, left, *_ in boxes), "none is on the numbers of the axis"
    assert not page.errors


def check_apart(page, boxes):
    outer = page.locator("#plot-cost").bounding_box()
    for name, left, right, top, bottom in boxes:
        assert outer["x"] <= left and right <= outer["x"] + outer["width"], name
        assert outer["y"] <= top and bottom <= outer["y"] + outer["height"], name
    for (one, *a), (two, *b) in itertools.combinations(boxes, 2):
        assert a[1] <= b[0] + 1 or b[1] <= a[0] + 1 or a[3] <= b[2] + 1 or b[3] <= a[2] + 1, (one, two)
