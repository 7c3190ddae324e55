"""What the commands that read runs print, and what they say to wrong requests."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from fake_records import predictions, write_run
from PIL import Image
from scipy import stats

from cnnexp import cli, metrics, storage
from cnnexp.commands import diff, gc
from cnnexp.records import run_record as record
from cnnexp.records.run_record import RunRecord
from cnnexp.training.inference import TrainedModel

pytest_plugins = ["trained_runs"]


@pytest.fixture
def cnnexp(capsys):
    """Return a function that runs a command in this process: (exit code, stdout, stderr)."""

    def run(*argv):
        code = cli.main([str(word) for word in argv])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def pictures(tmp_path):
    """Return a folder with two images, a file that is none, and one that is no image inside."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    Image.new("RGB", (20, 30), "red").save(folder / "a.png")
    Image.new("L", (9, 9), 40).save(folder / "more" / "b.JPG", "JPEG")
    (folder / "notes.txt").write_text("no image")
    (folder / "torn.png").write_bytes(b"\x89PNG")
    return folder


@pytest.mark.parametrize("command", ["runs", "evaluate", "predict", "diff", "gc"])
def test_help_is_short_and_needs_no_torch(command):
    code = (
        f"import sys; from cnnexp.commands.{command} import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: assert not {'torch', 'hydra', 'numpy', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "examples:" in done.stdout and len(done.stdout.splitlines()) < 35


def test_commands_that_read_records_import_no_torch(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, "baseline", seed)
    first, second = sorted(str(f) for f in (tmp_path / "demo").iterdir())
    code = (
        "import sys; from cnnexp.cli import main\n"
        f"assert [main(['runs', {str(tmp_path)!r}]), main(['gc', {str(tmp_path)!r}])] == [0, 0]\n"
        f"assert main(['diff', {first!r}, {second!r}]) == 0 and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# runs


def test_runs_lists_everything_by_study(cnnexp, tmp_path):
    write_run(tmp_path, "dropout", 1, 0.5, study="b", seconds=4000.0)
    write_run(tmp_path, "baseline", 0, 0.612, study="a")
    write_run(tmp_path, "wide", 0, study="a", status="failed", error={"type": "E", "message": "\x1b[31mno memory\n"})
    storage.make_folder(tmp_path / "a" / "torn")
    storage.write_text(tmp_path / "a" / "torn" / "run.json", "[]")
    code, out, _ = cnnexp("runs", tmp_path)
    lines = [line.split() for line in out.splitlines()]
    assert code == 0 and lines[0] == ["study", "arm", "seed", "status", "test", "%", "epochs", "time", "age"]
    assert [line[:4] for line in lines[1:5]] == [
        ["a", "torn", "-", "malformed"],
        ["a", "baseline", "0", "done"],
        ["a", "wide", "0", "failed"],
        ["b", "dropout", "1", "done"],
    ]
    assert lines[2][4:8] == ["61.20", "15", "64", "s"] and lines[4][6:8] == ["67", "min"]
    assert "no memory" in out and "\x1b" not in out
    assert out.splitlines()[-1] == "4 runs: 2 done, 1 malformed, 1 failed"


def test_runs_can_be_chosen_and_exported(cnnexp, tmp_path):
    write_run(tmp_path, "old", 0, started="2025-01-01T00:00:00+00:00")
    write_run(tmp_path, "-new", 0, 0.25, started="2025-02-01T00:00:00+00:00")
    write_run(tmp_path, "wide", 0, status="interrupted", result={"test_accuracy": float("nan")})
    _, out, _ = cnnexp("runs", tmp_path, "--newest", "--status", "done")
    assert [line.split()[1] for line in out.splitlines()[1:3]] == ["-new", "old"] and "interrupted" not in out
    rows = json.loads(cnnexp("runs", tmp_path, "--json")[1])
    assert {r["arm"]: r["test_accuracy"] for r in rows} == {"old": 0.6, "-new": 0.25, "wide": None}
    table = list(csv.DictReader(io.StringIO(cnnexp("runs", tmp_path, "--csv")[1])))
    assert [r["arm"] for r in table] == ["'-new", "old", "wide"] and table[0]["train_seconds"] == "60.0"


def test_runs_tells_mistakes(cnnexp, tmp_path):
    code, _, err = cnnexp("runs", tmp_path, "--status", "fialed")
    assert code == 2 and "unknown status 'fialed'" in err and "did you mean 'failed'" in err
    code, _, err = cnnexp("runs", tmp_path / "gone")
    assert code == 2 and err.count("\n") == 1 and "no such folder" in err
    assert cnnexp("runs", tmp_path)[:2] == (0, f"{tmp_path}: holds no runs\n")


def test_runs_reads_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    run = write_run(tmp_path, status="running")
    opened = []
    monkeypatch.setattr("builtins.open", _recorded(opened))
    assert run.status == "interrupted"
    assert opened and all(mode in ("r", "rb") for mode in opened)
    with storage.lock(run.folder / ".lock"):
        assert run.status == "running"


def _recorded(modes, real=open):
    def record_mode(path, mode="r", *more, **named):
        modes.append(mode)
        return real(path, mode, *more, **named)

    return record_mode


# evaluate


@pytest.mark.parametrize("split", ["test", "val", "train"])
def test_evaluate_reproduces_what_was_recorded(cnnexp, trained_run, split):
    code, out, err = cnnexp("evaluate", trained_run, "--split", split)
    recorded = RunRecord.read(trained_run).info["result"][f"{split}_accuracy"]
    assert code == 0 and out.splitlines()[-1] == "as recorded", err
    assert f"{split}: accuracy {recorded:.2%}, loss " in out


def test_evaluate_counts_every_class(cnnexp, trained_run):
    facts = json.loads(cnnexp("evaluate", trained_run, "--json")[1])
    stored = RunRecord.read(trained_run).predictions()
    assert facts["reproduced"] is True and facts["n"] == 50
    assert facts["loss"] == metrics.cross_entropy(stored["logits"], stored["labels"])
    right = stored["logits"].argmax(1) == stored["labels"]
    assert [c["accuracy"] for c in facts["classes"].values()] == [
        right[stored["labels"] == k].mean() for k in range(10)
    ]
    assert {c["n"] for c in facts["classes"].values()} == {5}


def test_evaluate_says_what_was_not_reproduced(cnnexp, trained_run, tmp_path):
    folder = tmp_path / trained_run.name
    shutil.copytree(trained_run, folder)
    info = storage.read_json(folder / "run.json")
    info["result"]["test_accuracy"] = 0.99
    info["environment"]["torch"] = "1.0"
    storage.write_json(folder / "run.json", info)
    out = cnnexp("evaluate", folder)[1]
    assert "not as recorded: 99.00%; torch " in out and "then 1.0" in out


def tree(folder, classes):
    """Write a folder of gray images, two of each class in each split, as bright as the class's place in `classes`."""
    for split in ("train", "test"):
        for number, name in enumerate(classes):
            place = folder / split / name
            place.mkdir(parents=True)
            for i in range(2):
                Image.new("L", (20, 12), 20 * number + i).save(place / f"{i}.png")
    return folder


def test_evaluate_on_other_data_keeps_the_normalisation(cnnexp, trained_run, tmp_path):
    import cnnexp as package

    model = package.load(trained_run)
    root = tree(tmp_path / "tree", model.classes)
    given = ["data=folder", f"data.root={root}", "data.val_fraction=0"]
    code, out, err = cnnexp("evaluate", trained_run, *given, "--json")
    files = [root / "test" / name / f"{i}.png" for name in model.classes for i in range(2)]
    labels = np.arange(10).repeat(2)
    logits = model.logits(files)
    facts = json.loads(out)
    assert (code, facts["n"], facts["accuracy"]) == (0, 20, (logits.argmax(1) == labels).mean())
    assert facts["loss"] == pytest.approx(metrics.cross_entropy(logits, labels), rel=1e-5)
    assert facts["reproduced"] is None
    assert "named differently" not in err
    named = cnnexp("evaluate", trained_run, *given[1:], "data=folder", "--split", "val")
    assert named[0] == 2 and "has no images in val" in named[2]


def test_evaluate_matches_classes_by_name_or_says_so(cnnexp, trained_run, tmp_path):
    others = [f"class {c}" for c in "abcdefghij"]
    root = tree(tmp_path / "tree", others)
    code, _, err = cnnexp("evaluate", trained_run, "data=folder", f"data.root={root}", "data.val_fraction=0")
    assert code == 0 and "taken by position: class a for arrow, " in err
    from dataclasses import replace

    import cnnexp as package
    from cnnexp.commands.evaluate import with_classes_of
    from cnnexp.training.build import build_data

    model = package.load(trained_run)
    data = build_data(model.config)
    turned = replace(data, classes=data.classes[::-1])
    assert np.array_equal(with_classes_of(model, turned).test.labels, 9 - data.test.labels)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["seed=1"], "seed=1: allowed: data=NAME and data.KEY=VALUE"),
        (["data.sise=8"], r"data.sise: no such key.*did you mean 'size'"),
        (["data.size=9"], "images of 3x9x9 (C x H x W); the run's network takes 3x8x8"),
        (["data.num_test=-1"], "data.num_test: given -1; allowed"),
        (["data=shaps"], "did you mean 'shapes'"),
        (["--device", "gpu"], "unknown device 'gpu'"),
    ],
)
def test_evaluate_tells_mistakes(cnnexp, trained_run, given, message):
    import re

    code, out, err = cnnexp("evaluate", trained_run, *given)
    assert code == 2 and out == ""
    assert message in err or re.search(message, err), err


