"""Which folders are splits and classes: every name that people use, and a line for what is not read."""

import re
import shutil
import unicodedata

import pytest
from image_folders import folder, picture, tree

from cnnexp.data.folders import find_tree
from cnnexp.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNEXP_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val", "dev", "VALID"])
def test_every_name_of_the_validation_split_is_read(tmp_path, name):
    data = folder(tree(tmp_path / "tree", parts=("train", name, "test")), val_fraction=0.1)
    assert [len(split) for split in data.splits().values()] == [10, 10, 10]
    assert all(image.startswith(f"{name}/") for image in data.val.ids) and data.notes == []


@pytest.mark.parametrize(
    "names",
    [
        ("training_set", "test_set"),
        ("Training", "Testing"),
        ("TRAIN", "Test"),
        ("trainset", "testset"),
        ("train-images", "test images"),
        ("train_data", "validation_data"),
    ],
)
def test_folders_that_are_named_like_splits_are_never_classes(tmp_path, names):
    data = folder(tree(tmp_path / "tree", parts=names))
    assert data.classes == ["cat", "dog"] and len(data.test) == 10
    assert [note for note in data.notes if not note.startswith("the test images are those of validation_data/")] == []
    assert all(image.startswith(f"{names[1]}/") for image in data.test.ids)


def test_a_class_may_be_called_train(tmp_path):
    root = tree(tmp_path / "tree", parts=(".",), classes=("car", "plane", "train"))
    data = folder(root)
    assert data.classes == ["car", "plane", "train"]
    assert data.notes == ["train/ is read as a class: it has no class folders"]
    shutil.rmtree(root / "car")
    with pytest.raises(UserError, match="has plane, train; it needs train/ and test/"):
        folder(root)


@pytest.mark.parametrize(
    "names",
    [
        ("seg_train", "seg_test", "seg_pred"),
        ("train2017", "val2017", "annotations"),
        ("x_train", "x_test"),
        ("XTrain", "XTest"),
        ("train 1", "test 1"),
        ("trn", "tst"),
        ("images-train", "images-eval"),
    ],
)
def test_folders_with_words_of_splits_are_refused_as_classes(tmp_path, names):
    root = tree(tmp_path / "tree", parts=(".",), classes=names)
    held = ", ".join(sorted(names[:2]))
    with pytest.raises(UserError, match=rf"has {held}, which are named like splits.*rename them train/.*data=csv"):
        find_tree(root)


def test_nested_splits_among_other_folders_are_refused_as_classes(tmp_path):
    others = ("a", "b", "c")
    root = tree(tmp_path / "tree", parts=(".",), classes=others)
    for name in ("seg_train", "seg_test"):
        (root / name / name).mkdir(parents=True)
    with pytest.raises(UserError, match="has seg_test, seg_train, which are named like splits"):
        find_tree(root)


@pytest.mark.parametrize(
    "names", [("bus", "train_station", "freight train"), ("bullet_train", "test_tube", "a", "b", "c"), ("a", "contest")]
)
def test_words_of_splits_may_be_in_the_names_of_classes(tmp_path, names):
    assert find_tree(tree(tmp_path / "tree", parts=(".",), classes=names)).classes == sorted(names)


def test_flat_folders_with_equal_folders_inside_are_named(tmp_path):
    root = tree(tmp_path / "tree", parts=("fold1", "fold2"))
    assert folder(root).notes == [
        f"each folder in {root} holds the folders cat, dog: fold1, fold2 are read as the classes"
    ]
    inside = tree(tmp_path / "inside", parts=("cat", "dog"), classes=("train", "test"))
    with pytest.raises(UserError, match=r"each folder in .* holds the folders test, train; splits come first: "):
        folder(inside)


