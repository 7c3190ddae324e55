"""`cnnexp evaluate`: the recorded numbers again, other data, and wrong requests."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile import edit_config
from PIL import Image

from cnnexp import cli, load, metrics, storage
from cnnexp.commands.evaluate import is_exact
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.training import other_data
from cnnexp.training.build import build_data, forget_data
from cnnexp.training.device import Device
from cnnexp.training.other_data import with_classes_of

pytest_plugins = ["trained_runs"]


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


def test_evaluate_names_every_own_part_at_once(cnnexp, copy):
    edit_config(copy, "cnnexp.models.convnet.convnet", "mine.Net")
    edit_config(copy, "cnnexp.data.sources.postcards", "mine.Data")
    assert "add --allow mine.Net --allow mine.Data (in" in cnnexp("evaluate", copy)[2]
    assert "add --allow mine.Net (in" in cnnexp("evaluate", copy, "data=textures")[2], "the run's data is not used"


def test_evaluate_says_what_was_not_reproduced(cnnexp, trained_run, tmp_path):
    folder = tmp_path / trained_run.name
    shutil.copytree(trained_run, folder)
    info = storage.read_json(folder / "run.json")
    info["result"]["test_accuracy"] = 0.99
    info["environment"]["torch"] = "1.0"
    storage.write_json(folder / "run.json", info)
    out = cnnexp("evaluate", folder)[1]
    assert "not as recorded: 99.00%; torch " in out and "then 1.0" in out


def test_only_a_device_that_repeats_itself_makes_a_difference_a_failure():
    cpu = Device(torch.device("cpu"), "AMD", "fp32", 2, True, False, None)
    gpu = replace(cpu, torch=torch.device("cuda", 0), name="H100")
    assert is_exact(cpu, cpu.record()) and not is_exact(cpu, replace(cpu, threads=1).record())
    assert not is_exact(gpu, gpu.record()), "its kernels are chosen by speed, or add up in any order"
    assert is_exact(replace(gpu, deterministic=True), gpu.record()) and not is_exact(gpu, cpu.record())


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

    model = load(trained_run)
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
    assert code == 0 and "matched by position: class a for sailboat, " in err
    model = load(trained_run)
    data = build_data(model.config)
    turned = replace(data, classes=data.classes[::-1])
    assert np.array_equal(with_classes_of(model, turned)[0].test.labels, 9 - data.test.labels)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["seed=1"], "seed=1: allowed: data=NAME and data.KEY=VALUE"),
        (["data.sise=8"], r"data.sise: no such key.*did you mean 'size'"),
        (["data.size.height=9"], r"data.size.height: no such key; data.size has no keys"),
        (["data.size=9"], "images of 3x9x9 (C x H x W); the run's network takes 3x8x8"),
        (["data.num_test=-1"], "data.num_test: given -1; allowed"),
        (["data=postcard"], "did you mean 'postcards'"),
        (["--device", "gpu"], "unknown device 'gpu'"),
    ],
)
def test_evaluate_reports_mistakes(cnnexp, trained_run, given, message):
    code, out, err = cnnexp("evaluate", trained_run, *given)
    assert code == 2 and out == ""
    assert message in err or re.search(message, err), err


@pytest.mark.parametrize("extra", [[], ["zebra", "yak"]])
def test_names_that_agree_are_matched_and_others_left_out(cnnexp, trained_run, tmp_path, extra):
    model = load(trained_run)
    names = model.classes[7:2:-2]  # three of its ten, whose places in the tree are others
    root = tree(tmp_path / "tree", [*names, *extra])
    words = ("evaluate", trained_run, "data=folder", f"data.root={root}", "data.val_fraction=0")
    code, out, err = cnnexp(*words, "--json")
    facts = json.loads(out)
    assert code == 0 and facts["classes_matched_by"] == "name" and facts["classes_left_out"] == sorted(extra)
    assert {name: c["n"] for name, c in facts["classes"].items() if c["n"]} == dict.fromkeys(names, 2)
    files = [root / "test" / name / f"{i}.png" for name in names for i in range(2)]
    right = model.predict(files).argmax(1) == np.repeat([model.classes.index(name) for name in names], 2)
    assert facts["accuracy"] == right.mean()
    assert ("left out: yak, zebra" in err) == bool(extra)


def test_json_says_that_classes_are_matched_by_position(cnnexp, trained_run, tmp_path):
    root = tree(tmp_path / "tree", [f"class {c}" for c in "abcdefghij"])
    words = ("evaluate", trained_run, "data=folder", f"data.root={root}", "data.val_fraction=0")
    assert json.loads(cnnexp(*words, "--json")[1])["classes_matched_by"] == "position"


def test_a_wrong_number_of_classes_is_refused_before_anything_is_prepared(cnnexp, trained_run, tmp_path, monkeypatch):
    from cnnexp.data import tree as trees

    monkeypatch.setattr(trees, "prepare", lambda *_: pytest.fail("prepared"))
    root = tree(tmp_path / "tree", ["cat", "dog"])
    code, _, err = cnnexp("evaluate", trained_run, "data=folder", f"data.root={root}", "data.val_fraction=0")
    assert code == 2 and "folder has 2 classes; the run was trained on 10" in err


@pytest.fixture(scope="module")
def made_of_photos(tmp_path_factory):
    """Return (a run that was trained on 40 images of two classes, their folder); a fifth of them are test images."""
    place = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (place / "photos" / name).mkdir(parents=True)
        for i in range(20):
            pixels = draw.integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(place / "photos" / name / f"{i:02d}.png")
    words = [
        "data=folder",
        f"data.root={place / 'photos'}",
        "data.size=8",
        "epochs=1ep",
        "model.blocks=[{fc: {out: 4}}]",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNEXP_CACHE", str(place / "cache"))
        assert cli.main(["train", *words, f"outputs={place / 'outputs'}", "batch_size=4", "device.kind=cpu"]) == 0
    (run,) = find_runs(place / "outputs")
    return run.folder, place


@pytest.fixture
def at_photos(made_of_photos, monkeypatch):
    monkeypatch.setenv("CNNEXP_CACHE", str(made_of_photos[1] / "cache"))
    return made_of_photos


@pytest.mark.integration
@pytest.mark.parametrize(
    "given", [["data.split_seed=1"], ["data.test_fraction=0.5"], ["data.split_seed=1", "data.resize=squash"]]
)
def test_evaluate_counts_training_images_in_a_split_that_is_drawn_anew(cnnexp, at_photos, given):
    run, _ = at_photos
    own, config = build_data(load(run).config), load(run).config
    typed = {word.split("=")[0].removeprefix("data."): word.split("=")[1] for word in given}
    numbers = {key: value if key == "resize" else float(value) for key, value in typed.items()}
    drawn = build_data({"data": config["data"] | {k: int(v) if k == "split_seed" else v for k, v in numbers.items()}})
    expected = len(set(own.train.ids) & set(drawn.test.ids))
    code, out, err = cnnexp("evaluate", run, *given, "--json")
    assert expected > 0 and code == 0 and json.loads(out)["trained_on"] == expected
    assert f"{expected} of these {len(drawn.test)} images were training images of this run" in err
    code, out, err = cnnexp("evaluate", run, "--json")
    assert (code, err, json.loads(out)["trained_on"]) == (0, "", None)


def test_evaluate_counts_training_images_in_the_same_images_under_another_name(cnnexp, at_photos):
    run, place = at_photos
    given = ["data=folder", f"data.root={place / 'photos'}", "data.split_seed=1"]
    assert json.loads(cnnexp("evaluate", run, *given, "--json")[1])["trained_on"] > 0


def test_data_that_a_user_s_code_cannot_read_any_more_is_not_known(at_photos, monkeypatch):
    def gone(*given):
        raise FileNotFoundError("/old/images")

    monkeypatch.setattr(other_data, "data_of", gone)
    assert other_data.own_data_of(load(at_photos[0]), ["data.root=/new"], []) is None


def test_evaluate_of_other_images_in_another_place_is_no_failed_reproduction(cnnexp, at_photos, tmp_path):
    run, place = at_photos
    shutil.copytree(place / "photos", tmp_path / "moved")
    code, out, err = cnnexp("evaluate", run, f"data.root={tmp_path / 'moved'}")
    assert (code, out.splitlines()[-1], err) == (0, "as recorded", "")
    for file in (tmp_path / "moved").rglob("*.png"):
        Image.new("L", (8, 8), len(file.name) + int(file.stem)).save(file)
    forget_data()
    code, out, err = cnnexp("evaluate", run, f"data.root={tmp_path / 'moved'}")
    assert code == 0 and "as recorded" not in out
    assert "cnnexp: other images than the run's, so the recorded accuracy is not compared" in err


def test_evaluate_of_the_runs_own_images_that_have_changed_is_a_failed_reproduction(cnnexp, at_photos, tmp_path):
    run = Path(shutil.copytree(at_photos[0], tmp_path / "runs" / at_photos[0].name))
    photos = Path(shutil.copytree(at_photos[1] / "photos", tmp_path / "photos"))
    edit_config(run, str(at_photos[1] / "photos"), str(photos))
    draw = np.random.default_rng(1)
    for file in photos.rglob("*.png"):
        Image.fromarray(draw.integers(0, 256, (8, 8), np.uint8)).save(file)
    edited = storage.read_json(run / "run.json")
    edited["result"]["test_accuracy"] = 0.123
    storage.write_json(run / "run.json", edited)
    for given in ([], [f"data.cache={tmp_path / 'cache'}"]):
        forget_data()
        code, out, _ = cnnexp("evaluate", run, *given)
        assert code == 3 and "not as recorded: 12.30%; the data has changed" in out


def test_evaluate_reads_other_images_with_the_bits_of_the_run(cnnexp, at_photos, tmp_path):
    run = Path(shutil.copytree(at_photos[0], tmp_path / "runs" / at_photos[0].name))
    edit_config(run, "bits: null", "bits: 12")
    for name in ("cat", "dog"):
        for i in range(4):
            (tmp_path / "new" / "test" / name).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(i).integers(0, 4096, (8, 8)).astype(np.uint16)
            Image.fromarray(pixels).save(tmp_path / "new" / "test" / name / f"{i}.png")
            (tmp_path / "new" / "train" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[::-1].copy()).save(tmp_path / "new" / "train" / name / f"{i}.png")
    model = load(run)
    files = [tmp_path / "new" / "test" / name / f"{i}.png" for name in ("cat", "dog") for i in range(4)]
    expected = metrics.cross_entropy(model.logits(files), np.arange(2).repeat(4))
    out = cnnexp("evaluate", run, "data=folder", f"data.root={tmp_path / 'new'}", "data.val_fraction=0", "--json")[1]
    assert json.loads(out)["loss"] == pytest.approx(expected, rel=1e-5)


def marked(table, rows):
    """Write a table of the files and labels of `rows`: (path, label, split)."""
    table.write_text("path,label,split\n" + "".join(f"{path},{label},{split}\n" for path, label, split in rows))
    return table


@pytest.fixture(scope="module")
def made_of_a_table(tmp_path_factory):
    """Return (a run of a table of 40 images, 24 x 16, 28 of them for training, 4 validation, 8 test; its folder)."""
    place = tmp_path_factory.mktemp("table")
    draw, rows = np.random.default_rng(0), []
    for name in ("cat", "dog"):
        for i in range(20):
            Image.fromarray(draw.integers(0, 256, (16, 24, 3), np.uint8)).save(place / f"{name}{i:02d}.png")
            rows.append((f"{name}{i:02d}.png", name, "train" if i < 14 else "val" if i < 16 else "test"))
    words = ["data=csv", f"data.file={marked(place / 'labels.csv', rows)}", "data.size=8", "epochs=1ep"]
    words += ["model.blocks=[{fc: {out: 4}}]", f"outputs={place / 'outputs'}", "batch_size=4", "device.kind=cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNEXP_CACHE", str(place / "cache"))
        assert cli.main(["train", *words]) == 0
    (run,) = find_runs(place / "outputs")
    return run.folder, place, rows


@pytest.fixture
def at_table(made_of_a_table, monkeypatch):
    monkeypatch.setenv("CNNEXP_CACHE", str(made_of_a_table[1] / "cache"))
    return made_of_a_table


def leaking(rows):
    """Return the rows with half of the training images as the test images; the former test images are left out."""
    kept = [row for row in rows if row[2] != "test"]
    return [(path, name, "test" if int(path[3:5]) < 7 else split) for path, name, split in kept]


def lines(err):
    """Return what `cnnexp evaluate` says of the data, without the preparing of images and the edited config."""
    return [line for line in err.splitlines() if line.startswith("cnnexp: ") and "config.yaml" not in line]


@pytest.mark.integration
def test_evaluate_counts_training_images_that_another_table_tests(cnnexp, at_table):
    run, place, rows = at_table
    table = marked(place / "leak.csv", leaking(rows))
    code, out, err = cnnexp("evaluate", run, f"data.file={table}", "--json")
    facts = json.loads(out)
    assert (code, facts["n"], facts["trained_on"], facts["reproduced"]) == (0, 14, 14, None)
    assert lines(err) == [
        "cnnexp: 14 of these 14 images were training images of this run, so this is not the accuracy on new images, "
        "and it is not compared with the recorded one"
    ]
    code, out, err = cnnexp("evaluate", run, f"data.file={table}", "data.resize=squash", "--json")
    assert json.loads(out)["trained_on"] == 14, "the same files, read in another way"
    (line,) = lines(err)
    assert line.startswith("cnnexp: 14 of these 14 images were training images of this run")
    assert (
        json.loads(cnnexp("evaluate", run, f"data.file={table}", "--split", "train", "--json")[1])["trained_on"] is None
    )
    assert json.loads(cnnexp("evaluate", run, f"data.file={table}", "--split", "val", "--json")[1])["trained_on"] == 0


def test_evaluate_does_not_call_the_runs_images_others(cnnexp, at_table):
    run, place, rows = at_table
    table = marked(place / "fewer.csv", [row for row in rows if row[2] != "train" or int(row[0][3:5]) < 9])
    code, out, err = cnnexp("evaluate", run, f"data.file={table}", "--json")
    assert (code, json.loads(out)["trained_on"], json.loads(out)["n"]) == (0, 0, 8)
    line = "not the images and labels that the run recorded, so the recorded accuracy is not compared"
    assert lines(err) == [f"cnnexp: {line}"]


@pytest.mark.parametrize("extra", [[], ["zebra"]])
def test_evaluate_counts_copies_of_training_images_in_another_tree(cnnexp, at_table, tmp_path, extra):
    run, place, rows = at_table
    for split in ("train", "test"):
        for name in ("dog", "cat", *extra):
            (tmp_path / "other" / split / name).mkdir(parents=True)
    for path, name, split in rows:
        part = "test" if split != "train" or int(path[3:5]) < 5 else "train"
        shutil.copy(place / path, tmp_path / "other" / part / name / f"copy of {path}")
    for title in extra:  # a training image among those that are left out, and one that has another class here
        for part in ("train", "test"):
            shutil.copy(place / "cat00.png", tmp_path / "other" / part / title)
    shutil.copy(place / "cat13.png", tmp_path / "other" / "test" / "dog")
    given = ["data=folder", f"data.root={tmp_path / 'other'}", "data.val_fraction=0"]
    code, out, err = cnnexp("evaluate", run, *given, "--json")
    facts = json.loads(out)
    assert (code, facts["n"], facts["trained_on"]) == (0, 23, 11)
    assert "cnnexp: 11 of these 23 images were training images of this run, so this is not the accuracy on" in err


def test_evaluate_counts_training_images_in_a_copy_that_is_read_in_another_way(cnnexp, at_table, tmp_path):
    """The run's own images are still where they were; those of the copy have other pixels, but the same names."""
    run, place, _ = at_table
    copy = Path(shutil.copytree(place, tmp_path / "copy", ignore=shutil.ignore_patterns("cache", "outputs")))
    given = [f"data.file={copy / 'labels.csv'}", "data.resize=squash", "data.columns.split=null"]
    assert json.loads(cnnexp("evaluate", run, *given, "--json")[1])["trained_on"] > 0


