"""Splits by group: no group is in two splits, classes have their share, and folds test each image once."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from image_folders import build, picture, settings

from cnnexp.data import groups
from cnnexp.data.cut import LEFT_OUT, TEST, TRAIN, VAL, Cut, assign
from cnnexp.errors import UserError
from cnnexp.training.build import forget_data, make


def cut(labels, of, test=0.2, val=0.1, seed=0, limits=(None, None, None), folds=None, fold=None):
    names = [f"{label}/{i}.png" for i, label in enumerate(labels)]
    parts = np.zeros(len(names), np.uint8)
    return assign(names, np.asarray(labels), parts, Cut(test, val, seed, *limits, folds, fold), 1 + max(labels), of)


def splits_of(found, of):
    """Return {group: the splits of its images}, without those that a limit leaves out."""
    return {name: {int(p) for p, g in zip(found, of, strict=True) if g == name and p != LEFT_OUT} for name in set(of)}


@pytest.mark.integration
@examples(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 11)), min_size=40, max_size=120),
    st.integers(0, 50),
    st.floats(0.05, 0.5),
    st.floats(0, 0.4),
)
def test_no_group_is_in_two_splits_and_each_class_is_trained_on(images, seed, test, val):
    labels, of = [0, 1, 2, *(label for label, _ in images)], ["x", "x", "x", *(f"plot{g}" for _, g in images)]
    try:
        found = cut(labels, of, test, val, seed)
    except UserError as error:
        assert "leaves none" in str(error)
        return
    assert all(len(where) == 1 for where in splits_of(found, of).values())
    assert {label for label, part in zip(labels, found, strict=True) if part == TRAIN} == {0, 1, 2}


@pytest.mark.integration
@examples(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=60, max_size=120), st.integers(0, 50), st.integers(2, 5))
def test_folds_test_each_image_once_and_no_group_twice(of_group, seed, folds):
    of = [f"plot{g}" for g in of_group]
    labels = [i % 2 for i in range(len(of))]
    tested = np.zeros(len(of), int)
    if len(set(of)) < folds or any(len(set(of[label::2])) < 2 for label in (0, 1)):
        return
    for fold in range(folds):
        found = cut(labels, of, seed=seed, val=0, folds=folds, fold=fold)
        assert (found == TEST).any() and all(len(where) == 1 for where in splits_of(found, of).values())
        tested += found == TEST
    assert (tested == 1).all()


@pytest.mark.parametrize("nested", [True, False])
def test_the_shares_are_those_of_the_fractions_as_nearly_as_groups_allow(nested):
    """20 plots of 10 images; of two classes each, or of one."""
    of = [f"plot{i // 10}" for i in range(200)]
    labels = [(i // 10 if nested else i) % 2 for i in range(200)]
    for seed in range(30):
        found = cut(labels, of, 0.2, 0.25, seed)
        counts = [[int(((found == part) & (np.array(labels) == k)).sum()) for k in (0, 1)] for part in (VAL, TEST)]
        assert counts == [[20, 20], [20, 20]]
    draws = {tuple(cut(labels, of, 0.2, 0.25, seed)) for seed in range(30)}
    assert len(draws) == 30


def test_folds_are_as_large_as_groups_allow():
    of = [f"plot{i // 10}" for i in range(200)]
    sizes = [int((cut([i % 2 for i in range(200)], of, folds=5, fold=f, val=0) == TEST).sum()) for f in range(5)]
    assert sizes == [40] * 5


def test_a_limit_takes_images_of_all_groups():
    of = [f"plot{i // 10}" for i in range(200)]
    found = cut([i % 2 for i in range(200)], of, limits=(60, None, None))
    assert (found == TRAIN).sum() == 60 and len({g for g, p in zip(of, found, strict=True) if p == TRAIN}) > 10


def test_the_order_of_files_changes_nothing():
    of = [f"plot{i // 7}" for i in range(90)]
    labels = np.arange(90) % 3
    names = [f"{label}/{i}.png" for i, label in enumerate(labels)]
    order = np.random.default_rng(0).permutation(90)
    rules, parts = Cut(0.2, 0.1, 0, None, None, None), np.zeros(90, np.uint8)
    one = assign(names, labels, parts, rules, 3, of)
    other = assign([names[i] for i in order], labels[order], parts, rules, 3, [of[i] for i in order])
    assert (one[order] == other).all()


def test_a_class_of_one_group_is_not_tested_and_one_group_alone_is_refused():
    found = cut([0] * 10 + [1] * 30, ["a"] * 10 + [f"b{i // 10}" for i in range(30)], 0.3, 0)
    assert {label for label, part in zip([0] * 10 + [1] * 30, found, strict=True) if part == TEST} == {1}
    with pytest.raises(UserError, match=r"0.2 of 2 groups leaves none; a class needs images of two"):
        cut([0] * 10 + [1] * 10, ["a"] * 10 + ["b"] * 10)
    with pytest.raises(UserError, match=r"data.folds: given 3; allowed: at most 2, one for each group"):
        cut([0, 1] * 10, ["a", "b"] * 10, folds=3, fold=0)


@pytest.mark.parametrize("own_test", [False, True])
def test_the_only_group_of_a_class_is_trained_on_in_every_fold(own_test):
    labels = np.array([0] * 10 + [1] * 30 + [2] * 30)
    of = ["a"] * 10 + [f"plot{i // 10}" for i in range(60)]
    rules = Cut(0.0 if own_test else 0.2, 0.0, 0, None, None, None, 3, 0)
    names, parts = [f"{label}/{i}.png" for i, label in enumerate(labels)], np.zeros(70, np.uint8)
    held_out = np.zeros(70, int)
    for fold in range(3):
        found = assign(names, labels, parts, replace(rules, fold=fold), 3, of)
        assert set(labels[found == TRAIN]) == {0, 1, 2}
        held_out += found == (VAL if own_test else TEST)
    assert (held_out == (labels > 0)).all()
    with pytest.raises(UserError, match=r"given 7; allowed: at most 6, one for each group that is not the only one"):
        assign(names, labels, parts, replace(rules, folds=7, fold=0), 3, of)


def test_a_fold_never_has_all_images_of_a_class_where_groups_allow():
    """Plot a fits best beside plot b, by the numbers of images; then that fold would have all of class 0."""
    labels, of = [0] + [1] * 2 + [0] * 9 + [1] + [1] * 5, ["a"] * 3 + ["b"] * 10 + ["c"] * 5
    for fold in (0, 1):
        found = cut(labels, of, val=0, folds=2, fold=fold)
        assert {labels[i] for i in np.flatnonzero(found == TRAIN)} == {0, 1}


@pytest.mark.parametrize(
    ("pattern", "name", "group"),
    [
        ("folder", "oak/plot3/1.jpg", "plot3"),
        ("folder", "oak/plot3/june/1.jpg", "plot3"),
        (r"plot\d+", "oak/june/plot31_2.jpg", "plot31"),
        (r"^([a-z]+)_", "oak/fritz_2.jpg", "fritz"),
    ],
)
def test_a_group_is_a_folder_or_a_part_of_the_path(pattern, name, group):
    assert groups.group_of(pattern, name) == group


@pytest.mark.parametrize(
    ("pattern", "name", "message"),
    [
        ("folder", "oak/1.jpg", "data.group: folder: oak/1.jpg is in no folder below its class"),
        ("plot", "plots/1.jpg", r"data.group: 'plot' matches no part of 1.jpg \(class plots\)"),
        ("(x)?1", "oak/1.jpg", "matches no part of 1.jpg"),
    ],
)
def test_an_image_without_group_is_named(pattern, name, message):
    with pytest.raises(UserError, match=message):
        groups.group_of(pattern, name)


def test_a_wrong_pattern_is_refused_before_images_are_read():
    with pytest.raises(UserError, match=r"data.group: given 'plot\('; allowed: folder, or a regular expression"):
        build("folder", root="missing", group="plot(")


def test_joined_sets_hold_the_complete_groups_of_copies():
    of = np.array([0, 0, 1, 1, 2, 3, 3])
    sets = groups.joined([np.array([0, 2]), np.array([3, 4])], of)
    assert [part.tolist() for part in sets] == [[0, 1, 2, 3, 4]]


@pytest.fixture
def photos(tmp_path):
    """Six plots of eight photographs in two classes: oak/plot0/0.png."""
    for i in range(96):
        place = tmp_path / "photos" / ("oak", "ash")[i % 2] / f"plot{i // 16}"
        place.mkdir(parents=True, exist_ok=True)
        picture(i, size=(12, 12)).save(place / f"{i}.png")
    return tmp_path / "photos"


def load(name="folder", **changes):
    forget_data()
    return make("data", settings(name, **({"size": 8, "val_fraction": 0.2} | changes)))


def plots(split):
    return {name.split("/")[1] for name in split.ids}


@pytest.mark.integration
def test_folders_below_a_class_stay_in_one_split(photos):
    data = load(root=str(photos), group="folder")
    found = [plots(split) for split in data.splits().values()]
    assert sum(map(len, found)) == 6 == len(set().union(*found)) and all(found)
    train, val, test = map(len, found)
    assert f"6 groups of images: {train} for training, {val} for validation, {test} for the test" in data.notes
    assert load(root=str(photos)).drawn != data.drawn
    assert load(root=str(photos), group=r"plot\d").drawn == data.drawn


def test_folds_of_groups_have_their_own_facts(photos):
    drawn = [load(root=str(photos), group="folder", folds=3, fold=fold).drawn for fold in range(3)]
    assert drawn[0] == drawn[1] == drawn[2] != load(root=str(photos), folds=3, fold=0).drawn


def test_a_copy_takes_its_group_along(photos):
    plain = load(root=str(photos), group="folder")
    tested, trained = min(plots(plain.test)), min(plots(plain.train))
    first = next((photos / "oak" / tested).iterdir())
    (photos / "oak" / trained / "copy_with_a_long_name.png").write_bytes(first.read_bytes())
    data = load(root=str(photos), group="folder")
    found = [plots(split) for split in data.splits().values()]
    assert sum(map(len, found)) == 6 and any({tested, trained} <= names for names in found)
    assert any("moved to another split, where an equal image is" in note for note in data.notes)


def test_groups_in_two_given_splits_are_named(photos, tmp_path):
    for part in ("train", "test"):
        (tmp_path / "own" / part).mkdir(parents=True)
    for name in ("oak", "ash"):
        (photos / name).rename(tmp_path / "own" / "train" / name)
        (tmp_path / "own" / "test" / name / "plot2").mkdir(parents=True)
        picture(200 + len(name)).save(tmp_path / "own" / "test" / name / "plot2" / f"{name}.png")
        picture(300 + ord(name[0])).save(tmp_path / "own" / "test" / name / "plot2" / f"{name}2.png")
    data = load(root=str(tmp_path / "own"), group="folder")
    assert "group plot2 is in more than one split; keep all images of a group in one" in data.notes


@pytest.mark.integration
def test_a_column_of_a_table_names_the_groups(photos):
    rows = [f"{p.relative_to(photos).as_posix()},{p.parts[-3]},{p.parts[-2]}" for p in sorted(photos.rglob("*.png"))]
    (photos / "labels.csv").write_text("file,Species,plot\n" + "\n".join(rows) + "\n")
    columns = {"path": "file", "label": "species", "split": "split", "group": "plot"}
    data = load("csv", file=str(photos / "labels.csv"), columns=columns)
    found = [plots(split) for split in data.splits().values()]
    assert data.classes == ["ash", "oak"] and sum(map(len, found)) == 6 and all(found)
    without = load("csv", file=str(photos / "labels.csv"), columns=columns | {"group": None})
    assert sum(len(plots(split)) for split in without.splits().values()) > 6


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"group": "plots"},
            r"the first line names no column 'plots'; there are path, label, plot.*did you mean 'plot'",
        ),
        ({"split": "subset"}, r"the first line names no column 'subset'.*data.columns.split=NAME names another one"),
        ({"label": "species"}, r"the first line names no column 'species'"),
    ],
)
def test_a_column_that_is_named_must_be_there(photos, columns, message):
    (photos / "labels.csv").write_text("path,label,plot\noak/plot0/0.png,oak,plot0\n")
    given_ = {"path": "path", "label": "label", "split": "split", "group": None} | columns
    with pytest.raises(UserError, match=message):
        load("csv", file=str(photos / "labels.csv"), columns=given_)


def test_a_row_without_group_and_a_null_label_are_refused(photos):
    (photos / "labels.csv").write_text("path,label,plot\noak/plot0/0.png,oak,plot0\nash/plot0/1.png,ash,\n")
    columns = {"path": "path", "label": "label", "split": "split", "group": "plot"}
    with pytest.raises(UserError, match=r"line 3: given group ''; every row needs one, as text"):
        load("csv", file=str(photos / "labels.csv"), columns=columns)
    with pytest.raises(UserError, match=r"data.columns.label: given null; allowed: text"):
        build("csv", columns=columns | {"label": None})
    with pytest.raises(UserError, match=r"data.columns.lable"):
        build("csv", columns=columns | {"lable": "x"})


def test_uneven_test_images_are_said_to_be_drawn_by_groups(tmp_path):
    """Two plots of a class, one of them large: its images cannot be divided."""
    for name, sizes in (("oak", (30, 2)), ("ash", (16, 16))):
        for plot, size in enumerate(sizes):
            place = tmp_path / name / f"{name}{plot}"
            place.mkdir(parents=True)
            for i in range(size):
                picture(1000 * len(name) * (name == "oak") + 100 * plot + i, size=(12, 12)).save(place / f"{i}.png")
    notes = load(root=str(tmp_path), group="folder", test_fraction=0.3, val_fraction=0).notes
    assert any("images are for the test: drawn in complete groups; data.split_seed=1" in note for note in notes)
    assert not any("moves another" in note for note in notes)