def test_what_lies_beside_the_splits_is_named(tmp_path, caplog):
    root = tree(tmp_path / "tree", parts=("train", "test", "extra"))
    picture(1).save(root / "loose.png")
    picture(2).save(root / "train/also.JPG")
    for thumbnails in ("train/@eaDir", "train/cat/@eaDir", "__MACOSX", ".hidden"):
        (root / thumbnails).mkdir()
        picture(3).save(root / thumbnails / "thumb.png")
    (root / "train/cat/Thumbs.db").write_bytes(b"x")
    data = folder(root)
    assert data.classes == ["cat", "dog"] and sum(map(len, data.splits().values())) == 20
    assert data.notes == [
        f"in {root}, extra/ is not read; train/, test/ are",
        f"not read, because in no class folder: 1 image directly in {root}",
        f"not read, because in no class folder: 1 image directly in {root / 'train'}",
    ]
    assert [record.message for record in caplog.records] == [f"data: {note}" for note in data.notes]


def test_two_folders_of_one_split_are_refused(tmp_path):
    root = tree(tmp_path / "tree", parts=("train", "val", "valid", "test"))
    with pytest.raises(UserError, match="val/ and valid/ both name the val split; keep one"):
        folder(root)


@pytest.mark.parametrize("parts", [("train/images", "test/images"), ("images",)])
def test_a_wrapper_folder_is_no_class(tmp_path, parts):
    root = tree(tmp_path / "tree", parts=parts)
    fix = "move them up, into" if len(parts) == 2 else "data.path=images reads that folder"
    with pytest.raises(UserError, match=rf"images/ holds (the folders )?cat, dog.*{fix}"):
        folder(root)
    if len(parts) == 1:
        assert folder(root, path="images").classes == ["cat", "dog"]


def test_one_class_is_refused_in_every_source(tmp_path):
    from image_folders import array_data

    with pytest.raises(UserError, match=r"train: has one class, 'cat'; at least two are needed$"):
        folder(tree(tmp_path / "tree", classes=("cat",)))
    with pytest.raises(UserError, match="made has 1 class; at least two are needed"):
        array_data(["only"], [6])


def test_a_class_may_be_absent_from_test_and_val_and_is_named(tmp_path):
    root = tree(tmp_path / "tree", parts=("train", "val", "test"), classes=("ant", "bee", "cow"))
    shutil.rmtree(root / "test/bee")
    for image in (root / "val/cow").iterdir():
        image.unlink()
    data = folder(root, val_fraction=0.1)
    assert data.classes == ["ant", "bee", "cow"] and set(data.test.labels) == {0, 2} and set(data.val.labels) == {0, 1}
    assert data.notes == [
        "no image in val/ of cow: the network is trained on these, not tested",
        "no image in test/ of bee: the network is trained on these, not tested",
    ]
    assert len(folder(root, test_limit=2).test) == 2
    shutil.rmtree(root / "train/ant")
    with pytest.raises(UserError, match=r"train: class 'ant' is missing; it is in .*val"):
        folder(root)


def test_a_class_whose_few_images_are_all_trained_on_is_named(tmp_path):
    root = tree(tmp_path / "flat", parts=(".",), classes=("ant", "bee"), count=20)
    for image in sorted((root / "bee").iterdir())[1:]:
        image.unlink()
    data = folder(root)
    assert set(data.test.labels) == {0}
    assert "no image in the test split of bee: the network is trained on these, not tested" in data.notes


def test_names_are_compared_as_people_read_them(tmp_path):
    composed, separate = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    root = tree(tmp_path / "tree", classes=("a", composed))
    (root / "test" / composed).rename(root / "test" / separate)
    found = folder(root)
    assert found.classes == ["a", composed] and len(found.test) == 10
    same = tree(tmp_path / "other", classes=("a", separate))
    assert folder(same).fingerprint == found.fingerprint
    (root / "train" / separate).mkdir()
    with pytest.raises(UserError, match="is there twice: two folders look alike"):
        find_tree(root)


def test_a_root_that_is_the_tree_itself_is_told_its_parent(tmp_path):
    (tmp_path / "pets" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match=re.escape(f"has no folder pets; type data.root={tmp_path}")):
        folder(tmp_path / "pets", path="pets")
    with pytest.raises(UserError, match=r"has no folder dogs; type data.root=DIR, the folder that holds it"):
        folder(tmp_path / "pets", path="dogs")