def test_evaluate_knows_nothing_of_training_images_without_the_runs_data(cnnexp, at_table, tmp_path):
    _, place, rows = at_table
    moved = Path(shutil.copytree(place, tmp_path / "moved", ignore=shutil.ignore_patterns("cache", "outputs")))
    run = Path(shutil.copytree(at_table[0], tmp_path / "runs" / at_table[0].name))
    edit_config(run, str(place / "labels.csv"), str(tmp_path / "gone.csv"))
    leak = marked(moved / "leak.csv", leaking(rows))
    code, out, err = cnnexp("evaluate", run, f"data.file={leak}", "--json")
    assert (code, json.loads(out)["trained_on"]) == (0, None)
    line = (
        "not the images and labels that the run recorded, so the recorded accuracy is not compared; the run's own data"
    )
    assert lines(err) == [f"cnnexp: {line} cannot be read or has changed, so some may be its training images"]
    given = [f"data.file={moved / 'labels.csv'}", "data.columns.split=null"]
    assert json.loads(cnnexp("evaluate", run, *given, "--json")[1])["trained_on"] > 0, "its own data, moved"


def test_evaluate_says_that_the_training_images_are_those_of_changed_data(cnnexp, at_table, tmp_path):
    _, place, rows = at_table
    moved = Path(shutil.copytree(place, tmp_path / "moved", ignore=shutil.ignore_patterns("cache", "outputs")))
    run = Path(shutil.copytree(at_table[0], tmp_path / "runs" / at_table[0].name))
    edit_config(run, str(place / "labels.csv"), str(moved / "labels.csv"))
    marked(moved / "labels.csv", leaking(rows))
    out, err = cnnexp("evaluate", run, "--json")[1:]
    assert (json.loads(out)["trained_on"], lines(err)) == (None, []), "which images it was trained on is not known"
    drawn = [(path, name, "train" if 10 <= int(path[3:5]) < 14 else "test") for path, name, _ in rows]
    nearly_all = marked(moved / "all.csv", drawn)
    out, err = cnnexp("evaluate", run, f"data.file={nearly_all}", "--json")[1:]
    assert json.loads(out)["trained_on"] == 6
    assert "6 of these 32 images are training images in this run's data, which has changed since" in err
