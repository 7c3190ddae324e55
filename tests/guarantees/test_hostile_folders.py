"""Run directories whose files lead elsewhere, never end, or hold what no run writes: nothing outside is touched."""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from checksummed import with_checksum
from fake_records import write_run, write_study
from hostile import edit_record, untrained_run, with_answers

from cnnexp import cli, storage
from cnnexp.commands import gc
from cnnexp.errors import UserError
from cnnexp.records import run_record as record
from cnnexp.records import study as study_file
from cnnexp.records.run_record import RunRecord
from cnnexp.report import write
from cnnexp.report.read.runs import read_run
from cnnexp.training import bf16, hash_chain

pytestmark = pytest.mark.counts("fixtures")


@pytest.fixture
def run(tmp_path):
    """Return a run directory of a stranger's."""
    return with_answers(untrained_run(tmp_path / "outputs"))


@pytest.fixture
def victim(tmp_path):
    """Return a folder of one's own, and hold a test to leaving it as it is."""
    folder = tmp_path / "victim"
    folder.mkdir()
    for name in ("last.pt", "best.pt", "best-1.pt", ".x.1-0a1b2c3d.tmp", "notes.txt", "old.png", "metrics.jsonl"):
        (folder / name).write_text("mine\n")
        os.utime(folder / name, (1, 1))
    yield folder
    assert {file.name: file.read_text() for file in folder.iterdir()} == dict.fromkeys(
        ("last.pt", "best.pt", "best-1.pt", ".x.1-0a1b2c3d.tmp", "notes.txt", "old.png", "metrics.jsonl"), "mine\n"
    )


def link(path: Path, target: Path) -> None:
    """Put a link in the place of a file or folder."""
    storage.remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


READERS = [  # verify before report, which writes its tables anew
    *("runs {0}", "diff {0} {0}", "gc {0}", "verify {0}", "report {0} --no-figures", "evaluate {0}"),
    *("predict {0} x.png", "rerun {0} --out {0}-again"),
]
FILES = [
    *("run.json", "config.yaml", "metrics.jsonl", "predictions.npz", "hash_chain.jsonl", ".lock", "checkpoints"),
    *("checkpoints/best.pt", "report/tables/comparison.csv", "report/tables", "report"),
]
FOLDERS = ("checkpoints", "report/tables", "report")


def all_read(run: Path) -> None:
    """Let every command read a run; each must end, and with no more than a line for the person."""
    for reader in READERS:
        assert cli.main(reader.format(run).split()) in (0, 2, 3), reader