def test_evaluate_needs_as_many_classes(cnnexp, trained_run, tmp_path):
    root = tree(tmp_path / "tree", ["cat", "dog"])
    code, _, err = cnnexp("evaluate", trained_run, "data=folder", f"data.root={root}", "data.val_fraction=0")
    assert code == 2 and "folder has 2 classes; the run was trained on 10" in err


# predict


def test_predict_reads_folders_and_goes_on_after_a_damaged_file(cnnexp, trained_run, pictures):
    import cnnexp as package

    code, out, err = cnnexp("predict", trained_run, pictures, "--format", "json", "--top", "99", "--batch-size", "1")
    answers = json.loads(out)
    assert code == 3 and [a["path"] for a in answers] == [str(pictures / "a.png"), str(pictures / "more" / "b.JPG")]
    assert [line for line in err.splitlines() if "torn.png: cannot be read as an image" in line]
    expected = package.load(trained_run).predict([a["path"] for a in answers])
    for answer, probabilities in zip(answers, expected, strict=True):
        given = [p["probability"] for p in answer["predictions"]]
        assert given == sorted(given, reverse=True) and sum(given) == pytest.approx(1)
        np.testing.assert_allclose(given, np.sort(probabilities)[::-1], rtol=1e-5)


def test_predict_computes_as_it_was_recorded(cnnexp, trained_run, pictures, monkeypatch):
    """With the threads and the arithmetic of the run's device, as `evaluate` does."""
    steps = []
    monkeypatch.setattr("cnnexp.training.device.set_up", lambda device: steps.append(device.threads))
    monkeypatch.setattr(TrainedModel, "logits", lambda *given, own=TrainedModel.logits: steps.append("") or own(*given))
    assert cnnexp("predict", trained_run, pictures / "a.png", "--device", "cpu")[0] == 0
    assert steps == [1, ""]


