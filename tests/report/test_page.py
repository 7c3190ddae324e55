"""The written report: complete, self-contained, and harmless whatever the records hold."""

import base64
import html
import json
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from fake_records import write_run, write_study
from pages import HOSTILE, Page

from cnnexp import report
from cnnexp.errors import UserError
from cnnexp.pages import plotly, style
from cnnexp.records import study as study_file
from cnnexp.report.figures import charts
from cnnexp.report.render import page as page_module

pytestmark = pytest.mark.integration

TWO = {"baseline": (0.5, 0.3, 60.0), "dropout": (0.6, 0.1, 70.0)}


def small(folder):
    """Write a study of one run whose figures are quickly drawn."""
    write_run(folder, "dropout", 0, 0.6, classes=["a", "b"]).keep_rows(0)
    return folder / "demo"


def page_of(written):
    return Page(written.index.read_text())


def write(folder, **options):
    return report.write(folder, **{"figures": False, **options})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    arms = {**TWO, "dropout": (0.6, 0.1, 1.0)}  # times so far apart that the figure of costs has a logarithmic axis
    return report.write(write_study(tmp_path_factory.mktemp("whole"), arms), command="cnnexp report demo")


def test_a_whole_report(whole):
    page, folder = page_of(whole), whole.index.parent.parent
    assert (whole.index.name, whole.index.parent.name, folder.name) == ("index.html", "report", "demo")
    assert {"comparison", "figures", "arms", "cost", "environment", "runs"} <= set(page.ids)
    assert all(link[1:] in page.ids for link in page.links if link.startswith("#"))
    assert all((folder / "report" / link).exists() for link in page.links if not link.startswith("#"))
    for words in ("Better than baseline: dropout.", "ties to the lower loss", "evaluated once", "cnnexp report demo"):
        assert words in page.text
    assert "cnnexp train +study=demo +arm=dropout seed=2" in page.text
    figures = {f.stem for f in (folder / "report" / "figures").iterdir()}
    assert {"test_accuracy", "validation_curves", "accuracy_curves", "loss_curves", "confusion_all", "cost"} <= figures
    assert {"confusion_baseline", "confusion_dropout"} <= figures
    for svg in (folder / "report" / "figures").glob("*.svg"):
        assert "mathdefault" not in svg.read_text(), "numbers on axes are plain"
    forms = {f.name for f in (folder / "report" / "tables").iterdir()}
    assert {"comparison.md", "comparison.csv", "comparison.tex", "cost.tex", "per_class.md", "runs.csv"} <= forms


def test_a_page_needs_nothing_from_outside(whole):
    written, page = whole, page_of(whole)
    assert not [s for s in page.sources if not s.startswith("data:image/svg+xml;base64,")]
    assert not page.strange and not {"link", "iframe"} & set(page.tags)
    assert "content=\"default-src 'none'; img-src data:;" in html.unescape(written.index.read_text())


def hostile_study(folder, names):
    for i, name in enumerate(names):
        run = write_run(folder, name, 0, 0.5 + 0.01 * i, fingerprint=f"{i}f", classes=[*HOSTILE, "a|b", ""])
        run.update(repeat=f"cnnexp {name}", changes=[name], command=name, device={"name": name})
    write_run(folder, HOSTILE[0], 9, status="failed", error={"type": "E", "message": " ".join(HOSTILE)})
    plan = {"name": HOSTILE[0], "question": HOSTILE[6], "baseline": HOSTILE[1], "arms": HOSTILE, "runs": []}
    study_file.write_study(folder / "demo", plan)
    return folder / "demo"


def test_hostile_names(tmp_path):
    written = write(hostile_study(tmp_path, HOSTILE), command=HOSTILE[0])
    page, out = page_of(written), written.index.parent
    assert not page.strange and not {"iframe", "img"} & set(page.tags)
    assert not [a for a in page.attributes if a.startswith("on")]
    assert HOSTILE[0] in page.text and "{{ 1234*5678 }}" in page.text and "7006652" not in page.text
    everything = [written.terminal, *(f.read_text() for f in (out / "tables").iterdir()), written.index.read_text()]
    assert not any("\x1b" in content or "\u202e" in content for content in everything)
    assert not re.search(r"(^|[^\\])\\input", (out / "tables" / "comparison.tex").read_text())
    assert "<script" not in (out / "tables" / "comparison.md").read_text()
    assert not re.search(r"(?m)(^|,)\"?[=+@]", (out / "tables" / "comparison.csv").read_text())


def test_hostile_names_in_figures(tmp_path):
    written = report.write(hostile_study(tmp_path, [" ".join(HOSTILE), HOSTILE[4]]))
    page = page_of(written)
    assert all(s.startswith("data:image/svg+xml;base64,") for s in page.sources)
    files = list((written.index.parent / "figures").glob("*.svg"))
    assert len(files) == 9
    for file in files:
        tags = {element.tag.rsplit("}")[-1] for element in ElementTree.parse(file).iter()}
        assert "script" not in tags and "text" in tags


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_few_seeds(tmp_path, seeds):
    written = write(write_study(tmp_path, TWO, seeds=seeds))
    for text in (page_of(written).text, written.terminal):
        assert ("no verdict" in text) == (seeds == 1)
    assert ("n = 1" in written.terminal) == (seeds == 1)


