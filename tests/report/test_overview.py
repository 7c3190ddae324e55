"""The page over several studies: a row each, also of a damaged one; pages are made again only where records changed."""

import re

import browsers
import pytest
from fake_records import write_run, write_study
from pages import HOSTILE, Page

from cnnexp import report
from cnnexp.errors import UserError
from cnnexp.report.render import overview
from cnnexp.report.render import write as writing

pytestmark = pytest.mark.integration

TWO = {"baseline": (0.5, 0.3, 60.0), "dropout": (0.6, 0.1, 70.0)}


@pytest.fixture
def outputs(tmp_path):
    for name in ("one", "two"):
        write_study(tmp_path, TWO, study=name, images=100)
    return tmp_path


def rows(written):
    """Return the rows of the overview's table as text, by the study's name."""
    found = written.index.read_text().split("<tr data-study=")[1:]
    texts = [" ".join(Page("<p x=" + row.split("</tr>")[0].replace("</t", " </t")).text.split()) for row in found]
    return {text.split()[0]: text for text in texts}


def write(folder, **options):
    return report.write(folder, figures=False, **options)


def test_a_row_has_question_verdict_status_data_runs_size_and_link(outputs):
    write_run(outputs, "dropout", 7, 0.6, study="two", status="failed", error={"message": "no"}, images=100)
    written = write(outputs)
    for words in ("Does each change help", "Better than baseline: dropout.", "Final", "postcards", "6 0 0", "MiB"):
        assert words in rows(written)["one"]
    assert "6 0 1" in rows(written)["two"]
    assert {"one/index.html", "two/index.html"} <= set(Page(written.index.read_text()).links)
    assert "2 studies, 13 runs: 12 done, 0 unfinished, 1 without a result." in written.index.read_text()
    assert "Provisional" not in written.terminal and "Better than baseline: dropout." in written.terminal


def test_runs_that_repeat_others_are_no_study(outputs):
    write_run(outputs, "dropout", 1, 0.6, study="rerun", command="cnnexp rerun one/dropout/1", images=100)
    assert set(rows(write(outputs))) == {"one", "two"}
    assert "dropout" in write(outputs / "rerun").index.read_text()


def test_a_damaged_study_is_a_row_with_its_reason(outputs, monkeypatch):
    (outputs / "one" / "study.json").write_text("{")
    write_study(outputs, TWO, study="three", images=100)
    real = writing.look

    def look(path, *rest):
        if path.name == "three":
            raise ValueError("<b>odd</b>")
        return real(path, *rest)

    monkeypatch.setattr(writing, "look", look)
    shown = rows(write(outputs))
    assert "Damaged" in shown["one"] and "study.json" in shown["one"] and "Final" in shown["two"]
    assert "Damaged" in shown["three"] and "internal error: ValueError: <b>odd</b>" in shown["three"]


def test_the_overview_is_written_again_only_for_new_links(outputs, monkeypatch):
    sizes, pages, size, render = [], [], overview._size, overview.render
    monkeypatch.setattr(overview, "_size", lambda folder, others: sizes.append(folder) or size(folder, others))
    monkeypatch.setattr(overview, "render", lambda *given: pages.append(given) or render(*given))
    write(outputs)
    assert len(sizes) == 2 and len(pages) == 2, "the first one has no link yet"
    write_run(outputs, "dropout", 7, 0.6, study="two", images=100)
    write(outputs)
    assert len(sizes) == 4 and len(pages) == 3


def test_an_unknown_baseline_is_refused_if_no_study_has_it(outputs):
    with pytest.raises(UserError, match="nothing"):
        write(outputs, baseline="nothing")


def made(monkeypatch):
    """Return the list of studies whose pages are made from now on."""
    found, real = [], writing._write_group
    monkeypatch.setattr(writing, "_write_group", lambda f, *rest: found.append(f.study.name) or real(f, *rest))
    return found


def test_only_pages_of_changed_studies_are_made_again(outputs, monkeypatch):
    write(outputs)
    again = made(monkeypatch)
    write(outputs)
    assert again == []
    write_run(outputs, "dropout", 7, 0.6, study="two", images=100)
    write(outputs)
    (outputs / "report" / "one" / "tables" / "runs.md").write_text("changed by hand")
    write(outputs)
    (outputs / "report" / "one" / "index.html").unlink()
    write(outputs)
    assert again == ["two", "one", "one"]