def test_predict_as_table_and_csv(cnnexp, trained_run, pictures):
    image = pictures / "a.png"
    code, out, _ = cnnexp("predict", trained_run, image, "--top", "2")
    assert code == 0 and out.split()[0] == str(image) and out.count("%") == 2 and out.count("\n") == 1
    rows = list(csv.reader(io.StringIO(cnnexp("predict", trained_run, image, image, "--format", "csv")[1])))
    assert rows[0] == ["path", *(f"{what}_{k}" for k in (1, 2, 3) for what in ("class", "probability"))]
    assert rows[1] == rows[2] and rows[1][1] == out.split()[1] and 0 < float(rows[1][2]) < 1


def test_predict_tells_mistakes(cnnexp, trained_run, pictures):
    for given, message in (
        ([pictures / "a.png", pictures / "notes.txt"], "notes.txt: cannot be read as an image"),
        ([pictures / "gone.png"], "gone.png: no such file or folder"),
        ([pictures / "a.png", "--top", "0"], "--top: given 0; allowed: a whole number >= 1"),
    ):
        code, out, err = cnnexp("predict", trained_run, *given)
        assert code == 2 and out == "" and message in err and err.count("\n") == 1
    (pictures / "empty").mkdir()
    assert "has no images" in cnnexp("predict", trained_run, pictures / "empty")[2]


# diff


