"""Validation and subsets: stratified, disjoint, nested, and a function of their seed alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_folders import build as shipped
from image_folders import folder, tree
from image_folders import settings as node
from public_sets import DRAWN

from cnnexp.config import checks
from cnnexp.config import compose as configs
from cnnexp.data import splits
from cnnexp.data.torch_dataset import from_datasets
from cnnexp.errors import UserError
from cnnexp.training import build

counts_strategy = st.lists(st.integers(2, 400), min_size=2, max_size=12).map(lambda c: np.array(c, np.int64))


@given(counts_strategy, st.data())
@settings(max_examples=100, deadline=None)
def test_apportioned_shares_add_up_within_one_of_the_quota(counts, data):
    total = data.draw(st.integers(0, int(counts.sum())))
    share = splits.apportion(counts, total, least=0)
    assert share.sum() == total and (share >= 0).all() and (share <= counts).all()
    assert np.abs(share - counts * total / counts.sum()).max() <= 1


@given(counts_strategy, st.floats(0.05, 0.9), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_validation_is_a_stratified_part(counts, fraction, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    total = int(np.floor(fraction * len(labels) + 0.5))
    if total == 0 or total > len(labels) - len(counts):
        with pytest.raises(UserError, match=r"data.val_fraction: "):
            splits.validation(labels, fraction, len(counts), seed)
        return
    chosen = splits.validation(labels, fraction, len(counts), seed)
    assert chosen.sum() == total
    found = np.bincount(labels[chosen], minlength=len(counts))
    assert (found < counts).all()
    if (counts * (1 - fraction) >= 2).all():
        assert np.abs(found - counts * total / len(labels)).max() <= 1


def test_splits_depend_on_their_seed_and_larger_ones_contain_smaller_ones():
    labels = np.arange(1000) % 10
    small, same, large = (splits.validation(labels, f, 10, 0) for f in (0.1, 0.1, 0.3))
    other = splits.validation(labels, 0.1, 10, 1)
    assert np.array_equal(small, same) and (large | ~small).all()
    assert 0 < (small & other).sum() < 30  # 10 expected of two independent draws of 100 out of 1000
    assert np.flatnonzero(small)[:6].tolist() == [42, 59, 64, 72, 99, 110]  # for good: runs depend on it


def test_limits_are_stratified_nested_and_keep_every_class():
    labels = np.repeat([0, 1, 2], [900, 90, 10])
    few, more = (splits.limit(labels, n, 3, 0, "train_limit") for n in (20, 100))
    assert np.bincount(labels[few]).tolist() == [18, 1, 1] and np.bincount(labels[more]).tolist() == [90, 9, 1]
    assert (more | ~few).all()
    for everything in (None, 1000, 5000):
        assert splits.limit(labels, everything, 3, 0, "train_limit").all()
    with pytest.raises(UserError, match=r"data.train_limit: given 2; allowed: at least 3"):
        splits.limit(labels, 2, 3, 0, "train_limit")


@pytest.mark.integration
def test_each_split_has_its_limit(tmp_path):
    words = ["data.num_train=200", "data.num_test=40", "data.size=8", "data.val_fraction=0.1", f"data.cache={tmp_path}"]

    def built(*more):
        return build.build_data(configs.resolve(configs.compose([*words, *more])))

    whole, few = built(), built("data.val_limit=10")
    assert [len(whole.train), len(whole.val), len(whole.test)] == [180, 20, 40]
    assert [len(few.train), len(few.val), len(few.test)] == [180, 10, 40]
    assert set(few.val.ids) < set(whole.val.ids) and sorted(few.val.labels) == list(range(10))
    assert len(built("data.val_limit=10", "data.val_fraction=0").val) == 0


def test_statistics_are_exact_and_a_constant_channel_is_reported(caplog):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 7, 5, 3))
    pixels[..., 2] = 9
    flat = pixels.reshape(30, 35, 3)
    mean, std = splits.statistics(np.stack([flat.sum(1), (flat**2).sum(1)], -1), 35)
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 1, 2)) / 255, rtol=1e-14)
    np.testing.assert_allclose(std[:2], pixels.std(axis=(0, 1, 2))[:2] / 255, rtol=1e-14)
    assert std[2] == 1 and "a channel has the same value everywhere" in caplog.text


@given(counts_strategy, st.integers(2, 12))
@settings(max_examples=50, deadline=None)
def test_folds_are_stratified_and_every_image_is_in_one(counts, folds):
    labels = np.repeat(np.arange(len(counts)), counts)
    if folds > len(labels):
        return
    masks = np.stack([splits.in_fold(labels, folds, fold, 0) for fold in range(folds)])
    assert (masks.sum(0) == 1).all() and np.ptp(masks.sum(1)) <= 1
    for label, count in enumerate(counts):
        sizes = masks[:, labels == label].sum(1)
        assert np.ptp(sizes) <= 1 and sizes.max() < count
    assert not np.array_equal(masks, [splits.in_fold(labels, folds, fold, 1) for fold in range(folds)])


@pytest.mark.integration
def test_folds_of_drawn_images():
    drawn = ["data.num_train=100", "data.num_test=20", "data.size=8", "data.folds=4"]
    ids = []
    for fold in range(4):
        node = configs.resolve(configs.compose([*drawn, f"data.fold={fold}"]))
        data = build.build_data(node)
        assert (len(data.train), len(data.val), len(data.test)) == (75, 25, 20)
        ids += data.val.ids.tolist()
    assert len(set(ids)) == 100


def test_the_folds_of_a_torch_dataset_are_of_the_same_images():
    class Items:
        changed = 0

        def __len__(self):
            return 12

        def __getitem__(self, i):
            return np.full((4, 4), i + self.changed, np.uint8), i % 2

    data = [from_datasets("own", Items(), folds=3, fold=fold) for fold in range(3)]
    assert sorted(int(image.max()) for d in data for image in d.test.images[d.test.indices]) == list(range(12))
    assert len({d.fingerprint for d in data}) == 1
    Items.changed = 1
    assert from_datasets("own", Items(), folds=3, fold=0).fingerprint != data[0].fingerprint


@pytest.mark.parametrize(
    ("given_ones", "message"),
    [
        (["data.folds=5"], r"data.fold: given null with data.folds=5; allowed: 0 to 4 \(all: data.fold=0,1,2,3,4\)"),
        (["data.fold=1"], r"data.folds: given null with data.fold=1; allowed: a number of folds"),
        (["data.folds=5", "data.fold=5"], r"data.fold: given 5; allowed with data.folds=5: 0 to 4"),
        (["data.folds=1", "data.fold=0"], r"data.folds: given 1; allowed: "),
    ],
)
def test_wrong_folds_are_one_line(given_ones, message):
    with pytest.raises(UserError, match=message):
        checks.check(configs.resolve(configs.compose(given_ones)))


def test_a_class_of_one_image_has_no_folds():
    allowed = "at most as many folds as images, and every class needs two images"
    with pytest.raises(UserError, match=rf"data.folds: given 2; allowed: {allowed} \(4 images, 1 of the smallest"):
        splits.in_fold(np.array([0, 0, 0, 1]), 2, 0, 0)


def test_fractions_without_effect_are_noted_only_if_they_are_not_the_defaults(tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("CNNEXP_CACHE", str(tmp_path / "cache"))
    own = tree(tmp_path / "own", parts=("train", "val", "test"))
    drawn = tree(tmp_path / "drawn", count=10)
    val = "data.val_fraction=0.3 has no effect: the data set has its own validation images"
    test = "data.test_fraction=0.25 has no effect: the data set has its own test images"
    assert folder(own, val_fraction=0.1).notes == [] == folder(drawn, val_fraction=0.3).notes
    assert folder(own, val_fraction=0.3, folds=2, fold=0).notes == []  # the fold is the validation split
    assert not [text for text in caplog.messages if "no effect" in text]
    assert folder(own, val_fraction=0.3, test_fraction=0.25).notes == [test, val]
    assert [text for text in caplog.messages if "no effect" in text] == [f"data: {test}", f"data: {val}"]
    assert folder(drawn, val_fraction=0.3, test_fraction=0.25).notes == [test]


def test_a_public_set_with_validation_images_notes_a_fraction_without_effect(tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("CNNEXP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("torchvision.datasets.flowers102.check_integrity", lambda path, md5=None: True)
    for name in ("Flowers102", "MNIST"):
        DRAWN[name](tmp_path)
    flowers, digits = ({"name": name, "root": str(tmp_path), "size": 8} for name in ("Flowers102", "MNIST"))
    assert shipped("torchvision", **flowers).notes == [] == shipped("torchvision", **digits, val_fraction=0.3).notes
    note = "data.val_fraction=0.3 has no effect: the data set has its own validation images"
    assert shipped("torchvision", **flowers, val_fraction=0.3).notes == [note] and f"data: {note}" in caplog.messages


@pytest.mark.parametrize("name", ["folder", "csv"])
def test_the_defaults_are_those_of_the_configs(name):
    assert {key: node(name)[key] for key in splits.DEFAULTS} == splits.DEFAULTS
