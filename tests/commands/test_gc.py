"""`cnnexp gc`: what it lists, what it deletes, and what it leaves."""

import os
import time

import pytest
from fake_records import write_run

from cnnexp import runs, storage
from cnnexp.commands import gc
from cnnexp.records import study as study_file
from cnnexp.records.run_record import RunRecord
from cnnexp.training.build import build_data

pytest_plugins = ["trained_runs"]


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
    study_file.write_study(outputs / "demo", {"name": "demo", "baseline": None, "runs": present})
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
    assert "nothing was: use --delete" in out and files(outputs) == before
    assert out.endswith("use --delete (for checkpoints and superseded add --checkpoints --superseded)\n")


def test_runs_that_are_superseded_are_marked(messy, cnnexp):
    outputs, could_go = messy
    frame = runs(outputs, superseded=True)
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


def test_gc_deletes_states_that_more_epochs_go_on_from_only_if_asked(cnnexp, tmp_path):
    file = put(write_run(tmp_path, "a", 0).folder / "checkpoints" / "final.pt")
    assert "more epochs could go on from it" in cnnexp("gc", tmp_path)[1]
    assert cnnexp("gc", tmp_path, "--delete")[0] == 0 and file.exists()
    assert cnnexp("gc", tmp_path, "--final", "--delete")[0] == 0 and not file.exists()


def test_gc_keeps_a_superseded_run_that_another_starts_from(messy):
    outputs, could_go = messy
    later = write_run(outputs, "later", 0, study="other")
    later.write_config({"model": {"weights": str(could_go["superseded"])}})
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
    cache = tmp_path / "cache"
    monkeypatch.setenv("CNNEXP_CACHE", str(cache))
    good = build_data({"data": {**RunRecord.read(trained_run).config()["data"], "cache": str(cache)}}).cache
    bad = cache / f"postcards-{'0' * 16}"
    put(bad / "images.npy")
    put(cache / f".postcards-{'1' * 16}.tmp" / "images.npy")
    put(cache / "else" / "of-mine")
    put(cache / "compiled" / "kernel.so")
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    code, out, _ = cnnexp("gc", outputs, "--cache", "--delete")
    assert code == 0 and out.count("\n") == 3
    assert sorted(f.name for f in cache.iterdir() if f.is_dir()) == ["compiled", "else", good.rpartition("/")[2]]
    assert cnnexp("gc", outputs)[1].endswith("use --delete (for compiled add --compiled)\n")
    with storage.lock(write_run(outputs, "other", 0).folder / ".lock"):
        assert gc.find(outputs, {"compiled"}) == [], "a run that is under way may need it"
    cnnexp("gc", outputs, "--compiled", "--delete")
    assert sorted(f.name for f in cache.iterdir() if f.is_dir()) == ["else", good.rpartition("/")[2]]


@pytest.mark.parametrize("target", ["nowhere", "last.pt", "."])
def test_gc_deletes_a_link_and_not_what_it_names(cnnexp, tmp_path, target):
    run = write_run(tmp_path, "b", 0, status="failed")
    link = run.folder / "checkpoints" / "last.pt"
    storage.make_folder(link.parent)
    link.symlink_to(target)
    code, out, err = cnnexp("gc", tmp_path, "--checkpoints", "--delete")
    assert (code, err) == (0, "") and str(link) in out
    assert not link.is_symlink() and link.parent.is_dir()
