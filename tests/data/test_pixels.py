"""Pixels of more than 8 bits: their range is given or seen, and dark images are named."""

import struct

import numpy as np
import pytest
from image_folders import folder, picture, tree, write_png
from PIL import Image

from cnnexp.data.decode import HEIF, decode, open_image, reduce
from cnnexp.data.pixels import fit
from cnnexp.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNEXP_CACHE", str(tmp_path / "cache"))


def write_tiff(path, values):
    """Write (H, W, 3) values as an uncompressed TIFF file of 16 bits a channel."""
    data = values.astype("<u2").tobytes()
    height, width, _ = values.shape
    fields = {256: width, 257: height, 258: 0, 259: 1, 262: 2, 273: 0, 277: 3, 278: height, 279: len(data)}
    end = 8 + 2 + 12 * len(fields) + 4
    entries = b""
    for tag, value in fields.items():
        count, value = (3, end) if tag == 258 else (1, end + 6 if tag == 273 else value)
        entries += struct.pack("<HHII", tag, 3 if tag == 258 else 4, count, value)
    head = b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + struct.pack("<I", 0)
    path.write_bytes(head + struct.pack("<HHH", 16, 16, 16) + data)
    return path


def twelve_bits(channels):
    shape = (8, 8, channels) if channels > 1 else (8, 8)
    values = np.random.default_rng(channels).integers(0, 4096, shape)
    return np.where(np.arange(channels) == 3, 4095, values) if channels == 4 else values


@pytest.mark.parametrize("kind", ["gray", "colour", "alpha", "tiff"])
def test_twelve_bits_are_read_exactly(tmp_path, kind):
    values = twelve_bits({"gray": 1, "colour": 3, "alpha": 4, "tiff": 3}[kind])
    file = (write_tiff if kind == "tiff" else write_png)(tmp_path / "deep", values)
    seen: list[int] = []
    found = decode(file, 8, "crop", 3, 12, seen.append)
    expected = (values >> 4)[..., :3] if values.ndim == 3 else (values >> 4)[..., None]
    assert (found == expected).all() and seen == [values[..., :3].max() if kind == "alpha" else values.max()]
    if kind != "alpha":
        assert decode(file, 8, "crop", 3).max() < 16
    with pytest.raises(UserError, match=r"data.bits=8 allows 255: its values are \d+ to \d{4}; data.bits=12 allows"):
        decode(file, 8, "crop", 3, 8)


@pytest.mark.parametrize("full", [4095, 65535])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_of_deep_images_is_blended_with_white(tmp_path, channels, full):
    values = np.full((8, 8, channels), 2048)
    values[..., -1] = full
    values[:4, :, -1] = 0
    seen: list[int] = []
    found = decode(write_png(tmp_path / "deep", values), 8, "crop", 1, 12, seen.append)[..., 0]
    assert (found[:4] == 255).all() and (found[4:] == 128).all() and seen == [2048], "alpha is no colour"


@pytest.mark.parametrize("channels", [1, 3])
def test_the_transparent_value_of_a_deep_image_is_white(tmp_path, channels):
    values = np.full((8, 8, channels), 256 * 100)
    values[:4] += 1  # the upper 8 bits are the same
    values = values[..., 0] if channels == 1 else values
    transparent = [256 * 100 + 1] * channels
    found = decode(write_png(tmp_path / "deep", values, transparent), 8, "crop", 1)[..., 0]
    assert (found[:4] == 255).all() and (found[4:] == 100).all()


@pytest.mark.parametrize("transparent", [0, 5, 15])
def test_the_transparent_value_of_four_bits_is_white(tmp_path, transparent):
    values = np.arange(64).reshape(8, 8) % 16
    found = decode(write_png(tmp_path / "line_art", values, [transparent], bits=4), 8, "crop", 1)[..., 0]
    assert (found == np.where(values == transparent, 255, 17 * values)).all()


@pytest.mark.parametrize("kind", ["LA", "I;16"])
def test_dark_gray_with_alpha_says_so(tmp_path, kind):
    root = tree(tmp_path / "tree")
    for file in root.rglob("*.png"):
        values = np.full((8, 8, 2), 900)
        values[..., 1] = 65535
        write_png(file, values if kind == "LA" else values[..., 0], None if kind == "LA" else [7])
    assert folder(root).notes[-1].startswith("20 images with 16 bits or more have no value above 900 of 65,535")


@pytest.mark.skipif(not HEIF, reason="pillow-heif is not installed")
def test_heic_is_read_where_pillow_heif_is_installed(tmp_path):
    root = tree(tmp_path / "tree")
    Image.new("RGB", (8, 8), (200, 40, 40)).save(root / "train/cat/phone.HEIC", format="HEIF", quality=100)
    data = folder(root)
    assert len(data.train) + len(data.val) == 11 and data.notes == []
    assert np.abs(decode(root / "train/cat/phone.HEIC", 8, "crop", 3).astype(int) - (200, 40, 40)).max() < 20
    (root / "train/cat/phone.HEIC").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"phone.HEIC: cannot be read as an image"):
        folder(root)


