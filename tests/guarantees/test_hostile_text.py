"""Text of a stranger's records, files and folders: in pages, tables and terminals it stays text."""

import base64
import csv
import io
import itertools
import re
import shutil
import subprocess
import time
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from checksummed import lines_of
from fake_records import write_run, write_study
from hostile import edit_record, untrained_run
from hostile_pages import HTML, file_name, hostile_study
from pages import Page

from cnnexp import cli, storage, text
from cnnexp.commands.predict import as_csv, as_table
from cnnexp.pages import plotly, template
from cnnexp.pages.tables import Column, Table, csv_fields, to_csv, to_latex, to_markdown
from cnnexp.records import run_record as record
from cnnexp.records import study as study_file
from cnnexp.report import write
from cnnexp.report.render import page
from cnnexp.text import align, plain, visible

pytestmark = pytest.mark.counts("fixtures")

OURS = {  # every element that a page has, and every attribute
    *("html", "head", "meta", "title", "style", "body", "main", "header", "section", "nav", "aside", "h1", "h2", "h3"),
    *("p", "div", "span", "wbr", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "a", "strong", "code", "pre"),
    *("dl", "dt", "dd", "details", "summary", "figure", "figcaption", "img", "button", "input", "label", "select"),
    *("option", "br"),
}
ATTRIBUTES = {
    *("lang", "charset", "name", "content", "http-equiv", "class", "id", "href", "scope", "tabindex", "src", "alt"),
    *("role", "type", "open", "value", "min", "max", "step", "checked", "style", "aria-label", "aria-labelledby"),
    *("aria-describedby", "aria-hidden", "data-filter", "data-label", "data-sort", "data-study"),
}
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; script-src"


