"""`cnnexp report --serve`: what the server answers, and what a page in a browser keeps when it is loaded again."""

import errno
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import browsers
import pytest
from fake_records import write_run, write_study

from cnnexp import report, storage
from cnnexp.commands import report as command
from cnnexp.errors import UserError
from cnnexp.report import serve as serving

pytestmark = pytest.mark.integration

TWO = {"baseline": (0.5, 0.3, 60.0), "dropout": (0.6, 0.1, 70.0)}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return report.write(write_study(tmp_path_factory.mktemp("served"), TWO, images=200)).index


@pytest.fixture
def server(written):
    made = serving.Server(written.parent, 0)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def ask(server, target="/", method="GET", host=None, headers=()):
    """Return status, headers and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.putrequest(method, target, skip_host=True)
    for name in [host or f"127.0.0.1:{server.server_port}"] if host != "" else []:
        connection.putheader("Host", name)
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def test_it_listens_on_this_machine_only(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_it_serves_the_page_its_tables_and_figures(server, written):
    status, headers, page = ask(server)
    assert status == 200 and b"connect-src &#39;self&#39;" in page and headers["ETag"]
    assert len(page) < written.stat().st_size, "the library of figures is a file of its own"
    assert headers["Set-Cookie"] is None and headers["X-Content-Type-Options"] == "nosniff"
    assert ask(server, "/index.html")[2] == page
    assert ask(server, "/tables/runs.md")[0] == ask(server, "/figures/cost.svg")[0] == 200
    status, headers, body = ask(server, method="HEAD")
    assert (status, body) == (200, b"") and int(headers["Content-Length"]) == len(page)
    assert ask(server, "/plotly.js")[1]["Content-Type"] == "text/javascript"


@pytest.mark.parametrize(
    "target",
    [
        *("/figures/", "/figures", "/tables/", "/nothing.html", "/report.json", "/./index.html", "/%"),
        *("/../study.json", "/%2e%2e/study.json", "/tables/../../study.json", "/..%2fstudy.json", "/%00", "/%ff.html"),
        *("/figures/..%5cindex.html", "/.hidden.html", "/link.html", "/inside/index.html", "/" + "a" * 300 + ".html"),
        *("http://example.org/index.html", "index.html", "*"),
        *("/mine.html", "/tables/mine.csv", "/mine/index.html", "/forged/mine.md", "/mine/tables/mine.csv"),
    ],
)
def test_nothing_else_is_served(server, written, target):
    (written.parent / ".hidden.html").write_text("no")
    for name, to in (("link.html", written.parent.parent / "study.json"), ("inside", written.parent.parent)):
        if not (written.parent / name).is_symlink():
            (written.parent / name).symlink_to(to)
    (written.parent.parent / "index.html").write_text("no")
    for name in ("mine.html", "tables/mine.csv", "mine/index.html", "mine/tables/mine.csv", "forged/mine.md"):
        (written.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (written.parent / name).write_text("other files of the reader's, in the folder of --out")
    (written.parent / "forged" / "report.json").write_text("not json")
    assert ask(server, target)[0] == 404


def test_pages_below_an_overview_are_served(tmp_path):
    for study in ("one", "two"):
        write_study(tmp_path / "outputs", TWO, study=study, images=200)
    index = report.write(tmp_path / "outputs", tmp_path / "out", figures=False).index
    named = [str(file.relative_to(index.parent)) for file in index.parent.rglob("*") if file.is_file()]
    served = {name for name in named if serving.find(index.parent, f"/{name}")}
    assert served == {name for name in named if not name.endswith(".json")} and "two/tables/runs.csv" in served


@pytest.mark.parametrize("host", ["", "example.org", "127.0.0.1", "127.0.0.1:1", "localhost.example.org"])
def test_a_request_under_another_name_is_refused(server, host):
    assert ask(server, host=host)[0] == 403
    assert ask(server, headers=[("Host", "example.org")])[0] == 403
    assert ask(server, host=f"localhost:{server.server_port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(server, method):
    assert ask(server, method=method)[0] == 405


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "1"], "--port: has an effect with --serve only"),
        (["--serve", "--port", "70000"], "--port: given 70000; allowed: a whole number from 0 to 65,535"),
        (["--serve", "--port", "-1"], "port"),
        (["--serve", "--watch"], "not allowed with argument"),
    ],
)
def test_what_makes_no_sense_is_refused(words, message, tmp_path, capsys):
    with pytest.raises((UserError, SystemExit)) as raised:
        command.main([str(tmp_path), *words])
    assert message in f"{raised.value} {capsys.readouterr().err}"


def test_a_port_that_is_in_use_is_one_line(written):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        words = [sys.executable, "-m", "cnnexp", "report", str(written.parent.parent), "--serve", "--port", str(port)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"--port {port}: is in use; choose another, or 0 for any that is free" in done.stderr


def test_it_follows_a_run_and_ctrl_c_ends_it_with_130(tmp_path):
    run = write_run(tmp_path, "dropout", 3, 0.6, status="running")
    words = [sys.executable, "-m", "cnnexp", "report", str(tmp_path / "demo"), "--serve", "--port", "0", "--no-figures"]
    with storage.lock(run.folder / ".lock"):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        port = int(re.match(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())[1])
        assert "1 running" in process.stderr.readline()
        before = (tmp_path / "demo" / "report" / "index.html").read_text()
        run.append(kind="epoch", epoch=4, step=280, split="train", loss=1.0, accuracy=0.5)
        run.update(status="failed", error={"message": "it broke"})
        assert "1 failed" in process.stderr.readline()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/")
        assert "it broke" in connection.getresponse().read().decode() and "it broke" not in before
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors == "cnnexp: interrupted\n"


def test_a_report_that_cannot_be_written_again_leaves_the_last_one(tmp_path, monkeypatch, capsys):
    answers = [report.Report(tmp_path, "first"), UserError("study.json: no"), report.Report(tmp_path, "third")]

    def write():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(serving, "watch", lambda folder, again, say, forever: [again().terminal for _ in range(3)])
    serving.serve(tmp_path, tmp_path, 0, write, print)
    assert len(answers) == 0 and "the report stays as it was: study.json: no" in capsys.readouterr().err
    answers[:] = [UserError("first")]
    with pytest.raises(UserError, match="first"):
        serving.serve(tmp_path, tmp_path, 0, write, print)


def test_the_first_report_is_made_once(tmp_path, monkeypatch, capsys):
    made = []

    def write():
        made.append(1)
        return report.Report(tmp_path, "text")

    monkeypatch.setattr(serving, "watch", lambda folder, again, say, forever: again())
    serving.serve(tmp_path, tmp_path, 0, write, print)
    assert len(made) == 1 and capsys.readouterr().out.startswith("http://127.0.0.1:")


def test_a_port_that_cannot_be_used_is_named_where_none_was_given(tmp_path, monkeypatch):
    def refuse(out, port):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(serving, "Server", refuse)
    with pytest.raises(UserError, match=r"--port 8750: cannot be used \(Permission denied\)"):
        serving.serve(tmp_path, tmp_path, None, lambda: None, print)


@pytest.fixture
def tab(server):
    """Return a browser's page of the server; it must not log an error or ask another address."""
    playwright, program = browsers.start()
    with playwright as library:
        browser = library.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page, address = (
            browser.new_page(viewport={"width": 1280, "height": 800}),
            f"http://127.0.0.1:{server.server_port}/",
        )
        problems = []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda asked: problems.append(asked.url) if not asked.url.startswith(address) else None)
        page.goto(address)
        yield page
        browser.close()
        assert problems == []


