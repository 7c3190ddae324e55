"""Duplicate images: found by content, counted by split, and reported where they matter."""

import shutil

import numpy as np
import pytest
from image_folders import folder, picture, tree

from cnnexp.data.arrays import image_data
from cnnexp.data.images import equal_to_any, find_copies, leaked
from cnnexp.explore import duplicates


@pytest.fixture
def planted(tmp_path):
    """Return a tree with a training image in test, one under two classes, and one twice in train."""
    root = tree(tmp_path / "tree", parts=("train", "val", "test"), count=6)
    shutil.copy(root / "train/cat/0.png", root / "test/cat/leak.png")
    shutil.copy(root / "train/cat/1.png", root / "train/dog/also.png")
    shutil.copy(root / "train/dog/2.png", root / "train/dog/twice.png")
    shutil.copy(root / "train/dog/2.png", root / "train/dog/thrice.png")
    shutil.copy(root / "val/dog/3.png", root / "test/dog/seen.png")
    return root


def test_planted_copies_are_found_and_counted(planted):
    data = folder(planted)
    found = duplicates.find(data)
    names = [sorted(member.id for member in group) for group in found.groups]
    assert names[:2] == [["train/cat/1.png", "train/dog/also.png"], ["test/cat/leak.png", "train/cat/0.png"]]
    rest = [["train/dog/2.png", "train/dog/thrice.png", "train/dog/twice.png"], ["test/dog/seen.png", "val/dog/3.png"]]
    assert names[2:] == rest
    assert [found.within(split) for split in ("train", "val", "test")] == [3, 0, 0]
    assert {pair: found.shared(*pair) for pair in found.pairs()} == {
        ("train", "val"): 0,
        ("train", "test"): 1,
        ("val", "test"): 1,
    }
    assert len(found.contradictions()) == 1 and leaked(data) == 1


def test_the_warnings_name_the_affected_number(planted):
    first, second, third = duplicates.warnings(duplicates.find(folder(planted)))
    assert first.startswith("Leak from train to test: 1 of 14 test images (7.14 %) is also in train, pixel for pixel;")
    assert second.startswith("Leak from val to test: 1 of 14 test images")
    assert third.startswith("Contradiction: 1 image has more than one class (2 copies)")
    assert third.endswith(" They are train/cat/1.png and train/dog/also.png.")


def test_a_clean_set_has_no_copies_and_no_warnings(tmp_path):
    data = folder(tree(tmp_path / "tree"))
    found = duplicates.find(data)
    assert data.copies == [] and duplicates.warnings(found) == [] and leaked(data) == 0
    assert duplicates.summary(found) == "None of the 20 images has a duplicate (compared by their prepared pixels)."


def test_images_of_a_subset_alone_are_compared(planted):
    data = folder(planted, test_limit=2)
    rows = np.concatenate([split.indices for split in data.splits().values()])
    assert all(np.isin(group, rows).all() for group in data.copies)


def test_equal_sums_are_not_enough():
    images = np.zeros((4, 2, 2, 1), np.uint8)
    images[0, 0, 0] = images[1, 1, 1] = images[2, 0, 0] = 9  # the second has the others' sums and other pixels
    sums = np.stack([images.sum((1, 2), dtype=np.int64), np.square(images, dtype=np.int64).sum((1, 2))], axis=-1)
    assert [group.tolist() for group in find_copies(images, sums, np.array([3, 2, 1, 0]))] == [[0, 2]]
    assert find_copies(images, sums, np.array([1, 3])) == []


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_against_counting_every_image_in_a_dictionary(share):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (300, 4, 4, 3), dtype=np.uint8)
    again = generator.random(300) < share
    images[again] = images[generator.integers(0, 300, again.sum())]
    labels = np.arange(300) % 2
    data = image_data("own", ["a", "b"], (images[:200], labels[:200]), (images[200:], labels[200:]))
    seen: dict[bytes, list[int]] = {}
    for row, image in enumerate(images):
        seen.setdefault(image.tobytes(), []).append(row)
    assert [group.tolist() for group in data.copies] == [rows for rows in seen.values() if len(rows) > 1]
    train = {images[row].tobytes() for row in data.train.indices}
    assert leaked(data) == sum(image.tobytes() in train for image in images[200:])


@pytest.mark.integration
def test_a_leak_is_recorded_logged_and_reported(tmp_path, train, only):
    root = tree(tmp_path / "tree", count=12)
    for name in ("0", "1"):
        shutil.copy(root / f"train/cat/{name}.png", root / f"test/cat/leak{name}.png")
    assert train("data=folder", f"data.root={root}", "data.size=8", "data.val_fraction=0", "epochs=1ep") == 0
    record = only()
    assert record.info["data"]["test_in_train"] == 2
    sentence = "2 of 26 test images are training images too, pixel for pixel"
    assert sentence in (record.folder / "train.log").read_text()
    from cnnexp.report.read.collect import collect

    assert f"folder: {sentence}." in collect(record.folder.parent, [record]).notes


@pytest.mark.integration
def test_copies_in_training_and_validation_are_counted_recorded_and_reported(tmp_path, train, only):
    root = tree(tmp_path / "tree", parts=("train", "val", "test"), count=12)  # copies stay where the folders put them
    for name in ("0", "1", "2"):
        shutil.copy(root / f"train/cat/{name}.png", root / f"val/cat/copy{name}.png")
    assert leaked(folder(root), "val") == 3
    assert train("data=folder", f"data.root={root}", "data.size=8", "epochs=1ep") == 0
    record = only()
    assert record.info["data"]["val_in_train"] == 3 and record.info["data"]["test_in_train"] == 0
    sentence = f"3 of {record.info['data']['val']} validation images are training images too, pixel for pixel"
    assert sentence in (record.folder / "train.log").read_text()
    from cnnexp.report.read.collect import collect

    assert f"folder: {sentence}." in collect(record.folder.parent, [record]).notes


def test_gray_pictures_are_compared_too(tmp_path):
    root = tree(tmp_path / "tree", mode="L")
    picture(0, mode="L").save(root / "test/cat/same.png")
    assert leaked(folder(root, val_fraction=0)) == 1


def test_images_of_two_data_sets_are_compared_by_their_pixels():
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3), np.uint8)
    labels = np.arange(30) % 2
    one, other = (
        image_data("own", ["a", "b"], (images[train], labels[train]), (images[test], labels[test]), val_fraction=0)
        for train, test in ((np.arange(10), np.arange(10, 20)), (np.arange(20, 30), np.arange(19, 4, -1)))
    )
    assert equal_to_any(other.test, one.train).tolist() == [False] * 10 + [True] * 5
    assert not equal_to_any(other.train, one.train).any()