class Strangers(HTMLParser):
    """Collects what of a page does not come from its template."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.text = ""
        self.styles = 0
        self.feed(html)
        self.close()
        self.found += Page(html).strange

    def handle_starttag(self, tag, attributes):
        self.styles += tag == "style"
        if tag == "script":
            return
        self.found += [f"<{tag}>"] if tag not in OURS else []
        for name, value in attributes:
            local = name == "href" and re.match(r"#|figures/|[\w%./-]+/index\.html$", value or "")
            inline = name == "src" and (value or "").startswith("data:image/svg+xml;base64,")
            placed = name != "style" or re.fullmatch(r"(--(at|from|wide):[\d.]+%;?)+", value or "")
            if name not in ATTRIBUTES or not placed or (name in ("href", "src") and not local and not inline):
                self.found.append(f"<{tag} {name}={value}>")
            if name in ("content", "http-equiv") and "elsewhere" in (value or ""):
                self.found.append(f"<{tag} {name}={value}>")

    def handle_data(self, data):
        self.text += data if self.cdata_elem != "script" else ""


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory):
    """Return the page of a report of nothing but hostile text."""
    folder = hostile_study(tmp_path_factory.mktemp("outputs"))
    return write(folder, figures=False).index.read_text()


@pytest.fixture(scope="module")
def seen(hostile_page):
    """Return that page as it is parsed, and its text in one line."""
    parsed = Strangers(hostile_page)
    return parsed, " ".join(parsed.text.split())


@pytest.mark.integration
def test_the_page_has_no_part_of_a_stranger_s(hostile_page, seen):
    assert seen[0].found == [] and seen[0].styles == 1 and POLICY in unescape(hostile_page)
    assert "49{%" not in hostile_page, "a template in a text is not filled in"


@pytest.mark.parametrize("word", HTML)
def test_hostile_text_is_shown_as_it_is(seen, word):
    assert plain(word) in seen[1]


@pytest.mark.parametrize("word", [w for w in HTML if "\x00" not in w and "` on" not in w])
def test_without_escaping_it_does(word):
    """The control: each of the texts, where a page shows it, unescaped."""
    shown = (f"<p>{word}</p>", f'<img alt="{word}" src="data:image/svg+xml;base64,">', f"<title>{word}</title>")
    assert any(Strangers(html).found or Strangers(html).styles for html in shown)


@pytest.mark.slow
def test_without_the_engine_s_escaping_the_page_is_theirs(tmp_path, monkeypatch):
    """The control of the page: the same records, the engine told not to escape."""
    engine = template.engine.__wrapped__(page.TEMPLATES)  # not the one that is kept
    engine.autoescape = False
    monkeypatch.setattr(template, "engine", lambda *folders: engine)
    html = write(hostile_study(tmp_path), figures=False).index.read_text()
    found = Strangers(html).found
    assert any(word.startswith("<script") for word in found) and "<svg>" in found


@pytest.mark.slow
def test_an_overview_of_hostile_studies_is_a_page_of_ours(tmp_path):
    for number, word in enumerate(HTML[:8]):
        run = write_run(tmp_path, "a", 0, study=f"{number}", images=10, epochs=1)
        study_file.write_study(run.folder.parent, {"name": word, "question": word, "runs": [], "arms": []})
        run.folder.parent.rename(run.folder.parent.with_name(f"{number}javascript:{file_name(word)}"))
    html = write(tmp_path, figures=False).index.read_text()
    assert Strangers(html).found == [] and html.count("<tr data-study=") == 8


def dump(html, folder):
    """Return the page as chromium has it once its scripts have run."""
    file = folder / "page.html"
    file.write_text(html)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += ["--disable-component-update", "--disable-sync", f"--user-data-dir={folder}", "--dump-dom"]
    done = subprocess.run(["chromium", *options, file.as_uri()], capture_output=True, text=True, timeout=100)
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium here")
def test_in_a_browser_nothing_fires(hostile_page, tmp_path):
    if "alive" not in dump("<title>alive</title>", tmp_path):
        pytest.skip("chromium cannot run here")
    bare = re.sub(
        r'(Security-Policy" content=)"[^"]*"', r'\1"img-src data:"', hostile_page
    )  # only the escaping is left
    assert "<title>FIRED" not in dump(bare, tmp_path)
    fires = bare.replace("</h1>", f"</h1>{HTML[0]}", 1)
    assert "<title>FIRED" in dump(fires, tmp_path), "the control: a script does fire"
    assert "<title>FIRED" not in dump(hostile_page.replace("</h1>", f"</h1>{HTML[0]}", 1), tmp_path), "the policy"


@pytest.mark.slow
def test_figures_hold_no_element_of_a_stranger_s(tmp_path, monkeypatch):
    monkeypatch.setattr(plotly, "library", lambda: None)  # then the page shows the files
    folder = hostile_study(tmp_path, figures=True)
    write(folder)
    files = list((folder / "report" / "figures").glob("*.svg"))
    assert len(files) > 5
    names, hrefs = set(), set()
    for file in files:
        for element in ElementTree.parse(file).iter():
            names.add(element.tag.partition("}")[2])
            hrefs |= {v for k, v in element.attrib.items() if k.endswith("href")}
            assert not [k for k in element.attrib if k.lower().startswith("on")]
    ours = {
        "svg",
        "metadata",
        "defs",
        "style",
        "g",
        "path",
        "use",
        "clipPath",
        "rect",
        "text",
        "image",
        "tspan",
        "pattern",
    }
    rdf = {"RDF", "Work", "type", "format", "creator", "Agent", "title", "date"}
    assert names <= ours | rdf, names - ours - rdf
    assert all(href.startswith(("#", "data:image/png;base64,")) for href in hrefs)
    html = (folder / "report" / "index.html").read_text()
    assert Strangers(html).found == []
    inline = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", html)
    assert inline and all(b"<script" not in base64.b64decode(content) for content in inline)


FORMULAS = [
    *("=cmd|' /C calc'!A0", "+1+cmd|' /C calc'!A0", "-1+cmd", "@SUM(1+1)*cmd", "\t=1+1", "\r=1+1", "\n=1+1", " =1+1"),
    *(
        "a;=1+1",
        "a\t=1+1",
        "a;\t+1",
        "a\r\n=1+1",
        '";=1+1',
        "＝1+1",
        "＋1",
        "－1",
        "＠SUM(1)",
        '=HYPERLINK("https://x")',
    ),
    *("=1+1\x00", "\x00=1+1", "\x1b[31m=1+1", "=IMPORTXML(1)", "a; =1", ";;=1", "'=1;=1", "x;-cmd"),
]
STARTS = tuple("=+-@＝＋－＠\t\r")


def cells_as_formulas(content):
    """Return the cells that some spreadsheet would take for a formula: split at commas, semicolons or tabs."""
    rows = list(csv.reader(io.StringIO(content, newline="")))
    cells = [c for row in rows for cell in row for c in (cell, *re.split(r"[;\t\r\n]", cell))]
    words = [c for cell in cells for c in (cell, cell.strip())]
    return [w for w in words if w.startswith(STARTS) and not re.fullmatch(r"-?[\d.e-]+", w)]


@pytest.mark.parametrize("cell", FORMULAS)
def test_no_cell_is_a_formula(cell):
    assert cells_as_formulas(to_csv(Table(csv_fields("arm", "n"), [(cell, 1.5)]))) == []
    assert cells_as_formulas(as_csv([(Path(cell), [(cell, 0.5)])], first=True)) == []
    buffer = io.StringIO()
    csv.writer(buffer).writerow([cell])  # the control
    assert cells_as_formulas(buffer.getvalue()) or "\x00" in cell or "\x1b" in cell


@pytest.mark.slow
def test_no_csv_of_a_command_holds_a_formula(tmp_path, capsys):
    for number, cell in enumerate(FORMULAS):
        error = {"type": "E", "message": cell}
        write_run(tmp_path, cell, 0, study=cell, status="failed", fingerprint=f"{number:010x}", error=error)
    assert cli.main(["runs", str(tmp_path), "--csv"]) == 0
    out = capsys.readouterr().out
    assert len(list(csv.reader(io.StringIO(out)))) == len(FORMULAS) + 1 and cells_as_formulas(out) == []
    folder = write_study(tmp_path / "b", dict.fromkeys(FORMULAS[:12], (0.6, 0.1, 9.0)), seeds=1, study="b")
    write(folder, figures=False)
    for file in (folder / "report" / "tables").glob("*.csv"):
        assert cells_as_formulas(file.read_text()) == [], file


def table_of(cell):
    """Return a table of one row: the cell, and an x."""
    return Table([Column("a", "", lambda row: row), Column("b", "", lambda row: "x")], [cell])


LATEX = [
    *(r"\input{/etc/passwd}", r"\write18{touch canary}", r"\immediate\write18{x}", r"\include{x}", r"\catcode`\%=0"),
    *(r"^^5cinput{x}", r"^^5e^5c", r"\def\x{\x\x}\x", r"\csname input\endcsname{x}", r"\end{tabular}\input{x}", r"\\"),
    *("$\\input{x}$", "%", "a & b", "#1", "~", "{", "}}}", "[2pt]", "*[1em]", r"\verb|x|", r"\openin5=x", "_a^b"),
    *("\\\ninput{x}", "\\\x85input", "\x7f\\input", r"\newwrite\x\openout\x=canary"),
]
KNOWN = sorted([*text._LATEX.values(), r"$\pm$", "{}"], key=len, reverse=True)


@pytest.mark.parametrize("cell", LATEX)
def test_no_cell_is_a_command_of_latex(cell):
    row = to_latex(table_of(plain(cell))).splitlines()[5].removesuffix(r" & x \\")
    assert not row.startswith(("[", "*"))
    for ours in KNOWN:
        row = row.replace(ours, "")
    assert not set(row) & set("\\{}$&#%_~^")
    first, note, begin = to_latex(Table(table_of("").columns, [], [cell])).splitlines()[:3]
    assert first.startswith("% needs") and note.startswith("% ") and begin.startswith(r"\begin{tabular}")
    assert set(cell) & set("\\{}$&#%_~^[*"), "the control: as it is, it would be"


MARKDOWN = [
    *("<script>x</script>", "[x](javascript:x)", "![x](https://elsewhere.example/x.png)", "a | b", "`code`", "**x**"),
    *("x\n\n# heading", "x\n| a | b |", "<https://elsewhere.example>", "[x]: javascript:x", "~~x~~", "$x$", "__x__"),
    *("&#60;script&#62;", "\\<script>", "<img src=x onerror=x>", "<!-- x", "]]><script>", "\\|"),
]


@pytest.mark.parametrize("cell", MARKDOWN)
def test_no_cell_is_markup(cell):
    line = to_markdown(table_of(plain(cell))).splitlines()[2:]
    assert len(line) == 1 and len(re.findall(r"(?<!\\)(?:\\\\)*\|", line[0])) == 3
    inside = line[0][2:-6]
    assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", inside)
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*\[\]~$]", inside)


TERMINAL = [
    *("\x1b[31mred", "\x1b[2J\x1b[H", "\x1b]0;title\x07", "\x1b]52;c;ZXZpbA==\x07", "\x1b]52;c;ZXZpbA==\x1b\\"),
    *(
        "\x1b]8;;https://elsewhere.example\x07click\x1b]8;;\x07",
        "\x1bPq#0\x1b\\",
        "\x1b_Gx\x1b\\",
        "\x1b^x\x1b\\",
        "\x1bc",
    ),
    *(
        "\x9b31m",
        "\x9d0;title\x9c",
        "\x90q\x9c",
        "rm -rf\x08\x08\x08\x08\x08\x08ls    ",
        "safe\revil",
        "a\x0bb",
        "a\x0cb",
    ),
    *(
        "\x07\x07",
        "\x00",
        "\x7f",
        "\x85",
        "abc\u202edef",
        "\u2066x\u2069",
        "\u200fx",
        "\u061cx",
        "a\u2028b",
        "\x0e\x0f",
    ),
    *(
        "\x1b[6n",
        "\x1b[?1049h",
        "\x1b[8m hidden",
        "\x1b]1337;File=:\x07",
        "\x1b]4;1;?\x07",
        "\x1b#8",
        "\x1b[20t",
        "\udc1b[",
    ),
]
OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]"
)


@pytest.mark.parametrize("word", TERMINAL)
def test_nothing_that_a_terminal_obeys_is_shown(word, tmp_path):
    assert OBEYED.search(word), "the control: as it is, it is obeyed"
    log = record.RunRecord(tmp_path)
    log.log(f"failed: {word}")
    shown = {
        "plain": plain(word),
        "visible": visible(word, lines=True),
        "table": align([[word, "x"]]),
        "predict": as_table([(Path(word.replace("\x00", "")), [(word, 0.5)])], first=True),
        "csv": as_csv([(Path(word), [(word, 0.5)])], first=True),
        "log": (tmp_path / "train.log").read_text(),
    }
    assert {name: text for name, text in shown.items() if OBEYED.search(text)} == {}
    assert "\n" not in visible(f"{word}\n")


@pytest.fixture(scope="module")
def hostile_records(tmp_path_factory):
    """Return a folder of runs in which every text is meant for a terminal, and two that load."""
    outputs, everything = tmp_path_factory.mktemp("records") / "outputs", "".join(TERMINAL[:-1])
    first = untrained_run(outputs)
    for name in ("a", "b"):
        shutil.copytree(first, first.with_name(name))
        device = {"kind": "cpu", "precision": "fp32", "threads": 1, "name": everything}
        data = {**storage.read_json(first / "run.json")["data"], "name": everything + name, "fingerprint": everything}
        data["classes"] = [f"{word}{k}" for k, word in enumerate(TERMINAL[:10])]
        edit_record(
            first.with_name(name), study=everything, arm=everything, device=device, data=data, code={"digest": name},
            environment={"torch": everything + name}, repeat=everything,
        )  # fmt: skip
        row = {"kind": "epoch", "epoch": everything + name, "split": everything, "loss": everything}
        (first.with_name(name) / "metrics.jsonl").write_bytes(lines_of([row]))
    for number, word in enumerate(TERMINAL[:-1]):
        folder = first.with_name(f"{number}{file_name(word)}")
        shutil.copytree(first, folder)
        edit_record(folder, arm=word, study=word, status="failed", error={"type": word, "message": word})
    storage.make_folder(first.with_name(f"torn{TERMINAL[0]}"))
    (first.with_name(f"torn{TERMINAL[0]}") / "run.json").write_text(f"{{{TERMINAL[0]}")
    return first.parent


@pytest.mark.parametrize(
    "command",
    [
        *("runs .", "runs . --csv", "runs . --json", "gc .", "gc . --checkpoints", "report . --no-figures"),
        *(
            "diff a b",
            "evaluate a",
            "evaluate a --json",
            "report a --no-figures",
            "verify .",
            "verify a",
            "rerun a",
            "evaluate gone",
            "predict a gone.png",
        ),
    ],
)
def test_no_command_shows_what_a_terminal_obeys(hostile_records, command, capsys, monkeypatch):
    monkeypatch.chdir(hostile_records)
    code = cli.main(command.split())
    monkeypatch.undo()
    out, err = capsys.readouterr()
    assert code in (0, 2, 3) and (out or err) and "Traceback" not in err
    assert not OBEYED.search(out + err), OBEYED.search(out + err)


@pytest.mark.parametrize("word", TERMINAL[:12])
def test_no_error_shows_what_a_terminal_obeys(word, tmp_path, capsys):
    name = word.replace("\x00", "")
    for command in (["runs", name], ["evaluate", name], ["predict", name, name], [name], ["train", name], [f"-{name}"]):
        assert cli.main(command) == 2
        assert not OBEYED.search("".join(capsys.readouterr()))


@pytest.mark.parametrize(
    "word",
    [
        " " * 40_000 + "x",
        ("x" + " " * 200) * 200,
        "\n" * 20_000,
        "; " * 20_000,
        "\x9d" * 20_000 + "\x1bX",
        "\x1b]" * 20_000,
        "\x1b[" * 20_000,
        "\x1b" * 20_000,
        "\t" * 20_000,
        "x" * 10**7,
    ],
    ids=["spaces", "gaps", "lines", "cells", "commands", "titles", "colours", "escapes", "tabs", "10 MB"],
)
def test_long_texts_take_no_longer_than_their_length(word):
    start = time.monotonic()
    assert len(plain(word)) <= 10_001
    text.csv_cell(word)
    assert time.monotonic() - start < 3, "a scan that begins anew at every character takes minutes"


@pytest.mark.parametrize("before", ["", "x;", "x\t", "x\r", "\n", ";;", "x ; "])
def test_no_number_of_spaces_lets_a_formula_through(before):
    for space, count in itertools.product((" ", "\u3000", "\xa0"), (0, 1, 8, 9, 40, 5000)):
        for formula in ("=cmd|' /C calc'!A0", "@SUM(1)"):
            cell = f"{before}{space * count}{formula}"
            begins = re.split(r";|\\t|\\r|\\n", text.csv_cell(cell))
            assert not [part for part in begins if re.match(r"\s*[=@]", part)], (count, cell[:20])
        assert text.csv_cell(f"a{space * count}= b") == f"a{space * count}= b", "within a text it is harmless"