def test_a_single_run(tmp_path):
    run = write_run(tmp_path, "dropout", 0, 0.6)
    written = report.write(run.folder)
    assert written.index == run.folder / "report" / "index.html"
    assert "One arm, dropout: nothing to compare it with." in page_of(written).text


def test_only_failed_runs(tmp_path):
    write_run(tmp_path, "dropout", 0, status="failed", error={"type": "ValueError", "message": "a <b> problem"})
    text = page_of(report.write(tmp_path / "demo")).text
    assert "No run is done yet" in text and "ValueError: a <b> problem" in text


def test_runs_without_curves_predictions_or_times(tmp_path):
    run = write_run(tmp_path, "dropout", 0, 0.6, with_predictions=False)
    run.keep_rows(0)
    run.update(seconds={})
    written = report.write(tmp_path / "demo")
    assert {f.name for f in (written.index.parent / "figures").iterdir()} == {
        f"test_accuracy.{form}" for form in ("png", "svg", "pdf")
    }
    assert "No predictions" in page_of(written).text


def test_band_by_hand():
    from cnnexp.report.figures.curves import band

    epochs, mean, low, high = band([{1: 0.1, 2: 0.2}, {1: 0.3, 2: 0.4, 3: 0.9}, {1: 0.5, 2: 0.6}])
    assert (list(epochs), list(mean)) == ([1, 2], pytest.approx([0.3, 0.4]))  # the epochs that all seeds reached
    assert list(high - low) == pytest.approx([0.4, 0.4])  # a standard deviation of 0.2 to each side
    _, _, low, high = band([{1: 0.1}, {1: 0.3}])
    assert (low[0], high[0]) == (0.1, 0.3)
    assert band([])[0].size == band([{1: 0.1}, {2: 0.1}])[0].size == 0


def test_unequal_lengths_and_losses_that_are_not_numbers(tmp_path):
    for seed, epochs in enumerate((4, 9, 1)):
        run = write_run(tmp_path, "dropout", seed, 0.6, epochs=epochs)
        run.append(kind="epoch", epoch=epochs + 1, split="val", loss=float("nan"), accuracy=None)
        run.sync()
    report.write(tmp_path / "demo")


def test_arms_with_different_classes(tmp_path):
    for arm, classes in (("many", [f"class {i}" for i in range(30)]), ("two", ["a", "b"])):
        write_run(tmp_path, arm, 0, 0.6, classes=classes).keep_rows(0)
    written = report.write(tmp_path / "demo")
    assert (written.index.parent / "figures" / "confusion_all.svg").exists()
    assert not (written.index.parent / "tables" / "per_class.md").exists()  # the arms' classes differ


def test_several_studies_get_an_index(tmp_path):
    write_study(tmp_path, TWO, seeds=2, study="one")
    write_study(tmp_path, TWO, seeds=2, study="two words")
    written = write(tmp_path)
    links = [link for link in page_of(written).links if not link.startswith("#")]
    assert links == ["one/index.html", "two-words-d7f9e43e/index.html"]
    assert all((written.index.parent / link).exists() for link in links)
    assert written.terminal.count("Test (%)") == 2


def test_a_second_report_clears_what_it_does_not_write(tmp_path):
    folder = small(tmp_path)
    out = report.write(folder).index.parent
    assert (out / "figures" / "test_accuracy.png").exists()
    kept = out / "figures" / "mine.png"
    kept.write_bytes(b"")
    manifest = json.loads((out / "report.json").read_text())
    (out / "report.json").write_text(json.dumps([*manifest, "../index.html", "figures/..", "/figures/mine.png"]))
    write(folder)
    assert list((out / "figures").iterdir()) == [kept]
    assert len(list(folder.glob("dropout-*"))) == 1


def test_the_same_records_give_the_same_files(tmp_path):
    folder = small(tmp_path)
    first, second = (report.write(folder, out=tmp_path / name, command="x").index.parent for name in "ab")
    for file in first.rglob("*.*"):
        assert file.read_bytes() == (second / file.relative_to(first)).read_bytes(), file.name


