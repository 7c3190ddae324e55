"""Trackers get what the records say, once, and no run waits for them."""

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from time import monotonic, sleep
from types import SimpleNamespace
from typing import Any

import pytest
import stub_mlflow
import stub_wandb

from cnnexp import cli, storage, trackers
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.trackers import follow

pytestmark = pytest.mark.integration

Train = Callable[..., int]


@pytest.fixture
def study(train: Train, tmp_path: Path) -> Path:
    """Train two runs; return their study's folder."""
    assert train("-m", "seed=0,1", "epochs=2", "log.steps=3st", "study.name=tracked") == 0
    (run, _) = find_runs(tmp_path)
    return run.folder.parent


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return {name: [(step, value)]} of a run's event files, as TensorBoard reads them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def expected(run: RunRecord, split: str, name: str) -> list[tuple[int, float]]:
    return [(row["step"], pytest.approx(row[name], rel=1e-6)) for row in run.rows(split=split)]


def test_tensorboard_reads_what_the_records_say(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    assert cli.main(["track", str(study), "--to", "tensorboard"]) == 0
    for run in find_runs(study):
        found = scalars(study / "tensorboard" / "tracked" / run.name)
        for split in ("train", "val"):
            assert found[f"{split}/loss"] == expected(run, split, "loss")
            assert found[f"{split}/accuracy"] == expected(run, split, "accuracy")
        assert len(found["step/loss"]) == len(run.rows("step")) > 0
        assert found["result/test_accuracy"][0][1] == pytest.approx(run.info["result"]["test_accuracy"])
    capsys.readouterr()
    assert cli.main(["track", str(study), "--to", "tensorboard"]) == 0
    assert capsys.readouterr().out.startswith("tensorboard: 0 new rows of 2 runs; ")


@pytest.mark.filterwarnings("default")  # MLflow's own
def test_mlflow_has_what_the_records_say(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for _ in range(2):
        assert cli.main(["track", str(study), "--to", "mlflow"]) == 0
    client = tracking.MlflowClient(f"sqlite:///{study / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tracked").experiment_id
    found = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert len(found) == 2, "the second time adds nothing"
    for run in find_runs(study):
        theirs = found[run.name]
        history = client.get_metric_history(theirs.info.run_id, "val/loss")
        assert [(m.step, m.value) for m in history] == [(r["step"], r["loss"]) for r in run.rows(split="val")]
        assert theirs.info.status == "FINISHED" and theirs.data.params["optimizer.lr"] == "0.001"
        assert theirs.data.metrics["result/test_accuracy"] == run.info["result"]["test_accuracy"]


@pytest.mark.filterwarnings("default")
def test_wandb_writes_offline_files_once(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("wandb")
    assert cli.main(["track", str(study), "--to", "wandb"]) == 0
    files = sorted(study.rglob("*.wandb"))
    assert len(files) >= 2 and all(b"test_accuracy" in file.read_bytes() for file in files[-1:])
    capsys.readouterr()
    assert cli.main(["track", str(study), "--to", "wandb"]) == 0
    assert capsys.readouterr().out.startswith("wandb: 0 new rows of 2 runs; ")
    assert sorted(study.rglob("*.wandb")) == files


@pytest.fixture
def ends(train: Train, tmp_path: Path) -> Path:
    """Make a run that was killed after its last epoch, and one that diverged in its first; return their folder."""
    assert train("epochs=2", "study.name=ends", "name=killed") == 0
    (killed,) = find_runs(tmp_path)
    killed.update(status="running", result={})
    assert train("epochs=2", "study.name=ends", "name=diverged", "optimizer=sgd", "optimizer.lr=1e30") == 3
    return killed.folder.parent


def written(folder: Path) -> dict[str, int]:
    """Return {file: bytes} below a folder, without locks."""
    return {str(file): file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock"}


def test_tensorboard_has_the_settings_and_the_status_of_every_run(ends: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams import api_pb2, metadata

    assert cli.main(["track", str(ends), "--to", "tensorboard"]) == 0
    before = written(ends)
    assert cli.main(["track", str(ends), "--to", "tensorboard"]) == 0
    assert written(ends) == before, "the second time adds nothing"
    diverged, killed = find_runs(ends)
    killed.update(status="done", result={"test_accuracy": 0.5})
    assert cli.main(["track", str(ends), "--to", "tensorboard"]) == 0
    for run, session, statuses in (
        (diverged, api_pb2.STATUS_FAILURE, [b"diverged"]), (killed, api_pb2.STATUS_SUCCESS, [b"interrupted", b"done"])
    ):  # fmt: skip
        events = accumulator.EventAccumulator(str(ends / "tensorboard" / "ends" / run.name)).Reload()
        sent = events.PluginTagToContent(metadata.PLUGIN_NAME)
        start = metadata.parse_session_start_info_plugin_data(sent[metadata.SESSION_START_INFO_TAG])
        assert start.hparams["optimizer.lr"].number_value == run.config()["optimizer"]["lr"]
        end = metadata.parse_session_end_info_plugin_data(sent[metadata.SESSION_END_INFO_TAG])
        assert end.status == session
        texts = events.Tensors("status/text_summary")
        assert [value for event in texts for value in event.tensor_proto.string_val] == statuses
    assert scalars(ends / "tensorboard" / "ends" / killed.name)["result/test_accuracy"] == [(0, 0.5)]


def wandb_records(folder: Path) -> dict[str, list[Any]]:
    """Return {name of a run: what W&B's offline files hold of it, in their order}."""
    from wandb.proto.wandb_internal_pb2 import Record

    found: dict[str, list[Any]] = {}
    for file in sorted(folder.rglob("*.wandb"), key=lambda file: file.stat().st_mtime_ns):
        content, at, record, records = file.read_bytes(), 7, b"", []
        while at + 7 <= len(content):  # chunks in blocks of 32 KiB: checksum (4), length (2), kind (1), as in LevelDB
            if 32768 - at % 32768 < 7:
                at += 32768 - at % 32768
                continue
            length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
            record += content[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):  # complete, or the last part
                records.append(Record.FromString(record))
                record = b""
        name = next(record.run.display_name for record in records if record.HasField("run"))
        found.setdefault(name, []).extend(records)
    return found


@pytest.mark.filterwarnings("default")
def test_wandb_has_the_settings_and_the_status_of_every_run(ends: Path) -> None:
    pytest.importorskip("wandb")
    assert cli.main(["track", str(ends), "--to", "wandb"]) == 0
    before = written(ends)
    assert cli.main(["track", str(ends), "--to", "wandb"]) == 0
    assert written(ends) == before, "the second time adds nothing"
    found, runs = wandb_records(ends), find_runs(ends)
    for run, status in zip(runs, ("diverged", "interrupted"), strict=True):
        for record in (record for record in found[run.name] if record.HasField("run")):
            settings = {item.key: item.value_json for item in record.run.config.update}
            assert settings["optimizer.lr"] == str(run.config()["optimizer"]["lr"])
        summary = {item.key: item.value_json for record in found[run.name] for item in record.summary.update}
        assert summary["status"] == f'"{status}"'
        assert [record.exit.exit_code for record in found[run.name] if record.HasField("exit")][-1] == 1
    runs[1].update(status="done")
    assert cli.main(["track", str(ends), "--to", "wandb"]) == 0
    exits = [record.exit.exit_code for record in wandb_records(ends)[runs[1].name] if record.HasField("exit")]
    assert exits == [0, 1, 0]


def test_rows_that_were_written_twice_count_once(study: Path) -> None:
    """A process was killed after it wrote them, before it noted that it had."""
    pytest.importorskip("tensorboard")
    assert cli.main(["track", str(study), "--to", "tensorboard"]) == 0
    run = find_runs(study)[0]
    before = scalars(study / "tensorboard" / "tracked" / run.name)
    (study / "tensorboard" / "sent.json").unlink()
    assert cli.main(["track", str(study), "--to", "tensorboard"]) == 0
    assert scalars(study / "tensorboard" / "tracked" / run.name)["val/loss"] == before["val/loss"]


@pytest.mark.parametrize("number", [0, 5, 6, 7, 8, 9])
def test_new_rows_are_added(study: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also within a second, where the names of the files, which TensorBoard sorts, differ by a number only."""
    writer = pytest.importorskip("tensorboard.summary.writer.event_file_writer")
    monkeypatch.setattr(writer, "_global_uid", writer.AtomicCounter(number))
    monkeypatch.setattr(writer, "time", SimpleNamespace(time=lambda: 1.0e9))
    run = find_runs(study)[0]
    rows, complete = run.metrics.read_bytes().splitlines(keepends=True), run.metrics.read_bytes()
    run.metrics.write_bytes(b"".join(rows[:2]))
    assert cli.main(["track", str(study), "--to", "tensorboard"]) == 0
    run.metrics.write_bytes(complete)
    assert cli.main(["track", str(study), "--to", "tensorboard"]) == 0
    found = scalars(study / "tensorboard" / "tracked" / run.name)
    assert found["val/accuracy"] == expected(run, "val", "accuracy")
    assert found["train/loss"] == expected(run, "train", "loss")


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
@pytest.mark.filterwarnings("default")
def test_the_same_run_in_two_studies_is_sent_twice(
    name: str, train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(name)
    for study in ("first", "second"):
        assert train("epochs=2", f"study.name={study}") == 0
    folder = find_runs(tmp_path)[0].folder.parent.parent
    capsys.readouterr()
    assert cli.main(["track", str(folder), "--to", name, "--place", str(tmp_path / "there")]) == 0
    assert capsys.readouterr().out.startswith(f"{name}: 8 new rows of 2 runs; ")
    if name == "tensorboard":
        assert all(scalars(tmp_path / "there" / run.folder.parent.name / run.name) for run in find_runs(folder))


@pytest.mark.filterwarnings("default")
def test_what_wandb_may_have_lost_on_a_full_disk_is_sent_again(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb")
    command = ["track", str(study), "--to", "wandb"]
    with monkeypatch.context() as full:
        full.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=0))
        assert cli.main(command) == 3
    assert "wandb: OSError: [Errno 28] No space left on device: " in capsys.readouterr().err
    assert cli.main(command) == 0
    assert not capsys.readouterr().out.startswith("wandb: 0 new rows")


def test_a_folder_without_runs_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    assert cli.main(["track", str(tmp_path), "--to", "tensorboard"]) == 2
    assert "holds no runs" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_tracker_that_cannot_write_is_one_line(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    (study / "file").write_text("")
    capsys.readouterr()
    assert cli.main(["track", str(study), "--to", "tensorboard", "--place", str(study / "file")]) == 3
    error = capsys.readouterr().err
    assert error.startswith("cnnexp: tensorboard: ") and error.count("\n") == 1
    assert error.endswith("; the same command continues\n")


def test_an_error_of_a_thread_of_the_library_is_one_line(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """TensorBoard writes in a thread, whose error is raised again by the next call."""

    def fail(folder: Path, to: object) -> None:
        assert not logging.raiseExceptions, "a library that cannot write its log prints no traceback"

        def write() -> None:
            raise OSError(28, "No space left on device")

        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        write()

    monkeypatch.setattr(trackers, "check", lambda name: None)
    monkeypatch.setattr(trackers, "tracker", lambda *_: None)
    monkeypatch.setattr(trackers, "replay", fail)
    capsys.readouterr()
    before = threading.excepthook
    assert cli.main(["track", str(study), "--to", "tensorboard"]) == 3
    assert threading.excepthook is before and logging.raiseExceptions
    line = "cnnexp: tensorboard: OSError: [Errno 28] No space left on device; the same command continues\n"
    assert capsys.readouterr().err == line


def test_an_absent_package_or_a_wrong_name_is_one_line(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    line = "cnnexp: tracker: wandb is not installed; pip install 'cnnexp[wandb]'\n"
    for flags in ([], ["-m", "seed=0,1"], ["--plan"]):
        assert train(*flags, "tracker=wandb") == 2
        assert capsys.readouterr().err == line, "before any data is prepared"
    assert cli.main(["track", str(tmp_path), "--to", "comet"]) == 2
    assert "unknown tracker 'comet'; choose one of tensorboard, mlflow, wandb" in capsys.readouterr().err
    assert not find_runs(tmp_path), "nothing was trained"


class Failing:
    """A tracker that never works, and takes its time."""

    place, whole_steps = "nowhere", False

    def begin(self, run: RunRecord, config: Any) -> int:
        sleep(0.1)
        raise ConnectionError("no network")


def test_a_follower_tries_again_and_says_why_it_failed(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(trackers, "tracker", lambda *given: tried.append(given) or Failing())
    monkeypatch.setattr(follow, "SECONDS", 0.05)
    monkeypatch.setattr("os.nice", lambda by: 0)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    threading.Timer(1.0, process.communicate, [b"\n"]).start()
    said = follow.follow(study, "tensorboard", None, process.pid)
    assert said == "ConnectionError: no network" and len(tried) > 2


def test_a_follower_beside_a_sweep(train: Train, tmp_path: Path) -> None:
    """It ends by itself after the sweep's process; here that is the test's, so the test tells it to look no more."""
    pytest.importorskip("tensorboard")
    plain = train("seed=3", "epochs=2", "study.name=plain")
    assert train("seed=3", "epochs=2", "study.name=followed", "tracker=tensorboard") == plain == 0
    by_study = {run.folder.parent.name: run for run in find_runs(tmp_path)}
    assert by_study["plain"].info["fingerprint"] == by_study["followed"].info["fingerprint"]
    folder, end = by_study["followed"].folder, monotonic() + 60
    place = folder.parent / "tensorboard" / "followed" / folder.name
    rows = expected(by_study["followed"], "val", "loss")
    while not (place.exists() and scalars(place).get("val/loss") == rows) and monotonic() < end:
        sleep(0.5)
    assert scalars(place)["val/loss"] == rows
    process = follow.followers.pop()
    process.terminate()
    process.wait()


def test_a_worker_of_planned_runs_is_followed(train: Train, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    before = len(follow.followers)
    stated = ("cluster=by_hand", "device.kind=cpu", "device.precision=fp32", "device.threads=1")
    assert train("-m", "seed=3", "epochs=2", "study.name=planned", "tracker=tensorboard", *stated) == 0
    assert len(follow.followers) == before, "nothing is made by this command"
    (plan,) = tmp_path.rglob("plan.json")
    assert cli.main(["work", str(plan.parent)]) == 0
    (run,) = find_runs(tmp_path)
    place, end = plan.parent / "tensorboard" / "planned" / run.name, monotonic() + 60
    rows = expected(run, "val", "loss")
    while not (place.exists() and scalars(place).get("val/loss") == rows) and monotonic() < end:
        sleep(0.5)
    assert scalars(place)["val/loss"] == rows
    process = follow.followers.pop()
    process.terminate()
    process.wait()


def test_two_that_send_at_once_send_every_row_once(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    class Slow:
        place, whole_steps = "there", False

        def begin(self, run: RunRecord, config: Any) -> int:
            known = len(sent)
            sleep(0.2)
            return known

        def rows(self, run: RunRecord, rows: list[Any], count: int) -> None:
            sent.extend(range(len(rows)))

        def end(self, run: RunRecord) -> None:
            pass

    first = find_runs(study)[0]
    monkeypatch.setattr(trackers, "find_runs", lambda folder: [first])
    two = [threading.Thread(target=trackers.replay, args=(study, Slow())) for _ in range(2)]
    for thread in two:
        thread.start()
    for thread in two:
        thread.join()
    assert len(sent) == len(storage.read_rows(first.metrics))


def recorded(folder: Path, config: dict[str, Any], epochs: int = 1, status: str = "done") -> RunRecord:
    """Write a run directory as training does. Each epoch has a row of `train` and one of `val`, of the same step."""
    run = RunRecord(folder / "s" / "a-s0-0123456789")
    storage.make_folder(run.folder)
    run.write_config(config)
    run.update(status=status, study="s", arm="a", seed=0, fingerprint="0123456789", started="2026-01-01T00:00:00+00:00")
    for epoch in range(1, epochs + 1):
        append_train(run, epoch)
        append_val(run, epoch)
    return run


def append_train(run: RunRecord, epoch: int) -> None:
    values = {"loss": 1 / epoch, "accuracy": 0.5, "learning_rate": 0.1, "images_per_second": 10.0, "seconds": 1.0}
    run.append(kind="epoch", epoch=epoch, step=10 * epoch, split="train", **values)


def append_val(run: RunRecord, epoch: int) -> None:
    run.append(kind="epoch", epoch=epoch, step=10 * epoch, split="val", loss=2 / epoch, accuracy=0.4, seconds=1.0)


def install(server: stub_mlflow.Server | stub_wandb.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trackers send to a server, whether its library is installed or not."""
    server.install(monkeypatch)
    monkeypatch.setattr(trackers, "check", lambda name: None)


@pytest.fixture
def mlflow_server(monkeypatch: pytest.MonkeyPatch) -> stub_mlflow.Server:
    """Return a server that `to_mlflow` sends to."""
    install(server := stub_mlflow.Server(), monkeypatch)
    return server


def to_mlflow(folder: Path) -> tuple[int, int]:
    """Send runs to the server of the fixture, as a command of its own."""
    return trackers.replay(folder, trackers.tracker("mlflow", folder, "http://localhost:5000"))


ILLEGAL = {"layer[34].*": 1, "layer_34_._": 2, "/": 3, "..": 4, "a//b": 5, "": 6, "x" * 300: 7, "x" * 301: 8}


@pytest.mark.parametrize("lost", range(1, 9))
def test_mlflow_has_every_setting_whichever_request_is_lost(
    tmp_path: Path, mlflow_server: stub_mlflow.Server, lost: int
) -> None:
    """Also settings whose keys MLflow refuses; they have other names there."""
    config = {"model": {"norm": "none"}, "unfreeze": ILLEGAL, "more": {f"k{n}": n for n in range(150)}}
    recorded(tmp_path, config)
    mlflow_server.fail_at = {lost}
    with pytest.raises(ConnectionError):
        to_mlflow(tmp_path)
    assert to_mlflow(tmp_path)[0] == 1
    run = mlflow_server.only_run()
    assert run.data.params["model.norm"] == "none" and run.data.params["more.k149"] == "149"
    assert run.data.params["unfreeze.layer_34_._"] == "1" and run.data.params["unfreeze.layer_34_.__2"] == "2"
    assert len(run.data.params) == 1 + len(ILLEGAL) + 150 and run.info.status == "FINISHED"
    assert {m.key: m.value for m in mlflow_server.history[run.info.run_id] if m.step == 10}["val/loss"] == 2.0
    assert to_mlflow(tmp_path) == (1, 0), "the next time adds nothing"


@pytest.mark.parametrize("names", [list(ILLEGAL), ["a" * 249 + "/b", "a" * 250, "a" * 251, "é b-c/d.e", "a\n", "./a"]])
def test_names_are_those_that_mlflow_takes(names: list[str]) -> None:
    from cnnexp.trackers import mlflow

    found = mlflow.names(names)
    assert len(set(found)) == len(names) and mlflow.names(found) == found
    for name in found:
        stub_mlflow.check_name(name)


@pytest.mark.parametrize("rows", [249, 250, 251, 500])
def test_mlflow_gets_requests_that_it_takes(tmp_path: Path, mlflow_server: stub_mlflow.Server, rows: int) -> None:
    """1000 metrics, four a row, and one tag are more than a request may have."""
    run = recorded(tmp_path, {"seed": 0}, epochs=0)
    for epoch in range(1, rows + 1):
        append_train(run, epoch)
    assert to_mlflow(tmp_path) == (1, rows)
    assert to_mlflow(tmp_path) == (1, 0), "the number of rows has arrived with them"
    assert len(mlflow_server.history[mlflow_server.only_run().info.run_id]) == 4 * rows


def test_mlflow_gets_rows_without_metrics_once(tmp_path: Path, mlflow_server: stub_mlflow.Server) -> None:
    recorded(tmp_path, {"seed": 0}, epochs=0).append(kind="epoch", epoch=1, step=10, split="train")
    assert to_mlflow(tmp_path) == (1, 1)
    assert to_mlflow(tmp_path) == (1, 0)


@pytest.fixture
def wandb_server(monkeypatch: pytest.MonkeyPatch) -> stub_wandb.Server:
    """Return a server that `to_wandb` sends to."""
    install(server := stub_wandb.Server(), monkeypatch)
    return server


def to_wandb(folder: Path) -> int:
    """Send runs to the server of the fixture, as a command of its own; return how many rows were new."""
    return trackers.replay(folder, trackers.tracker("wandb", folder, None))[1]


@pytest.mark.parametrize("status", ["running", "interrupted"])
def test_wandb_has_every_row_whenever_it_was_looked_at(
    tmp_path: Path, wandb_server: stub_wandb.Server, status: str
) -> None:
    """A look between the two rows of an epoch, and one before the first row."""
    run = recorded(tmp_path, {"seed": 0}, epochs=0, status="running")
    with run.held() if status == "running" else nullcontext():
        assert run.status == status and to_wandb(tmp_path) == 0
        for epoch in (1, 2, 3):
            append_train(run, epoch)
            assert to_wandb(tmp_path) == 1
            append_val(run, epoch)
            assert to_wandb(tmp_path) == 1
    run.update(status="done", result={"test_accuracy": 0.5})
    assert to_wandb(tmp_path) == 0
    kept = wandb_server.only_run()
    assert kept.points("train/loss") == [(10, 1.0), (20, 1 / 2), (30, 1 / 3)]
    assert kept.points("val/loss") == [(10, 2.0), (20, 2 / 2), (30, 2 / 3)]
    assert kept.summary["status"] == "done" and not wandb_server.dropped


def test_wandb_has_rows_once_that_are_sent_again(tmp_path: Path, wandb_server: stub_wandb.Server) -> None:
    """A process was killed after it sent them, before it noted that it had."""
    run = recorded(tmp_path, {"seed": 0}, epochs=2)
    assert to_wandb(tmp_path) == 4
    (tmp_path / "wandb" / "sent.json").unlink()
    append_train(run, 3)
    append_val(run, 3)
    assert to_wandb(tmp_path) == 6
    kept = wandb_server.only_run()
    assert kept.points("val/loss") == [(10, 2.0), (20, 2 / 2), (30, 2 / 3)]
    assert kept.points("train/loss") == [(10, 1.0), (20, 1 / 2), (30, 1 / 3)]


def test_two_folders_of_runs_that_are_sent_to_one_place_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a lock of its own, but both note in the same file what was sent."""
    write = storage.write_json

    def slowly(file: Path, content: Any) -> None:
        sleep(0.05)
        write(file, content)

    monkeypatch.setattr(storage, "write_json", slowly)
    sent = {f"study{n}/run": trackers.Sent(tmp_path / "place" / "sent.json") for n in range(4)}
    threads = [threading.Thread(target=file.set, args=[key], kwargs={"rows": 7}) for key, file in sent.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.read_json(tmp_path / "place" / "sent.json") == {key: {"rows": 7} for key in sent}
