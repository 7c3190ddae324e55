"""The cut of a tree: by each file's own name, so that one file more or less moves no other; copies together."""

import numpy as np
import pytest
from image_folders import folder, picture

from cnnexp import cli
from cnnexp.config.words import folder as folder_of_configs
from cnnexp.data.cut import LEFT_OUT, VAL, Cut, assign, keep_together
from cnnexp.data.images import contradictory
from cnnexp.errors import UserError

NAMES = [f"{title}/{i}.jpg" for title in ("cat", "dog") for i in range(400)]
LABELS = np.repeat([0, 1], 400)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNEXP_CACHE", str(tmp_path / "cache"))


def cut(names=NAMES, labels=LABELS, test=0.2, val=0.1, seed=0, limits=(None, None, None)):
    return assign(names, np.asarray(labels), np.zeros(len(names), np.uint8), Cut(test, val, seed, *limits), 2)


def flat(root, count=40, names=("cat", "dog")):
    for k, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture(1000 * k + i).save(root / name / f"{i}.png")
    return root


def test_shares_are_those_of_every_class_within_three_deviations():
    found = cut()
    for label in (0, 1):
        counts = np.bincount(found[label == LABELS], minlength=3)
        assert abs(counts[2] - 80) < 3 * np.sqrt(400 * 0.2 * 0.8) and abs(counts[1] - 32) < 3 * np.sqrt(320 * 0.1 * 0.9)
    assert (found != cut(seed=1)).mean() > 0.2 and np.array_equal(found, cut())
    assert found[:12].tolist() == [0, 2, 2, 0, 0, 0, 2, 1, 0, 0, 0, 0]  # for good: runs depend on it


@pytest.mark.integration
def test_one_file_more_or_less_moves_no_other():
    before = dict(zip(NAMES, cut(), strict=True))
    for gone in range(0, 800, 7):
        names = NAMES[:gone] + NAMES[gone + 1 :]
        after = dict(zip(names, cut(names, np.delete(LABELS, gone)), strict=True))
        assert all(before[name] == part for name, part in after.items())


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_small_classes_keep_an_image_for_training_and_get_one_to_test(count):
    for seed in range(40):
        names, labels = [f"{k}/{i}" for k in "ab" for i in range(count)], np.repeat([0, 1], count)
        found = cut(names, labels, seed=seed, val=0)
        for label in (0, 1):
            counts = np.bincount(found[labels == label], minlength=3)
            assert counts[0] >= 1 and (counts[2] >= 1 or count < 3)


def test_limits_are_exact_nested_and_limit_validation_in_proportion():
    whole, few, more = cut(), cut(limits=(50, None, 20)), cut(limits=(100, None, None))
    for part, count in ((0, 50), (2, 20), (1, round((whole == 1).sum() * 50 / (whole == 0).sum()))):
        assert (few == part).sum() == count and (whole[few == part] == part).all()
    assert (more[few == 0] == 0).all() and (few == LEFT_OUT).sum() == 800 - 50 - 20 - (few == 1).sum()
    assert (cut(limits=(50, 30, None)) == 1).sum() == 30
    with pytest.raises(UserError, match=r"data.train_limit: given 1; allowed: at least 2"):
        cut(limits=(1, None, None))
    with pytest.raises(UserError, match=r"data.test_fraction: 0.001 of 4 images leaves no image"):
        cut(["a/1", "a/2", "b/1", "b/2"], [0, 0, 1, 1], test=0.001)


def test_copies_go_where_the_shortest_name_is():
    found = np.array([0, 2, 1, 2], np.uint8)
    group = np.array([0, 1, 2])
    assert keep_together(found, np.array([True, True, True, False]), [group], ["a/11", "a/2", "a/333", "a"]) == 2
    assert found.tolist() == [2, 2, 2, 2]


@pytest.mark.integration
def test_a_flat_tree_has_a_test_split_and_copies_stay_in_one(tmp_path, caplog):
    root = flat(tmp_path / "photos")
    data = folder(root)
    sides = {str(name): part for part, split in data.splits().items() for name in split.ids}
    assert data.classes == ["cat", "dog"] and len(sides) == 80 and data.notes == []
    assert 4 <= len(data.test) <= 30 and set(data.test.labels) == {0, 1}
    assert folder(root, test_fraction=0.5).fingerprint == data.fingerprint  # only the cut differs
    for i in range(40):
        picture(i).save(root / "cat" / f"a copy of {i}.bmp")  # equal in pixels, not in bytes
    again = folder(root)
    together = {str(name): part for part, split in again.splits().items() for name in split.ids}
    assert all(together[name] == part for name, part in sides.items())
    assert all(together[f"cat/a copy of {i}.bmp"] == together[f"cat/{i}.png"] for i in range(40))
    assert "images moved to another split, where an equal image is" in again.notes[0]
    assert again.notes[0] in caplog.text


def test_every_other_file_stays_where_it_is_when_one_is_added_to_a_tree(tmp_path):
    root = flat(tmp_path / "photos", 20)
    before = {str(name): part for part, split in folder(root).splits().items() for name in split.ids}
    picture(5000).save(root / "cat/new.png")
    for i in range(20, 30):
        picture(1000 + i).save(root / "dog" / f"{i}.png")
    after = {str(name): part for part, split in folder(root).splits().items() for name in split.ids}
    assert {name: after[name] for name in before} == before and len(after) == 51