def test_what_cannot_be_written_is_one_line(tmp_path):
    folder = write_study(tmp_path, TWO, seeds=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make this folder"):
        write(folder, out=tmp_path / "file" / "x")
    (tmp_path / "out" / "index.html").mkdir(parents=True)
    with pytest.raises(UserError, match="cannot write the page"):
        write(folder, out=tmp_path / "out")


def test_every_figure_is_a_file_for_papers(whole):
    written = whole
    files = list((written.index.parent / "figures").glob("*"))
    links = set(page_of(written).links)
    assert {f"figures/{f.name}" for f in files} <= links
    assert {f.suffix for f in files} == {".png", ".svg", ".pdf"}


def test_without_plotly_the_figures_of_the_page_are_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(plotly, "library", lambda: None)
    written = report.write(small(tmp_path))
    page = page_of(written)
    embedded = {base64.b64decode(s.partition(",")[2]) for s in page.sources}
    assert embedded == {f.read_bytes() for f in (written.index.parent / "figures").glob("*.svg")}
    assert "pip install plotly" in page.text and not page.strange


def test_images_beyond_a_limit_are_only_files(monkeypatch):
    def figure(name, size):
        return style.Figure(name, "", b"", b"x" * size, b"")

    figures = [figure("cost", 900), figure("probes_a", 60), figure("disagreement_b", 60), figure("probes_c", 1)]
    kept = page_module._within(100, figures)
    assert [(f.name, len(f.svg)) for f in kept] == [
        *(("cost", 900), ("probes_a", 60), ("disagreement_b", 0), ("probes_c", 0))
    ]


def run_python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60)


def test_the_command_prints_the_table_and_imports_no_torch(tmp_path):
    folder = write_study(tmp_path, TWO)
    code = (
        "import sys; from cnnexp.commands.report import main\n"
        f"code = main([{str(folder)!r}, '--no-figures', '--baseline', 'dropout'])\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules and 'pandas' not in sys.modules\n"
        "sys.exit(code)"
    )
    done = run_python("-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr
    assert "Worse than dropout: baseline." in done.stdout
    assert done.stdout.rstrip().endswith("index.html")
    assert max(map(len, done.stdout.splitlines()[:6])) <= 120


def test_command_line(tmp_path, capsys):
    from cnnexp.commands.report import main

    folder = write_study(tmp_path, TWO, seeds=1)
    assert main([str(folder), "--quiet", "--no-figures", "--out", str(tmp_path / "r")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'r' / 'index.html'}\n"
    assert f"--out {tmp_path / 'r'}" in (tmp_path / "r" / "index.html").read_text()
    with pytest.raises(SystemExit) as stop:
        main(["a", "--colour"])
    assert stop.value.code == 2
    with pytest.raises(UserError, match="no such folder"):
        main([str(tmp_path / "nowhere")])


def test_intervals_are_drawn_as_far_as_accuracy_exists(tmp_path, monkeypatch):
    """Two seeds give intervals of many points."""
    drawn = []

    def look(figure, *rest, **more):
        drawn.extend(line.get_xdata() for line in figure.axes[0].lines if len(line.get_xdata()) == 2)
        return style.finish(figure, *rest, **more)

    monkeypatch.setattr(charts, "finish", look)
    report.write(write_study(tmp_path, {"baseline": (0.01, 0.0, 60.0), "dropout": (0.99, 0.0, 70.0)}, seeds=2))
    ends = [end for line in drawn for end in line if end not in (0, 1)]
    assert min(map(min, drawn)) >= 0 and max(map(max, drawn)) <= 100 and len(ends) >= 4


def test_dots_of_equal_seeds_are_drawn_below_each_other(tmp_path, monkeypatch):
    dots = []

    def look(figure, *rest, **more):
        dots.extend(zip(*line.get_data(), strict=True) for line in figure.axes[0].lines if len(line.get_xdata()) == 4)
        return style.finish(figure, *rest, **more)

    monkeypatch.setattr(charts, "finish", look)
    for seed in range(4):
        write_run(tmp_path, "baseline", seed, 0.5)
        write_run(tmp_path, "dropout", seed, 0.6 if seed else 0.7)
    report.write(tmp_path / "demo")
    places = [[(round(x, 3), round(y, 2)) for x, y in of_arm] for of_arm in dots]
    assert all(len(set(of_arm)) == 4 for of_arm in places[:2]), "no seed is hidden"
    assert {y for _, y in places[0]} == {0.24, 0.35, 0.46, 0.57} and {y for _, y in places[1]} == {1.24, 1.35, 1.46}


def test_what_the_cost_table_has_is_not_in_the_main_table_of_the_page_too(tmp_path):
    written = report.write(write_study(tmp_path, TWO, seeds=2), figures=False)
    page = written.index.read_text()
    main, cost = (page[page.index(f'<section id="{name}"') :] for name in ("comparison", "cost"))
    headings = main[: main.index("</thead>")]
    for heading in ("Training (s)", "Images/s", "Parameters", "MACs"):
        assert f">{heading}<" not in headings and f">{heading}<" in cost, heading
    cells = main[main.index("<tbody>") : main.index("</table>")]
    assert cells.count("<td") + cells.count("<th ") == headings.count("<th ") * 2
    assert "| MACs |" in (written.index.parent / "tables" / "comparison.md").read_text(), "the file has all columns"