@pytest.mark.slow
@pytest.mark.parametrize("status", ["done", "failed", "interrupted", "running"])
@pytest.mark.parametrize("name", FILES)
def test_links_out_of_a_run_lead_nowhere(run, victim, name, status, capsys):
    edit_record(run, status=status)
    link(run / name, victim if name in FOLDERS else victim / "notes.txt")
    all_read(run)
    kinds = ["--checkpoints", "--leftovers", "--superseded", "--delete"]
    assert cli.main(["gc", str(run.parent), *kinds]) in (0, 3)


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "metrics.jsonl", "predictions.npz", "study.json"])
def test_what_a_link_leads_to_is_not_read(run, tmp_path, name):
    """The files are whole and would be shown: only that they are somebody else's keeps them out."""
    folder = run.parent if name == "study.json" else run
    _savez(run / "predictions.npz")
    storage.append_row(run / "metrics.jsonl", {"kind": "epoch", "epoch": 1, "split": "val", "accuracy": 0.5})
    study_file.write_study(run.parent, {"name": "theirs", "runs": [], "arms": []})

    def shown() -> list[bool]:
        own = RunRecord.read(run)
        found = []
        for read in (
            lambda: own.info,
            own.config,
            own.rows,
            own.predictions,
            lambda: study_file.read_study(run.parent),
        ):
            try:
                found.append(bool(read()))
            except UserError as error:
                assert "is a link" in str(error)
                found.append(False)
        return found

    assert shown() == [True] * 5, "the control"
    shutil.move(folder / name, tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    assert shown().count(False) == 1


@pytest.mark.parametrize("name", ["checkpoints/best.pt", "hash_chain.jsonl", "report/tables/comparison.csv"])
def test_what_a_linked_file_of_a_run_holds_is_not_taken(run, tmp_path, name, capsys):
    """It is moved away, and a link put in its place that leads there: only that it is a link keeps it out."""
    storage.append_row(run / "hash_chain.jsonl", {"step": 1, **dict.fromkeys(hash_chain.LINKS, "0"), "chain": "0"})
    assert cli.main(["report", str(run), "--no-figures"]) == 0
    commands = {"checkpoints/best.pt": "evaluate", "hash_chain.jsonl": "diff", "report/tables/comparison.csv": "verify"}
    words = [commands[name], *[str(run)] * (1 + (commands[name] == "diff"))]
    cli.main(words)
    assert "is a link" not in "".join(capsys.readouterr()), "the control"
    shutil.move(run / name, tmp_path / "moved")
    (run / name).symlink_to(tmp_path / "moved")
    assert cli.main(words) == (3 if commands[name] == "verify" else 2)
    assert "is a link" in "".join(capsys.readouterr())


def test_without_the_check_a_link_is_followed(run, victim, tmp_path, monkeypatch):
    """The control: told that it is no link, gc would delete what is not the run's."""
    edit_record(run, status="failed")
    link(run / "checkpoints", victim)
    assert [i for i in gc.find(run.parent, {"checkpoints"}) if victim in i.path.resolve().parents] == []
    monkeypatch.setattr(Path, "is_symlink", lambda self: False)
    found = [i.path for i in gc.find(run.parent, {"checkpoints"})]
    assert {victim / "last.pt", victim / "best.pt"} <= {path.resolve() for path in found}


@pytest.mark.parametrize("name", ["train.log", "metrics.jsonl", ".lock", "checkpoints", "config.yaml", "run.json"])
def test_writers_follow_no_link(run, victim, name):
    link(run / name, victim if name == "checkpoints" else victim / "notes.txt")
    own = RunRecord.read(run)
    for step in (
        lambda: own.log("hostile"),
        lambda: own.append(kind="epoch"),
        lambda: own.sync(),
        lambda: own.write_config({"seed": 0}),
        lambda: own.update(status="failed"),
        lambda: own.keep_rows(0),
        lambda: own.held().__enter__(),
    ):
        try:
            step()
        except (UserError, OSError) as error:
            assert "link" in str(error) or "symbolic" in str(error)
    if name == "train.log":  # the control: opened as any file is, it is written to
        with open(run / name, "a", encoding="utf-8") as file:
            file.write("fired")
        assert (victim / "notes.txt").read_text() == "mine\nfired"
        (victim / "notes.txt").write_text("mine\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["checkpoints", ".lock", "train.log", "metrics.jsonl"])
def test_training_in_a_stranger_s_folder_follows_no_link(train, only, victim, name, capsys):
    assert train() == 0
    folder = only().folder
    edit_record(folder, status="interrupted")
    link(folder / name, victim if name == "checkpoints" else victim / "notes.txt")
    try:
        code = train()
    except OSError as error:
        assert "symbolic" in str(error)
    else:
        assert code in (2, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", [f for f in FILES if f not in FOLDERS])
def test_pipes_are_not_waited_for(run, name):
    """In a process of its own, for what waits for a pipe waits for ever."""
    storage.remove(run / name)
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(run / name)
    if name in ("metrics.jsonl", ".lock"):
        edit_record(run, status="running")
    code = "import sys; from cnnexp import cli; print([cli.main(a.split()) for a in sys.argv[1:]])"
    words = [reader.format(run) for reader in READERS]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    "name", ["report", "report/figures", "report/tables", "report/report.json", "report/index.html"]
)
def test_a_report_writes_and_deletes_only_in_its_folder(tmp_path, victim, name, capsys):
    folder = write_study(tmp_path / "outputs", {"baseline": (0.5, 0.1, 9.0)}, seeds=1)
    (folder / "report").mkdir()
    storage.write_json(folder / "report" / "report.json", ["figures/old.png", "figures/notes.txt", "tables/best.pt"])
    link(folder / name, victim / "notes.txt" if name.endswith(("json", "html")) else victim)
    code = cli.main(["report", str(folder), "--no-figures"])
    assert code == (0 if name.endswith("html") else 2)  # a link in the place of the page is replaced


@pytest.mark.slow
@pytest.mark.parametrize(
    "entry",
    [
        *("../victim/notes.txt", "figures/../../../victim/notes.txt", "figures/..", "tables/../report.json", "VICTIM"),
        *("figures/x/../../../victim/notes.txt", "", ".", "figures", "../../victim", "figures\\..\\x", "tables/.."),
    ],
)
def test_the_list_of_an_earlier_report_deletes_nothing_else(tmp_path, victim, entry):
    folder = write_study(tmp_path / "outputs", {"baseline": (0.5, 0.1, 9.0)}, seeds=1)
    (folder / "report" / "figures").mkdir(parents=True)
    (folder / "report" / "figures" / "old.png").write_text("theirs")
    listed = [entry.replace("VICTIM", str(victim / "notes.txt")), "figures/old.png", 5, None, ["x"], {"a": 1}]
    storage.write_json(folder / "report" / "report.json", listed)
    before = {run.folder for run in record.find_runs(folder)}
    write(folder, figures=False)
    assert {run.folder for run in record.find_runs(folder)} == before
    assert not (folder / "report" / "figures" / "old.png").exists(), "the control: what is its own goes"


@pytest.mark.slow
@pytest.mark.parametrize("path", ["../../victim", "/etc", "a/../../b", "..", "~/x", "C:\\x", "\x00", "x\ny"])
def test_names_in_a_record_are_no_paths(tmp_path, victim, path, capsys):
    folder = write_study(tmp_path / "outputs", {"baseline": (0.5, 0.1, 9.0)}, seeds=1)
    fields = dict.fromkeys(("study", "arm", "fingerprint", "status_", "command", "repeat"), path)
    run = write_run(tmp_path / "outputs", "x", 0, study="demo")
    edit_record(run.folder, **fields)
    entry = {"folder": path, "arm": path, "seed": path, "fingerprint": path}
    study = {"name": path, "baseline": path, "arms": [path], "runs": [entry], "reported": {path: 1.0}}
    study_file.write_study(folder, study)
    outside = {file for file in tmp_path.rglob("*") if folder not in file.parents}
    write(folder, figures=False)
    assert cli.main(["gc", str(folder), "--superseded", "--leftovers", "--delete"]) == 0
    assert {file for file in tmp_path.rglob("*") if folder not in file.parents} == outside


def test_a_run_around_other_runs_is_not_superseded(tmp_path):
    folder = write_study(tmp_path / "outputs", {"baseline": (0.5, 0.1, 9.0)}, seeds=1)
    storage.write_json(folder / "run.json", {"status": "failed", "arm": "baseline", "fingerprint": "other"})
    entry = {"folder": "x", "arm": "baseline", "fingerprint": "present"}
    study_file.write_study(tmp_path / "outputs", {"runs": [entry], "arms": []})
    assert [item.path for item in gc.find(tmp_path / "outputs", {"superseded"})] == []


DEEP = "[" * 100_000
GOOD = {"status": "done", "arm": "a", "fingerprint": "f", "seed": 0, "result": {"test_accuracy": 1}}
JSON = {
    "deep list": DEEP + "]" * 100_000,
    "deep mapping": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "never closed": DEEP,
    "10 MB of text": json.dumps({"status": "done", "arm": "x" * 10**7, "seed": 0, "fingerprint": "f"}),
    "digits": '{"status": "done", "seed": ' + "9" * 5000 + "}",
    "large": json.dumps({**GOOD, "seed": 10**300}),
    "huge": json.dumps(
        {
            **{**GOOD, "resumed": 10**400, "seconds": {"train": 10**400, "total": 1e308}},
            "result": {"test_accuracy": 0.5, "epochs": 10**400, "test_loss": 10**400, "images_per_second": 1e308},
        }
    ),
    "not numbers": '{"status": "done", "arm": "a", "fingerprint": "f", "seed": 0, "result": {"test_accuracy": NaN, '
    '"test_loss": Infinity, "epochs": -Infinity}, "seconds": {"train": NaN}}',
    "texts for numbers": json.dumps({"status": "done", "arm": "a", "fingerprint": "f", "seed": "0", "result": "x"}),
    "lists": json.dumps({key: [1] for key in ("study", "arm", "seed", "device", "data", "model")} | {"status": "done"}),
    "nulls": json.dumps(dict.fromkeys(("study", "arm", "seed", "device", "data", "result")) | {"status": "done"}),
    "a list": "[]",
    "a word": '"done"',
    "nothing": "",
    "bytes": "\x00\xff",
    "half a character": '{"status": "\\ud800"}',
}


@pytest.mark.slow
@pytest.mark.parametrize("name", JSON)
def test_no_record_is_a_bomb(tmp_path, run, name, capsys):
    (run / "run.json").write_text(with_checksum(JSON[name]))
    start = time.monotonic()
    all_read(run)
    assert time.monotonic() - start < 20 and "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", JSON)
def test_no_study_is_a_bomb(tmp_path, name, capsys):
    folder = write_study(tmp_path / "outputs", {"baseline": (0.5, 0.1, 9.0)}, seeds=1)
    (folder / "study.json").write_text(with_checksum(JSON[name]))
    write(folder, figures=False)
    assert cli.main(["gc", str(folder), "--superseded"]) in (0, 2), "a study that cannot be read supersedes nothing"


@pytest.mark.slow
@pytest.mark.parametrize(
    "study",
    [
        {"runs": [[], 5, None, {"arm": []}, {"folder": 1, "arm": {}, "fingerprint": []}]},
        {"runs": [], "arms": 5},
        {"runs": [], "arms": [[], {}]},
        {"runs": [], "claims": {"a": 1}, "reported": [1], "baseline": [1], "name": [], "question": {}},
        {"runs": [], "claims": ["(" * 5000, "a > " * 3000], "reported": {"a": 10**400}},
    ],
    ids=str,
)
def test_no_study_breaks_a_report(tmp_path, study):
    folder = write_study(tmp_path / "outputs", {"baseline": (0.5, 0.1, 9.0), "a": (0.5, 0.1, 9.0)}, seeds=2)
    storage.write_json(folder / "study.json", study)
    assert write(folder, figures=False).index.exists()
    assert gc.find(folder, {"superseded"}) == []


ROWS = {
    "deep": DEEP + "\n",
    "huge": json.dumps({"kind": "epoch", "split": "val", "epoch": 10**400, "accuracy": 10**400, "loss": 1e308}) + "\n",
    "large": json.dumps({"kind": "epoch", "split": "val", "epoch": 10**18, "accuracy": 1e300, "loss": -1e300}) + "\n",
    "negative": json.dumps({"kind": "epoch", "split": "val", "epoch": -5, "accuracy": -1, "loss": "NaN"}) + "\n",
    "lists": json.dumps({"kind": [1], "split": [1], "epoch": [1], "accuracy": [1]}) + "\n",
    "a list as split": json.dumps({"kind": "epoch", "split": {"a": 1}, "epoch": True, "accuracy": None}) + "\n",
    "10 MB": json.dumps({"kind": "epoch", "split": "x" * 10**7, "epoch": 1}) + "\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_no_row_is_a_bomb(tmp_path, run, name, capsys):
    (run / "metrics.jsonl").write_text(with_checksum(ROWS[name]))
    all_read(run)
    assert "Traceback" not in capsys.readouterr().err


def _savez(file: Path, **changes) -> None:
    arrays = {"logits": np.zeros((4, 3), np.float32), "labels": np.zeros(4, np.int64), "ids": np.array(list("abcd"))}
    np.savez(file, **{**arrays, **changes})


def _packed(file: Path) -> None:
    """Write 8 MB of nothing into a few kB; it could as well be gigabytes."""
    many = 10**5
    arrays = {"logits": np.zeros((many, 20), np.float32), "labels": np.zeros(many, int), "ids": np.full(many, "a")}
    np.savez_compressed(file, **arrays)


def _lying(file: Path) -> None:
    """Write an array whose head promises 4 TB."""
    _savez(file)
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["logits.npy"] = entries["logits.npy"].replace(b"(4, 3), }" + b" " * 11, b"(1000000000000, 3), }"[:20], 1)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


NPZ = {
    "packed": _packed,
    "lying": _lying,
    "many classes": lambda file: _savez(file, logits=np.zeros((4, 200_000), np.float32)),
    "ids of numbers": lambda file: _savez(file, ids=np.arange(4)),
    "ids of structures": lambda file: _savez(file, ids=np.zeros(4, "i4,f8")),
    "labels that wrap": lambda file: _savez(file, labels=np.full(4, 2**64 - 1, np.uint64)),
    "not numbers": lambda file: _savez(file, logits=np.full((4, 3), np.nan, np.float32)),
    "no images": lambda file: _savez(file, logits=np.zeros((0, 3)), labels=np.zeros(0, int), ids=np.array([], str)),
    "complex": lambda file: _savez(file, logits=np.zeros((4, 3), complex)),
    "no archive": lambda file: file.write_bytes(b"PK\x03\x04" + b"\x00" * 100),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NPZ)
def test_no_predictions_are_a_bomb(tmp_path, run, name, capsys):
    NPZ[name](run / "predictions.npz")
    all_read(run)
    assert "Traceback" not in capsys.readouterr().err
    read = read_run(RunRecord.read(run))
    assert read.confusion is None or name == "not numbers"


@pytest.mark.parametrize(
    "content",
    [
        *(DEEP, "[]", '{"m": []}', '{"m": {"k": []}}', '{"m": {"k": {"bf16_ms": "1", "fp32_ms": [], "error": {}}}}'),
        *('{"m": {"k": {"bf16_ms": "1", "fp32_ms": "2", "error": 0}}}', '{"m": {"k": {"__class__": 1}}}'),
    ],
    ids=lambda content: content[:40],
)
def test_the_answers_of_bf16_are_numbers_or_asked_anew(tmp_path, content):
    (tmp_path / "bf16.json").write_text(content)
    known = bf16._read(tmp_path / "bf16.json")
    assert all(not answers for answers in known.values())
    good = {"m": {"k": {"bf16_ms": 1.0, "fp32_ms": 2.0, "error": 0.001}}}
    storage.write_json(tmp_path / "bf16.json", good)
    assert bf16._read(tmp_path / "bf16.json") == good, "the control"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("data", {"classes": ["a"] * 10, "image": image}) for image in ([3, 10**9, 10**9], [0, 8, 8], [3, -8, 8])],
        *[("data", {"classes": ["a"] * 10, "image": [3, 8, 8], "mean": mean}) for mean in (["x"] * 3, [10**400] * 3)],
        *[("device", {"kind": "cpu", "precision": "fp32", "threads": threads}) for threads in (10**9, -1, "x", None)],
        *[("device", {"kind": "cpu", "precision": p, "threads": 1}) for p in ("fp64", None, [1], {"_target_": "x"})],
        *[
            ("device", {"kind": "cpu", "precision": "bf16", "threads": 1, "fp32_layers": x})
            for x in (["no.such"], 5, [1])
        ],
        ("data", {"classes": "abc", "image": [3, 8, 8]}),
        ("data", [1]),
    ],
    ids=str,
)
def test_no_fact_of_a_record_breaks_a_load(run, field, value, capsys):
    facts = RunRecord.read(run).info[field]
    edit_record(run, **{field: {**facts, **value} if isinstance(value, dict) else value})
    for command in ("evaluate", "predict"):
        assert cli.main([command, str(run), *(["x.png"] if command == "predict" else [])]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_folders_behind_links_are_not_walked(tmp_path, run, victim):
    other = tmp_path / "elsewhere"
    shutil.copytree(run, other / run.name)
    (run.parent / "linked").symlink_to(other)
    assert [r.folder for r in record.find_runs(run.parent)] == [run]
