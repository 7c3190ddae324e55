"""Counts of images and pixel values, against plain counting."""

import numpy as np
import pytest
from image_folders import array_data

from cnnexp.explore import counts, duplicates, facts


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_counted_exactly(channels):
    data = array_data(["a", "b"], [200, 100], channels=channels)
    pixels = data.train.images[data.train.indices].reshape(-1, channels)
    found = counts.pixel_counts(data.train)
    for k in range(channels):
        assert np.array_equal(found[k], np.bincount(pixels[:, k], minlength=256))
    for k, channel in enumerate(counts.channels(found, data.mean, data.std)):
        np.testing.assert_allclose([channel.mean, channel.std], [pixels[:, k].mean(), pixels[:, k].std()], rtol=1e-12)
        np.testing.assert_allclose([channel.mean / 255, channel.std / 255], [data.mean[k], data.std[k]], rtol=1e-12)


def test_balance_in_words():
    names = ["cat", "dog", "owl"]
    sizes_of_classes = ([9, 3, 6], [9, 1, 6], [2, 2, 2], [1, 1, 1], [4, 0, 0], [4, 2, 0])
    assert [counts.balance(np.array(sizes), names) for sizes in sizes_of_classes] == [
        "the largest class, cat, has 9, the smallest, dog, 3 images (largest / smallest: 3.00)",
        "the largest class, cat, has 9, the smallest, dog, 1 image (largest / smallest: 9.00)",
        "every class has 2 images (largest / smallest: 1)",
        "every class has 1 image (largest / smallest: 1)",
        "the largest class, cat, has 4; dog and 1 other class have none",
        "the largest class, cat, has 4; owl has none",
    ]
    (warning,) = facts.warnings(facts.gather(array_data(names, [9, 3, 6]), None))[:1]
    assert warning.startswith("Imbalance: the largest class has 3.0")
    assert warning.endswith("; see loss.class_weights=balanced and monitor=balanced_accuracy."), "what to do"


@pytest.mark.parametrize(
    ("count", "size", "share"),
    [(20, 20, "100"), (999, 1000, "99.9"), (1, 3, "33.33"), (1, 2000, "0.05"), (1, 10, "10"), (0, 9, "0")],
)
def test_shares_are_written_without_an_exponent(count, size, share):
    assert duplicates.share_of(count, size) == share


def test_a_share_of_some_is_neither_none_nor_all():
    for size in (19_999, 20_000, 20_001, 25_000, 10**6):
        assert duplicates.share_of(1, size) in ("0.01", "under 0.01")
        assert duplicates.share_of(size - 1, size) in ("99.99", "over 99.99")
    assert duplicates.share_of(1, 25_000) == "under 0.01" and duplicates.share_of(24_999, 25_000) == "over 99.99"