def test_of_many_changed_studies_the_pages_are_made_on_request(outputs, monkeypatch):
    monkeypatch.setattr(writing, "MAX_PAGES", 1)
    written = write(outputs, command="cnnexp report outputs")
    assert "cnnexp report outputs --all-pages" in written.terminal
    assert "one/index.html" not in Page(written.index.read_text()).links
    assert f"cnnexp report {outputs / 'one'}" in written.index.read_text()
    assert "one/index.html" in Page(write(outputs, all_pages=True).index.read_text()).links


def test_hostile_names_are_text(tmp_path):
    for place, name in enumerate(HOSTILE[:4]):
        folder = write_study(tmp_path, TWO, seeds=1, study=f"s{place}", images=50, name=name, question=name)
        assert folder.is_dir()
    page = Page(write(tmp_path).index.read_text())
    assert not page.strange and not {"img", "iframe", "b"} & set(page.tags)
    assert "<script>alert('x')</script>" in page.text and "\x1b" not in page.text


@pytest.mark.slow
def test_filters_sort_and_the_cost_figure_in_a_browser(tmp_path):
    for name, top in (("<img src=x onerror=alert(1)>", 0.6), ("two", 0.7)):
        write_study(tmp_path, {"baseline": (0.5, 0.3, 60.0), "<b>up": (top, 0.1, 70.0)}, study=name, images=100)
    write_study(tmp_path, TWO, study="three", seeds=1, images=100)
    index = write(tmp_path).index
    playwright, program = browsers.start()
    with playwright as library:
        page = library.chromium.launch(executable_path=program, args=["--no-sandbox"]).new_page()
        problems = []
        page.on("dialog", lambda dialog: problems.append(dialog.message) or dialog.dismiss())
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(index.as_uri())
        shown = "#studies tbody tr:not([hidden])"
        assert page.locator(shown).count() == 3 and page.locator("#front tbody tr").count() >= 2
        page.locator("#plot-cost").scroll_into_view_if_needed()
        page.wait_for_function("document.querySelector('#plot-cost').dataset.drawn", timeout=browsers.PATIENCE)
        assert page.locator("#plot-cost b, #plot-cost img").count() == 0
        page.select_option("#studies select[data-column='1']", "Too few seeds")
        assert page.locator(f"{shown} th").all_inner_texts() == ["three"]
        assert set(page.locator("#front tbody th").all_inner_texts()) == {"three"}
        page.select_option("#studies select[data-column='1']", "")
        page.fill("#studies input[type=search]", "two")
        assert page.locator(f"{shown} th").all_inner_texts() == ["two"]
        page.fill("#studies input[type=search]", "")
        page.click("#studies th:nth-child(8) .sort")
        assert page.locator(f"{shown} th").first.inner_text() == "three", "the smallest on disk"
        assert problems == []


def test_the_last_change_is_sorted_by_its_time(outputs):
    html = write(outputs).index.read_text()
    times = [float(cell) for cell in re.findall(r'data-label="Changed" data-sort="([\d.]+)">\d{4}-', html)]
    newest = [max(run.stat().st_mtime for run in (outputs / name).glob("*/run.json")) for name in ("one", "two")]
    assert len(times) == 2 and all(when >= at - 1 for when, at in zip(times, newest, strict=True))


def test_a_baseline_that_only_some_studies_have_is_used_there_and_the_others_keep_theirs(outputs):
    write_study(outputs, {**TWO, "extra": (0.4, 0.3, 60.0)}, study="three", images=100)
    written = write(outputs, baseline="extra")
    shown = rows(written)
    assert "Better than extra: baseline." in shown["three"] and "no effect" not in shown["three"]
    for name in ("one", "two"):
        assert "Better than baseline: dropout." in shown[name] and "Damaged" not in shown[name]
        said = "unknown arm 'extra'"
        assert said in shown[name] and "Here it has no effect: compared with baseline." in shown[name]
        assert (
            "Here it has no effect: compared with baseline." in (outputs / "report" / name / "index.html").read_text()
        )
    assert "--baseline has no effect on one, two, which keep their own\n" in written.terminal