def refresh(tab, written):
    """Change the page on the disk, and wait until the browser has loaded it again."""
    written.write_text(written.read_text())
    with tab.expect_navigation(timeout=30_000):
        tab.evaluate("live.active = 0; live.look()")
    tab.wait_for_function("document.querySelector('#plot-accuracy').dataset.drawn", timeout=30_000)


def test_a_refresh_keeps_what_the_reader_did(tab, written):
    tab.evaluate("for (const id of ['figures', 'runs']) document.querySelector(`#${id} details`).open = true")
    tab.click("[data-arm=dropout]")
    for _ in range(2):
        tab.click("#runs th:nth-child(2) .sort")
    tab.fill("#runs input[type=search]", "dropout")
    tab.evaluate("document.querySelector('#figures').scrollIntoView()")
    tab.wait_for_function("document.querySelector('#plot-accuracy').dataset.drawn", timeout=30_000)
    place = tab.evaluate("scrollY")
    tab.evaluate("window.before = true")
    refresh(tab, written)
    assert tab.evaluate("window.before") is None and place > 100
    assert abs(tab.evaluate("scrollY") - place) < 3
    assert tab.evaluate("['figures', 'runs', 'cost'].map((id) => document.querySelector(`#${id} details`).open)") == [
        True,
        True,
        False,
    ]
    assert tab.get_attribute("[data-arm=dropout]", "aria-pressed") == "false"
    assert tab.get_attribute("#runs th:nth-child(2)", "aria-sort") == "descending"
    assert tab.input_value("#runs input[type=search]") == "dropout"
    assert tab.locator("#runs tbody tr:not([hidden])").count() == 3


def test_the_page_is_loaded_again_only_when_it_has_changed_and_the_reader_rests(tab, written):
    tab.evaluate("window.before = true; live.active = 0")
    tab.evaluate("live.look()")
    tab.wait_for_timeout(500)
    assert tab.evaluate("window.before"), "nothing has changed"
    written.write_text(written.read_text())
    tab.evaluate("live.active = Date.now(); live.look()")
    assert tab.evaluate("window.before"), "the reader is busy"
    with tab.expect_navigation(timeout=30_000):
        pass


def test_many_refreshes_do_not_grow_the_tab(tab, written):
    tab.evaluate("document.querySelector('#figures details').open = true")
    tab.evaluate("document.querySelector('#figures').scrollIntoView()")
    session = tab.context.new_cdp_session(tab)
    session.send("Performance.enable")
    session.send("HeapProfiler.enable")

    def sizes():
        session.send("HeapProfiler.collectGarbage")
        found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        return found["Nodes"], found["JSEventListeners"], found["JSHeapUsedSize"]

    for _ in range(3):
        refresh(tab, written)
    first = sizes()
    for _ in range(12):
        refresh(tab, written)
    assert all(after <= 1.03 * before for before, after in zip(first, sizes(), strict=True)), (first, sizes())


def test_when_the_server_ends_the_page_says_so(tab, server):
    tab.evaluate("clearTimeout(live.timer)")
    tab.evaluate("() => { window.fetch = async () => { throw new Error('gone'); }; }")
    tab.evaluate("live.look()")
    assert "not live: the server has ended" in tab.inner_text(".bar")