@pytest.mark.parametrize(("bits", "mode"), [(8, "I;16"), (12, "I;16"), (8, "I"), (12, "I")])
def test_a_tree_that_comes_out_dark_says_so_and_how_to_read_it(tmp_path, bits, mode):
    root = tree(tmp_path / "tree")
    for i, file in enumerate(root.rglob("*.png")):
        file.unlink()
        values = np.random.default_rng(i).integers(0, 1 << bits, (8, 8))
        values[0, 0] = (1 << bits) - 1
        Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.int32)).save(file.with_suffix(".tif"))
    for _ in range(2):  # decoded, then from the cache
        *_, note = folder(root).notes  # equal images of two classes are noted too
        assert note.startswith(f"20 images with 16 bits or more have no value above {(1 << bits) - 1:,} of 65,535")
        assert f"(the smallest possible is {bits})" in note
    data = folder(root, bits=bits)
    assert data.notes == [] and data.image == (1, 8, 8) and data.train.images.max() == 255


def test_negative_values_are_named(tmp_path):
    Image.fromarray(np.full((8, 8), -5, np.int32)).save(tmp_path / "ct.tif")
    with pytest.raises(UserError, match=r"its values are -5 to -5; add what makes them positive"):
        decode(tmp_path / "ct.tif", 8, "crop", 1)


def test_full_ranges_and_eight_bits_say_nothing(tmp_path):
    root = tree(tmp_path / "tree")
    write_png(root / "train/cat/deep.png", np.full((8, 8, 3), 65535))
    assert folder(root).notes == []


def test_a_turned_deep_image_is_turned_back(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (8, 8), dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).save(tmp_path / "deep.png", exif=exif)
    assert (decode(tmp_path / "deep.png", 8, "crop", 1)[..., 0] == np.rot90(values >> 8, -1)).all()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_tiff_is_turned_back(tmp_path, orientation, kind, compression):
    """Pillow itself mixes the rows of uncompressed gray ones whose sides are swapped."""
    values = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (6, 9), dtype=kind)
    right = values if orientation < 5 else values.T
    down = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}[orientation]
    expected = right[:: down[0], :: down[1]] >> (8 if kind is np.uint16 else 0)
    Image.fromarray(values).save(tmp_path / "x.tif", tiffinfo={274: orientation}, compression=compression)
    assert (decode(tmp_path / "x.tif", expected.shape, "squash", 1)[..., 0] == expected).all()


@pytest.mark.parametrize("bits", [None, 12])
def test_a_deep_tiff_in_which_0_is_white_is_as_it_is_seen(tmp_path, bits):
    values = np.random.default_rng(0).integers(0, 1 << (bits or 16), (8, 8)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "xray.tif", tiffinfo={262: 0})  # Pillow writes the values as they are
    expected = (1 << (bits or 16)) - 1 - values >> (bits or 16) - 8
    assert (decode(tmp_path / "xray.tif", 8, "crop", 1, bits)[..., 0] == expected).all()


def test_files_are_read_by_their_content_and_the_others_counted_by_kind(tmp_path, caplog):
    root = tree(tmp_path / "tree")
    names = {"a.jfif": "JPEG", "b": "PNG", "c.jpe": "JPEG", "d.avif": "AVIF", "e.xyz": "WEBP", "f.jp2": "JPEG2000"}
    for i, (name, kind) in enumerate(names.items()):
        picture(900 + i).save(root / "train/cat" / name, format=kind)
    if HEIF:
        pytest.skip("pillow-heif is installed: HEIC is read")
    for name in ("1.heic", "2.HEIC", "note.txt", "none", "shot.NEF"):
        (root / "test/dog" / name).write_bytes(b"not an image")
    data = folder(root)
    assert len(data.train) + len(data.val) == 16 and len(data.test) == 10
    assert data.notes == [
        "5 files left out: 2 .heic: install pillow-heif, 1 .nef: convert these camera files to JPEG, 1 .txt, "
        "1 without suffix"
    ]
    assert f"data: {data.notes[0]}" in caplog.messages


@pytest.mark.integration
def test_a_large_jpeg_is_decoded_at_reduced_size(tmp_path):
    """With values of a full decoding but for rounding; other formats, and a JPEG of nearly the size, in full."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (75, 100, 3), np.uint8))
    large = coarse.resize((1600, 1200), Image.Resampling.BICUBIC)
    large.save(tmp_path / "large.jpg", quality=90)
    large.crop((0, 0, 150, 150)).save(tmp_path / "small.jpg", quality=90)
    seen = []

    def sizes(name, size, resize="crop"):
        with open_image(tmp_path / name) as image:
            reduce(image, size)
            seen.append(image.size)
        whole = fit(Image.open(tmp_path / name).convert("RGB"), size, resize)
        return np.abs(decode(tmp_path / name, size, resize, 3).astype(int) - np.asarray(whole))

    for size, expected in ((32, (400, 300)), (64, (400, 300)), ([64, 100], (400, 300)), (150, (800, 600))):
        for resize in ("crop", "squash"):
            difference = sizes("large.jpg", size, resize)
            assert seen.pop() == expected and np.percentile(difference, 99) <= 2 and difference.mean() < 0.6
    assert sizes("large.jpg", 300).max() == 0 and seen.pop() == (1600, 1200)
    assert sizes("small.jpg", 32).max() == 0 and seen.pop() == (150, 150)
    large.save(tmp_path / "large.png")
    assert sizes("large.png", 32).max() == 0 and seen.pop() == (1600, 1200)