def test_diff_of_runs_of_different_studies(cnnexp, trained_run, other_run):
    code, out, _ = cnnexp("diff", trained_run, other_run)
    lines = [line.split() for line in out.splitlines()]
    assert code == 0 and ["optimizer.lr", "0.001", "0.01"] in lines and ["seed", "0", "1"] in lines
    assert not [line for line in lines if line[:1] == ["model.norm"]]
    first, second = (RunRecord.read(r) for r in (trained_run, other_run))
    points = 100 * (second.info["result"]["test_accuracy"] - first.info["result"]["test_accuracy"])
    assert next(line for line in lines if line[:1] == ["test_accuracy"])[-2:] == [f"{points:+.2f}", "points"]
    right = [(p["logits"].argmax(1) == p["labels"]) for p in (first.predictions(), second.predictions())]
    only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    assert f"50 shared: {only[0]} only a has right, {only[1]} only b; b - a: {points:+.2f} points" in out
    assert "differ first in row 1 (epoch 1, train): loss " in out


def test_diff_tests_the_shared_images_exactly(tmp_path):
    first, second = write_run(tmp_path, "a", 0, 0.9, images=100), write_run(tmp_path, "b", 0, 0.8, images=60)
    logits, labels, ids = predictions(0.8, 3, images=60)
    turned = np.arange(60)[::-1]  # the same images in another order
    second.write_predictions(logits[turned], labels[turned], ids[turned])
    mine = first.predictions()["logits"].argmax(1)[:60] == labels
    theirs = logits.argmax(1) == labels
    only = int((mine & ~theirs).sum()), int((theirs & ~mine).sum())
    p = stats.binomtest(only[0], sum(only)).pvalue
    said = diff.same_images(first, second)
    assert f"60 shared: {only[0]} only a has right, {only[1]} only b" in said
    assert f"exact p = {p:.2g}" in said or f"exact p = {p:.4f}" in said
    second.update(data={**second.info["data"], "classes": ["x"] * 10})
    assert diff.same_images(first, second) == "no comparison: the runs were tested on different data"
    (second.folder / "predictions.npz").unlink()
    assert diff.same_images(first, second).startswith("no comparison: a run has no predictions")


def test_diff_finds_where_two_runs_part(cnnexp, tmp_path):
    first, second = (RunRecord(tmp_path / name) for name in "ab")
    for run, third, count in ((first, 0.3, 3), (second, 0.4, 4)):
        storage.make_folder(run.folder)
        for epoch, loss in list(enumerate((0.1, 0.2, third, 0.5), 1))[:count]:
            run.append(kind="epoch", epoch=epoch, split="train", loss=loss, seconds=epoch * third)
    assert diff.parting(first, second) == "differ first in row 3 (epoch 3, train): loss 0.3 and 0.4"
    second.keep_rows(2)
    assert diff.parting(first, second) == "the same for 2 rows; then only a goes on"
    assert diff.parting(second, second) == "all 2 are the same"
    code, _, err = cnnexp("diff", first.folder, second.folder)
    assert code == 2 and "is not a run directory" in err


# gc


def put(path, size=1000, age=0.0):
    """Write a file of some size, some seconds old."""
    storage.make_folder(path.parent)
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.fixture
def messy(tmp_path):
    """Return outputs with something of every kind in it, and {name: path} of what could go."""
    outputs = tmp_path / "outputs"
    done, old, failed, held = (
        write_run(outputs, "a", 0, fingerprint="f2"),
        write_run(outputs, "a", 0, fingerprint="f1"),
        write_run(outputs, "b", 0, status="failed"),
        write_run(outputs, "c", 0, status="running"),
    )
    present = [{"folder": done.folder.name, "arm": "a", "seed": 0, "fingerprint": "f2"}]
    record.write_study(outputs / "demo", {"name": "demo", "baseline": None, "runs": present})
    put(done.folder / "checkpoints" / "best.pt")
    put(held.folder / "checkpoints" / "last.pt")
    put(held.folder / ".run.json.7.tmp", age=9999)
    put(outputs / "demo" / ".study.json.8.tmp")  # as young as one that is being written
    could_go = {
        "superseded": old.folder,
        "failed": put(failed.folder / "checkpoints" / "last.pt"),
        "last": put(done.folder / "checkpoints" / "last.pt"),
        "best": put(done.folder / "checkpoints" / "best-3.pt"),
        "temporary": put(done.folder / ".run.json.9.tmp", age=9999),
        "study": put(outputs / "demo" / ".study.json.9.tmp", age=9999),
    }
    with storage.lock(held.folder / ".lock"):
        yield outputs, could_go


def files(folder):
    return sorted(f for f in folder.rglob("*"))


