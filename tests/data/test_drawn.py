"""The drawn data sets: frozen to the last bit, balanced, varied, and independent of what else is drawn."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from image_folders import build

from cnnexp.data import canvas, counter
from cnnexp.data.postcards import POSTCARDS, THINGS, draw_postcard
from cnnexp.data.textures import TEXTURES, draw_texture


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNEXP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "fingerprint"),
    [
        ("postcards", "84c7ebe0ebcd4d47d3f6479833d555b6"),
        ("textures", "8d8e665391bc6b270f360190f048780c"),
    ],
)
def test_content_is_frozen(name, fingerprint):
    data = build(name)
    assert data.fingerprint == fingerprint
    assert data.image == (3, 24, 24) if name == "postcards" else (3, 32, 32)
    assert len(data.classes) == 10 and data.skipped == []
    for split in data.splits().values():
        assert len(set(np.bincount(split.labels, minlength=10))) == 1
    flat = data.train.images.reshape(len(data.train.images), -1)
    assert len(np.unique(flat, axis=0)) == len(flat)
    assert build(name, split_seed=7, val_fraction=0.3).fingerprint == fingerprint


def test_counter_is_splitmix64():
    """The first outputs of the reference implementation (Vigna, splitmix64.c) for the seed 1234567."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    states = np.array([(1234567 + n * 0x9E3779B97F4A7C15) % 2**64 for n in range(1, 5)], np.uint64)
    assert counter.mix(states).tolist() == expected


def test_counter_is_uniform_and_its_bounds_are_reached():
    found = counter.between(-3, 3, 9, np.arange(70_000))
    counts = np.bincount(found + 3, minlength=7)
    assert len(counts) == 7 and np.abs(counts - 10_000).max() < 5 * math.sqrt(10_000)
    assert counter.bits(1, 2)[0] != counter.bits(2, 1)[0]


def test_sine_table_is_that_of_the_definition():
    degrees = np.arange(360)
    np.testing.assert_allclose(canvas.SINE / canvas.ONE, np.sin(np.radians(degrees)), atol=0.5 / canvas.ONE)
    halves = np.abs(np.abs(np.sin(np.radians(degrees)) * canvas.ONE) % 1 - 0.5)
    assert halves.min() > 1e-4  # so no platform's last bit can change an entry


@pytest.mark.parametrize(("classes", "draw"), [(POSTCARDS, draw_postcard), (TEXTURES, draw_texture)])
def test_an_image_depends_on_its_own_number_alone(classes, draw):
    for label in range(len(classes)):
        image = draw(label, (0, label), 32)
        assert image.shape == (32, 32, 3) and image.dtype == np.uint8 and image.std() > 3
        assert np.array_equal(image, draw(label, (0, label), 32))
        assert not np.array_equal(image, draw(label, (2, label), 32))
    large = draw(0, (0, 0), 64).reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.corrcoef(large.ravel(), draw(0, (0, 0), 32).ravel())[0, 1] > 0.9  # size changes pixels, not the picture


@pytest.mark.parametrize("label", range(10))
def test_every_postcard_shows_its_thing_and_not_the_other(label):
    x, y = canvas.grid(96)
    u, v = (np.broadcast_to(c, (96, 96)) for c in (x, y))
    outlines = [np.any([m for m, _ in THINGS[k](u, v, canvas.Draws(0, (0, 5)))], axis=0) for k in range(10)]
    assert 0.02 < outlines[label].mean() < 0.5
    assert (outlines[label] ^ outlines[label ^ 1]).mean() > 0.02  # the other thing of the same scenery


@pytest.mark.integration
def test_more_images_leave_the_first_ones_as_they_are():
    few, many = build("postcards", num_train=20, num_test=10), build("postcards", num_train=40, num_test=20)
    assert np.array_equal(few.train.images[:20], many.train.images[:20])
    assert np.array_equal(few.test.images[few.test.indices], many.test.images[many.test.indices[:10]])


@pytest.mark.integration
def test_drawing_is_the_same_in_another_process():
    code = "import sys; from cnnexp.data.postcards import draw_postcard as draw\n"
    code += "sys.stdout.buffer.write(draw(8, (0, 8), 32).tobytes())"
    environment = {**os.environ, "PYTHONHASHSEED": "5"}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)
    assert done.stdout == draw_postcard(8, (0, 8), 32).tobytes()
