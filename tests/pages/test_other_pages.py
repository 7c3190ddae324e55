"""The pages of a search and of a data set in a real browser: their figures work, and nothing of a record runs."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsers import without_policy
from fake_searches import hostile_search, made
from hostile_pages import HTML
from image_folders import array_data

from cnnexp.explore import facts
from cnnexp.explore import page as data_page
from cnnexp.pages import template
from cnnexp.pages.style import Figure
from cnnexp.report.search import page as search_page
from cnnexp.report.search.findings import read_found
from cnnexp.report.search.plot_data import page_data
from cnnexp.search.trials import Search

pytestmark = pytest.mark.integration

pytest.importorskip("plotly", reason="plotly is not installed")
Visit = Callable[..., Any]
LINK = '<a href="https://elsewhere.example/">x</a><b>bold</b>'
FIGURES = ("history", "curves", "importances", "settings", "parallel_coordinates", "classes", "samples", "pixel_values")
FAKES = {name: Figure(name, name, b"", b"<svg/>", b"") for name in FIGURES}


def search_html(search: Search) -> str:
    found = read_found(search.folder)
    tables = search_page.tables_of_search(found)
    return search_page.render(found, tables, list(FAKES.values()), page_data(found), search.command)


def data_html(names: list[str]) -> str:
    data = array_data(names, [3 + k for k in range(len(names))])
    found = facts.gather(data, None)
    member = facts.duplicates.Member
    found.duplicates.groups.append([member("train", HTML[0], 0, 0), member("test", HTML[4], 0, 1)])
    found.data.skipped.extend(HTML)
    return data_page.render(found, FAKES, None, HTML[3])


@pytest.fixture
def opened(visit: Visit, tmp_path: Path) -> Callable[..., Any]:
    """Return a function that opens a page of this text, with all its figures drawn."""

    def open_html(html: str, **options: Any) -> Any:
        file = tmp_path / "page.html"
        file.write_text(html)
        page = visit(file, **options)
        page.evaluate("find('details:not(.chooser)').forEach((part) => { part.open = true; })")
        for plot in page.locator(".plot").all():
            plot.scroll_into_view_if_needed()
            page.wait_for_selector(f"#{plot.get_attribute('id')}[data-drawn]")
            plot.focus()
            page.keyboard.press("n")
        assert not [url for url in page.requested if not url.startswith(("file:", "data:", "blob:"))]
        return page

    return open_html


def test_the_figures_of_a_search_show_the_trials_that_the_reader_keeps(opened: Any, tmp_path: Path) -> None:
    html = search_html(made(tmp_path / "s"))
    page = opened(html)
    assert page.locator(".plot svg.main-svg").count() and not page.errors
    assert page.locator(".modebar-btn[data-title^=Share]").count() == 0, "nothing sends the figure elsewhere"
    page.locator("#plot-history").press("n")
    assert re.match(r"trial \d+ \((complete|the best)\), validation accuracy", page.locator("#live").inner_text())
    shown = "document.getElementById('plot-parallel_coordinates').data.length"
    rows = page.locator("#trials tbody tr:visible")
    assert (page.inner_text("#kept"), page.evaluate(shown), rows.count()) == ("14 trials", 13, 14)
    area = page.locator("#plot-parallel_coordinates .nsewdrag").first
    area.evaluate("(area) => area.scrollIntoView({ block: 'center' })")
    box = area.bounding_box()
    right, top = box["x"] + box["width"] * 0.96, box["y"]
    page.mouse.move(right, top + box["height"] / 3)
    page.mouse.down()
    page.mouse.move(right - 40, top + 40, steps=3)
    page.mouse.move(right - 120, top + 2, steps=3)
    page.mouse.up()
    page.wait_for_selector("#kept:text('of 14')")
    kept = page.evaluate(shown)
    assert 0 < kept < 13 and rows.count() == kept and page.inner_text("#kept") == f"{kept} of 14 trials"
    assert page.evaluate("document.getElementById('plot-history').data.at(-1).x.length") == kept
    page.locator("#all-trials").click()
    page.locator("#trials input[type=search]").fill("none complete")
    assert 0 < page.evaluate(shown) == rows.count() < 13
    page.locator("#plot-history .scatterlayer .point").last.hover(force=True)
    page.wait_for_selector("#plot-history .hoverlayer text")


def test_the_button_for_all_sections_says_what_it_does(visit: Visit, tmp_path: Path) -> None:
    close, file = "Close all sections", tmp_path / "page.html"
    for html, at_first in ((search_html(made(tmp_path / "s")), close), (data_html(["a", "b"]), "Open all sections")):
        file.write_text(html)
        page = visit(file)
        button, sections = page.locator("#open-all"), page.locator("details.part")
        assert button.inner_text() == at_first
        button.click()
        page.wait_for_selector(f"#open-all:not(:text-is('{at_first}'))")
        assert page.locator("details.part[open]").count() == (0 if at_first == close else sections.count())
        for part in sections.all():
            part.evaluate("(part) => { part.open = true; }")
        page.wait_for_selector(f"#open-all:text-is('{close}')")
        sections.first.locator("summary").first.click()
        page.wait_for_selector("#open-all:text-is('Open all sections')")


def test_the_pages_do_not_scroll_sideways_on_a_phone(opened: Any, tmp_path: Path) -> None:
    for html in (search_html(made(tmp_path / "s")), data_html(["cat", "dog"])):
        page = opened(html, size="phone")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_figures_of_a_data_set_give_numbers(opened: Any) -> None:
    for names in (["cat", "dog"], [f"class {k}" for k in range(60)]):
        page = opened(data_html(names))
        counts = page.evaluate("document.getElementById('plot-classes').data[0]")
        largest = max(zip(counts["x"], counts["text"], strict=True))
        assert largest == (len(names) + 2, f"{names[-1]}: {len(names) + 2} train images") and not page.errors


def seen(page: Any) -> tuple[bool, int]:
    """Return (whether a text of a record ran, how many links and bold texts of records the figures hold)."""
    page.wait_for_timeout(200)
    return page.title() == "FIRED", page.locator(".plot svg a, .plot svg tspan[style*=bold]").count()


@pytest.mark.parametrize("which", ["search", "data"])
def test_nothing_of_a_record_runs_and_without_a_defence_it_would(
    which: str, opened: Any, visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = hostile_search(tmp_path / f"{HTML[4].replace('/', '')}")

    def written() -> str:
        return search_html(search) if which == "search" else data_html([LINK, *HTML])

    html = written()
    assert "elsewhere.example" in html and seen(opened(html)) == (False, 0)
    assert seen(opened(without_policy(html))) == (False, 0), "the escaping alone is enough"
    raw = html.replace("const label = (text) =>", "const label = (text) => String(text); const unused = (text) =>", 1)
    assert raw != html and seen(opened(without_policy(raw)))[1] > 0, "Plotly reads HTML unless `label` escapes it"
    engine = template.engine

    def careless(*folders: Path) -> Any:
        made = engine.__wrapped__(*folders)  # not the one that is kept
        made.autoescape = False
        return made

    monkeypatch.setattr(template, "engine", careless)
    bare = re.sub("<(meta http-equiv=refresh|base|form|link) [^>]*>", "", written())  # these would leave the page
    file = tmp_path / "bare.html"
    for policy, fires in ((False, True), (True, False)):  # one of the two defences is enough
        file.write_text(bare if policy else without_policy(bare))
        page = visit(file)
        page.wait_for_timeout(300)
        assert (page.title() == "FIRED") == fires