def test_gc_lists_and_deletes_nothing(cnnexp, messy):
    outputs, could_go = messy
    before = files(outputs)
    code, out, _ = cnnexp("gc", outputs)
    listed = {line.split()[3] for line in out.splitlines()[:-1]}
    assert code == 0 and listed == {str(path) for path in could_go.values()}
    assert "nothing was deleted" in out and files(outputs) == before
    assert out.endswith("--delete does it (checkpoints and superseded only if named: --checkpoints --superseded)\n")


def test_runs_that_are_superseded_are_marked(messy, cnnexp):
    outputs, could_go = messy
    import cnnexp as package

    frame = package.runs(outputs)
    assert list(frame[frame.superseded].folder) == [str(could_go["superseded"])]
    out = cnnexp("runs", outputs)[1]
    assert out.count("superseded: the arm has another config now") == 1


def test_gc_deletes_what_it_lists_and_nothing_else(cnnexp, messy):
    outputs, could_go = messy
    before = files(outputs)
    kinds = ("--superseded", "--checkpoints", "--leftovers", "--cache")
    code, out, err = cnnexp("gc", outputs, *kinds, "--delete")
    assert code == 0 and err == "" and out.splitlines()[-1].endswith("MiB freed")
    gone = [f for f in before if any(path in (f, *f.parents) for path in could_go.values())]
    assert files(outputs) == [f for f in before if f not in gone]
    assert "there is nothing to delete" in cnnexp("gc", outputs)[1]


def test_gc_deletes_no_result_and_nothing_to_go_on_from_unless_asked(cnnexp, messy):
    outputs, could_go = messy
    assert cnnexp("gc", outputs, "--delete")[0] == 0
    left = {name for name, path in could_go.items() if path.exists()}
    assert {"superseded", "failed"} <= left and not {"last", "best", "temporary", "study"} & left


def test_gc_takes_only_the_kinds_that_are_chosen(cnnexp, messy):
    outputs, could_go = messy
    assert cnnexp("gc", outputs, "--superseded", "--checkpoints", "--delete")[0] == 0
    left = {name for name, path in could_go.items() if path.exists()}
    assert left == {"last", "best", "temporary", "study"}


def test_gc_keeps_a_superseded_run_that_another_starts_from(messy):
    outputs, could_go = messy
    later = write_run(outputs, "later", 0, study="other")
    later.write_config(f"model:\n  weights: {could_go['superseded']}\n")
    assert [i.path for i in gc.find(outputs, {"superseded"})] == []
    assert gc.find(outputs, {"leftovers"})


def test_gc_leaves_what_is_held_or_has_changed_meanwhile(messy):
    outputs, could_go = messy
    (failed,) = gc.find(outputs, {"checkpoints"})
    assert failed.run is not None
    with storage.lock(failed.run.folder / ".lock"):
        assert "is in use by pid" in gc.delete(failed)
        assert gc.find(outputs, {"checkpoints"}) == []
    RunRecord.read(failed.run.folder).update(status="done")
    assert gc.delete(failed) == "its run has changed meanwhile" and could_go["failed"].exists()


def test_gc_finds_prepared_images_that_cannot_be_used(cnnexp, tmp_path, monkeypatch, trained_run):
    from cnnexp.training.build import build_data

    cache = tmp_path / "cache"
    monkeypatch.setenv("CNNEXP_CACHE", str(cache))
    good = build_data({"data": {**RunRecord.read(trained_run).config()["data"], "cache": str(cache)}}).cache
    bad = cache / f"shapes-{'0' * 16}"
    put(bad / "images.npy")
    put(cache / f".shapes-{'1' * 16}.tmp" / "images.npy")
    put(cache / "else" / "of-mine")
    put(cache / "compiled" / "kernel.so")
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    code, out, _ = cnnexp("gc", outputs, "--cache", "--delete")
    assert code == 0 and out.count("\n") == 3
    assert sorted(f.name for f in cache.iterdir() if f.is_dir()) == ["compiled", "else", good.rpartition("/")[2]]
    assert cnnexp("gc", outputs)[1].endswith("--delete does it (compiled only if named: --compiled)\n")
    with storage.lock(write_run(outputs, "other", 0).folder / ".lock"):
        assert gc.find(outputs, {"compiled"}) == [], "a run that is under way may need it"
    cnnexp("gc", outputs, "--compiled", "--delete")
    assert sorted(f.name for f in cache.iterdir() if f.is_dir()) == ["else", good.rpartition("/")[2]]
