"""The report in a real browser: it answers on one screen, can be used by everyone, and runs nothing of a record."""

import math
import re

import browsers
import pytest
from browsers import SIZES, show, without_policy
from fake_records import write_run, write_study
from hostile_pages import SCRIPT, hostile_study

from cnnexp.pages import template
from cnnexp.pages.tables import Column, Table
from cnnexp.report.analysis.statistics import p_value
from cnnexp.text import duration

pytestmark = pytest.mark.integration

pytest.importorskip("plotly", reason="plotly is not installed")
ARMS = {"baseline": (0.5, 0.3, 60.0), "batchnorm": (0.6, 0.1, 70.0), "dropout": (0.5, 0.1, 30.0)}


@pytest.fixture(scope="module")
def report_page(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = write_study(tmp_path_factory.mktemp("page"), ARMS, seeds=4)
        for number, run in enumerate(sorted(folder.glob("dropout*"))):
            (run / "config.yaml").write_text(f"model:\n  dropout: 0.{number}\n")
        yield browsers.interactive_page(folder, patch)


def bottom(page, selector):
    box = page.locator(selector).first.bounding_box()
    return box["y"] + box["height"]


@pytest.mark.parametrize("size", SIZES)
def test_one_screen_has_the_answer_and_nothing_is_requested(visit, report_page, size):
    page = visit(report_page, size)
    for part in (".verdict", ".forest", ".pill", ".answer .command"):
        assert bottom(page, part) <= SIZES[size][1], part
    assert page.locator(".verdict").inner_text().startswith("Better than baseline: batchnorm.")
    assert page.locator(".forest tbody tr").count() == 2
    page.locator("#open-all").click()
    show(page, "figures")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page does not scroll sideways"
    outside = [url for url in page.requested if not url.startswith(("file:", "data:", "blob:"))]
    assert not outside and not page.errors and page.requested[0].startswith("file:")


def test_the_heads_of_the_first_figure_stay_above_it(visit, report_page):
    page = visit(report_page, "desk")
    page.locator("#open-all").click()
    below = bottom(page, ".forest tbody tr:last-child")
    page.evaluate(f"scrollTo({{top: {below - 10}, behavior: 'instant'}})")
    last, head = (page.locator(f".forest {part}").last.bounding_box() for part in ("tbody tr", "thead th"))
    assert last["y"] < 0 and head["y"] + head["height"] <= last["y"] + 1


def test_a_click_copies_the_command(visit, report_page):
    page = visit(report_page, permissions=["clipboard-read", "clipboard-write"])
    page.locator(".answer .command button").click()
    page.wait_for_selector(".answer .command button:text-is('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator(".answer .command code").inner_text()


def test_a_link_opens_its_section(visit, report_page):
    page = visit(f"{report_page.as_uri()}#settings")
    page.wait_for_selector("#settings details[open]")
    assert page.locator("#comparison details").first.get_attribute("open") is None
    page.locator("#settings-second").select_option(label="dropout")
    assert "model.dropout" in page.locator("#settings-shown").inner_text()
    page.locator("#settings-second").select_option(label="batchnorm")
    show(page, "arms")
    page.locator("#arms details.small summary", has_text="dropout").click()
    page.locator("#arms a[data-settings]:visible").click()
    assert page.locator("#settings-second option:checked").inner_text() == "dropout"


def test_few_epochs_have_a_mark_each_and_none_between(visit, report_page):
    page = visit(report_page)
    three, many = (page.evaluate(f"counted('epoch', [{{ x: [1, {last}] }}]).dtick") for last in (3, 30))
    assert (three, many) == (1, None)


def test_an_arm_is_switched_off_in_all_figures(visit, report_page):
    page = visit(report_page)
    show(page, "figures")
    traces = (
        "(id) => document.getElementById(id).data"
        ".filter((trace) => JSON.stringify(trace.text || '').includes('dropout')).length"
    )
    page.locator("#plot-curves-accuracy").scroll_into_view_if_needed()
    page.wait_for_selector("#plot-curves-accuracy[data-drawn]")
    names = ("plot-accuracy", "plot-curves-accuracy")
    assert all(page.evaluate(traces, name) for name in names)
    page.locator(".switch", has_text="dropout").click()
    assert not any(page.evaluate(traces, name) for name in names)
    page.locator("#all-arms").click()
    assert page.evaluate(traces, names[1]) == 1, "the mean"
    page.locator("#single-seeds").check()
    assert page.evaluate(traces, names[1]) == 4, "a curve for each seed"
    page.locator("#log-axis").check()
    assert page.evaluate("document.getElementById('plot-curves-accuracy').layout.yaxis.type") == "log"


def test_switching_arms_leaves_nothing_to_redraw_behind_and_marks_follow_the_theme(visit, report_page):
    page = visit(report_page)
    show(page, "arms")
    before = page.evaluate("page.redraw.length")
    fills = "find('#matrices .mark path').map((path) => path.style.fill)"
    for _ in range(6):
        page.locator("#arm-switches [data-arm]").nth(1).click()
    assert page.evaluate("page.redraw.length") == before
    light = page.evaluate(fills)
    page.evaluate("page.setTheme('dark')")
    assert len(light) > 1 and all(one != other for one, other in zip(light, page.evaluate(fills), strict=True))


def test_time_to_accuracy_says_what_thinned_curves_leave_open(visit, report_page, tmp_path):
    page = visit(report_page)
    show(page, "cost")
    assert page.locator("#time-to-accuracy p").count() == 0
    thin = tmp_path / "thin.html"
    thin.write_text(report_page.read_text().replace('"every": 1,', '"every": 3,'))
    page = visit(thin)
    show(page, "cost")
    assert "one in 3 epochs of these curves" in page.inner_text("#time-to-accuracy p")


def test_values_are_shown_under_the_pointer_and_by_keyboard(visit, report_page):
    page = visit(report_page)
    show(page, "figures")
    page.locator("#plot-accuracy .scatterlayer .point").last.hover(force=True)
    page.wait_for_selector("#plot-accuracy .hoverlayer text")
    assert "%" in page.locator("#plot-accuracy .hoverlayer").text_content()
    page.locator("#plot-accuracy").focus()
    reach = (
        "(() => { const r = document.getElementById('plot-accuracy')._fullLayout.xaxis.range; return r[1] - r[0]; })()"
    )
    before = page.evaluate(reach)
    page.keyboard.press("+")
    assert page.evaluate(reach) == pytest.approx(0.7 * before)
    page.keyboard.press("0")
    page.keyboard.press("n")
    assert re.fullmatch(r"\w+, seed 0: \d+\.\d\d %", page.locator("#live").inner_text())


def test_tables_are_sorted_filtered_and_columns_chosen(visit, report_page):
    page = visit(report_page)
    show(page, "runs")
    rows = "[...document.querySelectorAll('#runs tbody tr')]"
    names = f"{rows}.filter((row) => !row.hidden).map((row) => row.cells[0].textContent)"
    tests = f"{rows}.map((row) => Number(row.cells[3].textContent))"
    page.locator("#runs .sort", has_text="Test (%)").click()
    assert page.evaluate(tests) == sorted(page.evaluate(tests))
    page.locator("#runs .sort", has_text="Test (%)").press("Enter")
    assert page.evaluate(tests) == sorted(page.evaluate(tests), reverse=True)
    assert page.locator("#runs th[aria-sort=descending]").count() == 1
    page.locator("#runs input[type=search]").fill("batchnorm s1")
    assert len(page.evaluate(names)) == 1 and page.evaluate(names)[0].startswith("batchnorm-s1")
    page.locator("#runs .chooser summary").click()
    page.get_by_label("Status", exact=True).uncheck()
    assert page.locator("#runs thead th:visible", has_text="Status").count() == 0


def test_a_cell_of_a_matrix_says_what_it_holds(visit, report_page):
    page = visit(report_page)
    show(page, "arms")
    page.locator(".matrix .wrong:not(:empty)").first.focus()
    page.keyboard.press("Enter")
    assert re.search(r"classified as .*: \d+ \(", page.locator("#cell h4").inner_text())
    assert page.locator("#cell .gallery li").count() > 0
    assert "test/" in page.locator("#cell .gallery code").first.inner_text()


def test_light_dark_and_reduced_motion(visit, report_page):
    page = visit(report_page, color_scheme="dark", reduced_motion="reduce")
    paper = "getComputedStyle(document.body).backgroundColor"
    show(page, "figures")
    dark, figure = page.evaluate(paper), page.evaluate("document.getElementById('plot-accuracy').layout.paper_bgcolor")
    page.locator("#theme").click()
    assert (dark, page.evaluate(paper)) == ("rgb(18, 21, 26)", "rgb(255, 255, 255)")
    assert figure != page.evaluate("document.getElementById('plot-accuracy').layout.paper_bgcolor")
    moving = "[...document.querySelectorAll('*')].filter((e) => getComputedStyle(e).animationName !== 'none').length"
    assert page.evaluate(moving) == 0


def test_a4_has_every_section_and_cuts_nothing(visit, report_page, tmp_path):
    page = visit(report_page)
    page.evaluate("page.prepare()")
    page.set_viewport_size({"width": 703, "height": 1000})  # A4 within its margins, in CSS pixels
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("[...document.querySelectorAll('details.part')].every((part) => part.open)")
    assert page.evaluate("[...document.querySelectorAll('.plot')].every((one) => one.querySelector('svg'))")
    wide = (
        "[...document.querySelectorAll('main *')].filter((e) => e.checkVisibility() && !e.closest('.hidden, svg svg')"
        " && !(e instanceof SVGElement && e.tagName !== 'svg') && e.getBoundingClientRect().right > 704)"
        ".map((e) => `${e.tagName} ${e.className} ${e.textContent.slice(0, 40)}`)"
    )
    assert page.evaluate(wide) == []
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not page.evaluate("[...document.querySelectorAll('details.part')].some((part) => part.open)")


def test_a_screen_reader_finds_headings_tables_and_figures(visit, report_page):
    page = visit(report_page)
    show(page, "figures")
    tree = page.locator("body").aria_snapshot()
    for part in (
        'heading "Does each change help on its own, and do they add up?" [level=1]',
        'columnheader "Mean (interval)"',
        'rowheader "batchnorm"',
        'img "Test accuracy: the mean',
        'button "Copy"',
        'heading "Comparison" [level=2]',
    ):
        assert part in tree, part
    page = visit(report_page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = hostile_study(tmp_path_factory.mktemp("hostile"), figures=True)
        links = '<a href="https://elsewhere.example/">x</a><b>bold</b>'
        write_run(folder.parent, links, 0, 0.7, study="s", images=30, epochs=2, fingerprint="feed")
        yield browsers.interactive_page(folder, patch).read_text()


def all_open(page):
    page.locator("#open-all").click()
    for plot in page.locator(".plot").all():
        plot.scroll_into_view_if_needed()
        page.wait_for_selector(f"#{plot.get_attribute('id')}[data-drawn]")
    page.evaluate("find('.matrix button').slice(0, 40).forEach((button) => button.click())")
    page.locator("#plot-accuracy").focus()
    for _ in range(6):
        page.keyboard.press("n")


def seen(visit, tmp_path, html):
    """Return (whether a text of a record ran, how many links and bold texts of records the figures hold)."""
    file = tmp_path / "page.html"
    file.write_text(html)
    page = visit(file)
    all_open(page)
    page.wait_for_timeout(300)
    assert not [url for url in page.requested if not url.startswith(("file:", "data:", "blob:"))]
    return page.title() == "FIRED", page.locator(".plot svg a, .plot svg tspan[style*=bold]").count()


def test_nothing_of_a_record_runs(visit, hostile, tmp_path):
    assert SCRIPT.split("=")[1].strip("'") == "FIRED"
    assert seen(visit, tmp_path, hostile) == (False, 0)
    assert seen(visit, tmp_path, without_policy(hostile)) == (False, 0), "the escaping alone is enough"


def test_without_a_defence_it_would(visit, hostile, tmp_path):
    """The controls: Plotly reads HTML unless `label` escapes it, and markup runs unless it is set as text."""
    markup = without_policy(hostile).replace(
        "const label = (text) =>", "const label = (text) => String(text); const unused = (text) =>", 1
    )
    assert markup != hostile and seen(visit, tmp_path, markup)[1] > 0
    text = 'if (name === "text") made.textContent = value'
    assert text in hostile
    as_html = hostile.replace(text, 'if (name === "text") made.innerHTML = value', 1)
    assert seen(visit, tmp_path, without_policy(as_html))[0], "without a policy it fires"
    digests = re.sub(r"script-src [^\"]*", "script-src 'unsafe-hashes'", hostile, count=1)
    file = tmp_path / "policy.html"
    file.write_text(digests.replace("</h1>", f'</h1><script>{SCRIPT}</script><img src=x onerror="{SCRIPT}">', 1))
    assert visit(file).title() != "FIRED", "the policy alone is enough"


@pytest.mark.slow
def test_forty_arms_and_five_hundred_runs_stay_small(visit, tmp_path, monkeypatch):
    for arms, seeds in ((40, 5), (100, 5)):
        study = {"baseline": (0.5, 0.1, 20.0)} | {f"arm_{n}": (0.5 + n / 400, 0.1, 20.0 + n) for n in range(1, arms)}
        file = browsers.interactive_page(write_study(tmp_path / f"{arms}", study, seeds=seeds, images=100), monkeypatch)
        html = file.read_text()
        library = re.search(r'id="library">([^<]*)<', html)
        assert library and len(html) - len(library[1]) < 3e6
        page = visit(file)
        assert page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd") < 10_000
        assert bottom(page, ".answer .command") <= 800 and not page.errors


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([130.0, 45.0, 12000.0, 1e6, 3700.0], duration),
        ([0.03, 2e-5, 0.0002, 1e-9, math.nan], p_value),
        (["[-3.10, +9.00]", "n = 1", "[-20.00, +1.00]", "[+5.00, +6.00]", "-"], str),
        (["baseline", "+1.20 [+0.10, +2.00]", "-10.00 [-12.00, -8.00]", "+0.30", "-"], str),
    ],
)
def test_a_column_is_sorted_by_what_it_says(visit, tmp_path, values, shown):
    (tmp_path / "page.html.j2").write_text(
        '{% extends "base.html.j2" %}{% from "parts.html.j2" import table with context %}'
        "{% block main %}{{ table(t) }}{% endblock %}"
    )
    columns = [Column("Row", "", str, kind="label"), Column("Value", "", lambda row: values[row], shown)]
    (tmp_path / "page.html").write_text(
        template.render(tmp_path, "page.html.j2", {"t": Table(columns, range(len(values)))}, [], [])
    )
    page = visit(tmp_path / "page.html")
    page.locator(".sort", has_text="Value").click()
    order = page.evaluate("[...document.querySelectorAll('tbody th')].map((cell) => Number(cell.textContent))")
    by_hand = {duration: [1, 0, 4, 2, 3], p_value: [3, 1, 2, 0, 4]}.get(shown)
    assert order == (by_hand or ([2, 0, 3, 1, 4] if values[1] == "n = 1" else [2, 3, 1, 0, 4]))
