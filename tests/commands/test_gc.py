"""`cnnexp gc`: what it lists, what it deletes, and what it leaves."""

import os
import shutil
import time
from pathlib import Path

import pytest
from fake_records import write_run
from PIL import Image

from cnnexp import runs, storage
from cnnexp.commands import gc
from cnnexp.config import compose as configs
from cnnexp.records import study as study_file
from cnnexp.records.run_record import RunRecord
from cnnexp.storage import StorageError, failpoints
from cnnexp.text import mib
from cnnexp.training.build import build_data, forget_data

pytest_plugins = ["trained_runs"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Let no prepared images of other tests count."""
    monkeypatch.setenv("CNNEXP_CACHE", str(tmp_path / "cache"))


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
    put(held.folder / ".run.json.7-0a1b2c3d.tmp", age=9999)
    put(outputs / "demo" / ".study.json.8-0a1b2c3d.tmp")  # as young as one that is being written
    could_go = {
        "superseded": old.folder,
        "failed": put(failed.folder / "checkpoints" / "last.pt"),
        "last": put(done.folder / "checkpoints" / "last.pt"),
        "best": put(done.folder / "checkpoints" / "best-3.pt"),
        "temporary": put(done.folder / ".run.json.9-0a1b2c3d.tmp", age=9999),
        "study": put(outputs / "demo" / ".study.json.9-0a1b2c3d.tmp", age=9999),
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
    with storage.lock(later.folder / ".lock"):
        assert gc.find(outputs, {"superseded"}) == [], "a run that is under way needs it too"
    (later.folder / "run.json").write_text("damaged")
    assert gc.find(outputs, {"superseded"}) == [], "and one that cannot be read may be put back"


def test_gc_keeps_a_superseded_run_with_one_under_way_below_it(messy):
    outputs, could_go = messy
    inner = write_run(could_go["superseded"], "inner", 0, status="running")
    with storage.lock(inner.folder / ".lock"):
        assert gc.find(outputs, {"superseded"}) == []


def test_gc_leaves_temporary_files_of_other_programs(cnnexp, tmp_path):
    run = write_run(tmp_path, "a", 0)
    theirs = [put(folder / ".mail.tmp", age=9999) for folder in (tmp_path, run.folder)]
    assert cnnexp("gc", tmp_path, "--delete")[0] == 0 and all(file.exists() for file in theirs)


def test_gc_deletes_on_a_full_disk(cnnexp, messy, monkeypatch):
    outputs, could_go = messy
    monkeypatch.setattr(failpoints, "observer", failpoints.parse("lock.write:enospc:1+"))
    assert cnnexp("gc", outputs, "--leftovers", "--checkpoints", "--superseded", "--delete")[0] == 0
    assert not any(path.exists() for path in could_go.values())


def test_gc_passes_over_what_is_gone_meanwhile(cnnexp, messy, monkeypatch):
    outputs, could_go = messy
    items = gc.find(outputs, {"leftovers"})
    could_go["last"].unlink()
    monkeypatch.setattr(gc, "find", lambda folder, kinds: items)
    code, _, err = cnnexp("gc", outputs, "--delete")
    assert (code, err) == (0, "") and not could_go["best"].exists()


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


@pytest.mark.integration
def test_gc_finds_prepared_images_of_a_folder_that_has_changed(cnnexp, tmp_path, monkeypatch):
    monkeypatch.setenv("CNNEXP_CACHE", str(tmp_path / "cache"))
    photos, table = tmp_path / "photos", tmp_path / "photos.csv"
    for number in range(12):
        image = photos / ["cat", "dog"][number % 2] / f"{number}.png"
        storage.make_folder(image.parent)
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(image)
    (photos / "cat" / "broken.png").write_bytes(b"no image")
    rows = [f"photos/{image.parent.name}/{image.name},{image.parent.name}" for image in photos.glob("*/[0-9]*.png")]
    table.write_text("\n".join(["path,label", *rows]))
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    monkeypatch.setattr("cnnexp.data.digests.SETTLE_SECONDS", 0.0)

    def prepared(*words):
        node = configs.resolve(configs.compose(["data.size=8", "data.test_fraction=0.3", *words]))
        forget_data()
        return Path(build_data(node).cache)

    def found():
        return {item.path: item.why for item in gc.find(outputs, {"outdated"})}

    of_tree = prepared("data=folder", f"data.root={photos}", "data.on_corrupt=skip")
    of_table = prepared("data=csv", f"data.file={table}")
    assert found() == {}
    Image.new("RGB", (8, 8), (255, 255, 255)).save(photos / "cat" / "more.png")
    assert found() == {of_tree: f"of {photos}, where images were added, removed or renamed since"}
    assert prepared("data=folder", f"data.root={photos}", "data.on_corrupt=skip") != of_tree
    assert list(found()) == [of_tree], "the later one is of the folder as it is"
    copy = shutil.copytree(photos, tmp_path / "copy")
    (copy / "cat" / "more.png").unlink()
    assert prepared("data=folder", f"data.root={copy}", "data.on_corrupt=skip") == of_tree
    assert found() == {}, "it stands for equal images in another folder"
    shutil.rmtree(copy)
    (photos / "dog" / "1.png").write_bytes((photos / "cat" / "0.png").read_bytes())
    changed = found()
    assert changed[of_table] == f"of {table.parent}, where images have changed since"
    assert len(changed) == 3 and f"of {copy}, which is gone" in changed[of_tree]
    with monkeypatch.context() as patch:  # a mount that fails for a moment is no change

        def refuse(*_):
            raise StorageError(photos, OSError(5, "Input/output error"), "read")

        patch.setattr("cnnexp.data.outdated.content_digest", refuse)
        assert of_table not in found()
    size = sum(file.stat().st_size for file in of_table.iterdir())
    code, out, _ = cnnexp("gc", outputs, "--outdated")
    assert code == 0 and f"{mib(size)}  outdated     {of_table}  (of " in out
    assert cnnexp("gc", outputs, "--delete")[0] == 0 and of_table.exists(), "an earlier run's page shows these images"
    assert cnnexp("gc", outputs, "--outdated", "--delete")[0] == 0 and found() == {} and not of_table.exists()


@pytest.mark.parametrize("target", ["nowhere", "last.pt", "."])
def test_gc_deletes_a_link_and_not_what_it_names(cnnexp, tmp_path, target):
    run = write_run(tmp_path, "b", 0, status="failed")
    link = run.folder / "checkpoints" / "last.pt"
    storage.make_folder(link.parent)
    link.symlink_to(target)
    code, out, err = cnnexp("gc", tmp_path, "--checkpoints", "--delete")
    assert (code, err) == (0, "") and str(link) in out
    assert not link.is_symlink() and link.parent.is_dir()