@pytest.mark.integration
def test_equal_images_in_two_classes_are_named_and_counted_once(tmp_path, caplog):
    root = flat(tmp_path / "photos", 10)
    picture(3).save(root / "dog/same.png")
    (root / "dog/notes.txt").write_text("x")
    data = folder(root)
    note = "2 images equal one of another class: cat/3.png, dog/same.png; keep each in one class"
    assert note in data.notes and contradictory(data) == 2
    caplog.clear()
    place = [f"data.root={root}", "data.size=8", f"outputs={tmp_path / 'out'}", "batch_size=4", "device=cpu"]
    assert cli.main(["train", "-m", "--plan", "data=folder", *place, "data.val_fraction=0.1,0.2,0.3"]) == 0
    assert caplog.text.count(note) == caplog.text.count("1 file left out: 1 .txt") == 1, "once for all arms"
    (root / "dog/same.png").unlink()
    assert contradictory(folder(root)) == 0


@pytest.mark.parametrize(("seed", "drawn", "said"), [(13, [1, 5], True), (4, [5, 3], True), (11, [1, 2], False)])
def test_uneven_numbers_of_test_images_are_said(tmp_path, seed, drawn, said):
    """Of 10 images in each class."""
    found = folder(flat(tmp_path / "photos", 10), split_seed=seed)
    assert np.bincount(found.test.labels, minlength=2).tolist() == drawn
    words = f"of a class, {min(drawn)} to {max(drawn)} images are for the test: drawn by their names"
    assert any(note.startswith(words) for note in found.notes) == said


def in_folds(names=NAMES, labels=LABELS, test=0.0, folds=5, parts=None):
    """Return the part of each file, (folds, N)."""
    parts = np.zeros(len(names), np.uint8) if parts is None else parts
    return np.stack(
        [
            assign(names, np.asarray(labels), parts, Cut(test, 0.1, 0, None, None, None, folds, fold), 2)
            for fold in range(folds)
        ]
    )


@pytest.mark.parametrize(("test", "part"), [(0.0, 1), (0.2, 2)])
def test_every_image_is_in_one_fold(test, part):
    """Without a test split of the tree's own the fold is the test, and validation is drawn from the rest."""
    found = in_folds(test=test)
    assert ((found == part).sum(0) == 1).all()
    for label in (0, 1):
        sizes = (found[:, label == LABELS] == part).sum(1)
        assert (abs(sizes - 80) < 3 * np.sqrt(400 * 0.2 * 0.8)).all() and set(sizes.tolist()) != {80}
    assert ((found == 1).sum(1) > 0).all() and ((found == 2).any() == (test > 0))


def test_the_first_fold_is_the_validation_split_of_that_fraction():
    assert np.array_equal(in_folds()[0], cut(test=0, val=0.2))
    assert np.array_equal(in_folds(test=0.3)[0] == 2, cut(test=0.2) == 2)


def test_one_file_more_or_less_moves_no_other_to_another_fold():
    before = in_folds()
    for gone in range(0, 800, 41):
        after = in_folds(NAMES[:gone] + NAMES[gone + 1 :], np.delete(LABELS, gone))
        assert np.array_equal(after, np.delete(before, gone, axis=1))


def test_training_and_validation_folders_are_cut_together_and_the_test_stays():
    parts = np.arange(800).astype(np.uint8) % 3
    found = in_folds(parts=parts)
    assert ((found == 2) == (parts == 2)).all()
    assert ((found == 1).sum(0) == (parts != 2)).all()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_small_classes_keep_an_image_for_training_in_every_fold(count):
    names, labels = [f"{k}/{i}" for k in "ab" for i in range(count)], np.repeat([0, 1], count)
    for fold in range(2):
        for seed in range(40):
            settings = Cut(0.0, 0.1, seed, None, None, None, 2, fold)
            found = assign(names, labels, np.zeros(len(names), np.uint8), settings, 2)
            assert all((found[labels == label] == 0).any() for label in (0, 1))


def test_a_fold_without_images_is_refused():
    with pytest.raises(UserError, match=r"data.folds: given 20; fold \d+ of 4 images has none"):
        in_folds(list("abcd"), [0, 0, 1, 1], folds=20)


def test_copies_stay_in_one_fold(tmp_path):
    root = flat(tmp_path / "photos", count=20)
    for i in range(20):
        picture(i).save(root / "cat" / f"a copy of {i}.bmp")
    for fold in range(3):
        data = folder(root, folds=3, fold=fold)
        sides = {str(name): part for part, split in data.splits().items() for name in split.ids}
        assert len(data.test) > 5 and len(data.val) > 0
        assert all(sides[f"cat/a copy of {i}.bmp"] == sides[f"cat/{i}.png"] for i in range(20))


def test_a_class_gets_about_its_share_of_validation_files_and_the_settings_say_so():
    names = [f"{title}/{i}.jpg" for title in "abc" for i in range(20)]
    labels = np.repeat([0, 1, 2], 20)
    numbers = Cut(0.0, 0.1, 0, None, None, None)
    found = assign(names, labels, np.zeros(60, np.uint8), numbers, 3)
    assert len(set(np.bincount(labels[found == VAL]).tolist())) > 1, "not stratified"
    text = (folder_of_configs() / "data/shared/splits.yaml").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("val_fraction:")]
    assert "of files (folder, csv, imagenette) about so many of each class, drawn by their names" in line
