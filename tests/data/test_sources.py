"""Image folders: unusual files, wrong trees, and the content of a correct one."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folders import build, folder, picture, settings, tree
from PIL import Image
from torchvision.transforms import v2

from cnnexp.config import signature
from cnnexp.data import sources
from cnnexp.data.decode import decode
from cnnexp.errors import UserError

NAMES = ["postcards", "textures", "imagenette", "cifar10", "cifar10_jpeg", "folder", "csv", "torchvision"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNEXP_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", NAMES)
def test_every_config_names_all_parameters_of_its_source(name):
    node = settings(name)
    builder = getattr(sources, node["_target_"].rsplit(".", 1)[1])
    signature.check("data", node, builder)
    parameters = signature.settings(builder)
    assert set(node) - {"_target_"} == set(parameters)
    assert all(p.default is p.empty for p in parameters.values()), "a default has one home, the YAML"


@pytest.mark.integration
def test_sources_need_no_torch(tmp_path):
    tree(tmp_path / "tree")
    node = settings("folder", root=str(tmp_path / "tree"), size=8, val_fraction=0.2)
    node.pop("_target_")
    code = f"from cnnexp.data import augment, sources; sources.folder(**{node!r})"
    code += "; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_tree_of_folders_is_read(tmp_path):
    root = tree(tmp_path / "tree", parts=("train", "val", "test"))
    (root / "train/cat/deeper").mkdir()
    picture(77).save(root / "train/cat/deeper/x.JPEG", quality=95)
    (root / "train/cat/notes.txt").write_text("not an image")
    (root / "train/cat/.hidden.png").write_bytes(b"")
    data = folder(root)
    assert data.classes == ["cat", "dog"] and data.image == (3, 8, 8) and data.skipped == []
    assert [len(s) for s in data.splits().values()] == [11, 10, 10]
    assert "train/cat/deeper/x.JPEG" in data.train.ids
    for split in data.splits().values():
        assert [i.split("/")[1] for i in split.ids] == [data.classes[k] for k in split.labels]
        for row, name in zip(split.indices, split.ids, strict=True):
            assert np.array_equal(split.images[row], decode(root / name, 8, "crop", 3))


def test_without_test_val_is_the_test_split(tmp_path):
    data = folder(tree(tmp_path / "tree", parts=("train", "val")))
    assert [len(s) for s in data.splits().values()] == [6, 4, 10]
    assert all(i.startswith("val/") for i in data.test.ids) and all(i.startswith("train/") for i in data.val.ids)


def test_a_note_says_that_val_is_the_test_split(tmp_path, caplog):
    root = tree(tmp_path / "tree", parts=("Training", "valid"))
    note = "the test images are those of valid/, because there is no test/"
    taken = f"{note}; the validation images are taken from Training/"
    assert folder(root).notes == folder(root, folds=2, fold=0).notes == [taken]
    assert f"data: {taken}" in caplog.messages
    assert folder(root, val_fraction=0.0).notes == [note]
    unused = "data.test_fraction=0.5 has no effect: valid/ is used as test"
    assert folder(root, test_fraction=0.5).notes == [taken, unused]
    assert folder(tree(tmp_path / "three", parts=("train", "val", "test")), val_fraction=0.1).notes == []


def test_statistics_are_those_of_the_training_split(tmp_path):
    data = folder(tree(tmp_path / "tree"), train_limit=5)
    pixels = data.train.images[data.train.indices].astype(np.float64) / 255
    assert len(pixels) == 5
    np.testing.assert_allclose(data.mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(data.std, pixels.std(axis=(0, 1, 2)), rtol=1e-12)
    given = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.75, 1]}
    data = folder(tmp_path / "tree", normalize=given)
    assert (data.mean, data.std) == (given["mean"], given["std"])


def test_normalize_is_checked(tmp_path):
    root = tree(tmp_path / "tree")
    for given, message in (
        ({"mean": [0.1]}, r"data.normalize.std: is missing; allowed: a list of numbers > 0"),
        ({"mean": [0.1], "std": [0]}, r"data.normalize.std: given \[0\]; allowed: a list of numbers > 0"),
        ({"mean": [0.1], "std": [1], "sd": 1}, r"data.normalize.sd: unknown key 'sd'; choose one of mean, std"),
        ({"mean": [0.1], "std": [1]}, r"given 1 mean and 1 std; the images have 3 channels"),
        ("imagenet", r"data.normalize: given 'imagenet'"),
        ({"mean": [123.7] * 3, "std": [0.2] * 3}, r"normalize.mean: given \[123.7, .*numbers from 0 to 1, .* by 255$"),
        ({"mean": [0.5] * 3, "std": [58.4] * 3}, r"normalize.std: given \[58.4, .*numbers from 0 to 1, .* by 255$"),
        ({"mean": [-0.1] * 3, "std": [0.2] * 3}, r"normalize.mean: given \[-0.1, .*numbers from 0 to 1"),
    ):
        with pytest.raises(UserError, match=message):
            folder(root, normalize=given)


def spoil_missing_class(root):
    (root / "test/dog").rename(root / "test/cow")


def spoil_empty_class(root):
    for file in (root / "train/dog").iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: root.rename(root.parent / "gone"), "data.root: .* is not a folder"),
        (lambda root: (root / "test").rename(root / "eval"), r"has eval, train; it needs train/ and test/"),
        (lambda root: (root / "train").rename(root / "holdout"), r"has holdout, test; it needs train/"),
        (spoil_missing_class, "(class 'cow' is missing; it is in .*test|class 'dog' is missing)"),
        (spoil_empty_class, r"train/dog: has no images \(.jpg .jpeg"),
        (lambda root: (root / "train/cat/0.png").write_bytes(b""), "train/cat/0.png: .*the file is empty"),
        (lambda root: (root / "train/cat/0.png").write_text("text"), "train/cat/0.png: cannot be read as an image"),
        (lambda root: cut_short(root / "train/cat/0.png"), "train/cat/0.png: cannot be read as an image .*truncated"),
    ],
)
def test_wrong_trees_are_errors(tmp_path, spoil, message):
    root = tree(tmp_path / "tree")
    spoil(root)
    with pytest.raises(UserError, match=message) as caught:
        folder(root)
    assert "\n" not in str(caught.value)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:200])


def test_corrupt_images_are_skipped_counted_and_reported(tmp_path, caplog):
    root = tree(tmp_path / "tree")
    cut_short(root / "train/cat/0.png")
    (root / "test/dog/3.png").write_bytes(b"")
    for _ in range(2):  # decoded, then from the cache
        caplog.clear()
        data = folder(root, on_corrupt="skip")
        assert data.skipped == ["test/dog/3.png", "train/cat/0.png"]
        assert [r.message for r in caplog.records] == [
            "data: 2 of 20 images cannot be read and are left out: test/dog/3.png, train/cat/0.png"
        ]
        assert len(data.train) + len(data.val) == 9 and len(data.test) == 9
        assert not {*data.train.ids, *data.val.ids, *data.test.ids} & set(data.skipped)
        for row, name in zip(data.test.indices, data.test.ids, strict=True):
            assert np.array_equal(data.test.images[row], decode(root / name, 8, "crop", 3))
    for file in (root / "test/dog").iterdir():
        file.write_bytes(b"")
    with pytest.raises(UserError, match="class 'dog' has no readable image in test"):
        folder(root, on_corrupt="skip")


def test_channels_are_one_where_every_image_is_gray(tmp_path):
    root = tree(tmp_path / "tree", mode="L")
    data = folder(root)
    assert data.image == (1, 8, 8) and len(data.mean) == 1
    assert folder(root, channels=3).image == (3, 8, 8)
    picture(5).save(root / "test/dog/colour.png")
    assert folder(root).image == (3, 8, 8)
    assert folder(root, channels=1).image == (1, 8, 8)


def saved(tmp_path: Path, image: Image.Image, name: str, **options) -> Path:
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_unusual_images_are_decoded_as_displayed(tmp_path):
    red = Image.new("RGB", (8, 8), (200, 30, 10))
    clear = Image.new("RGBA", (8, 8), (200, 30, 10, 0))
    palette = red.convert("P", palette=Image.Palette.ADAPTIVE)
    deep = Image.fromarray(np.full((8, 8), 0x80FF, np.uint16))
    for file, expected, tolerance in (
        (saved(tmp_path, red.convert("CMYK"), "cmyk.jpg", quality=95), (200, 30, 10), 8),
        (saved(tmp_path, palette, "palette.png"), (200, 30, 10), 0),
        (saved(tmp_path, clear, "clear.png"), (255, 255, 255), 0),
        (saved(tmp_path, palette, "clear_palette.gif", transparency=palette.getpixel((0, 0))), (255, 255, 255), 0),
        (saved(tmp_path, Image.new("LA", (8, 8), (0, 128)), "half.png"), (127, 127, 127), 1),
        (saved(tmp_path, deep, "deep.png"), (128, 128, 128), 0),
        (saved(tmp_path, Image.new("1", (8, 8), 1), "bit.png"), (255, 255, 255), 0),
    ):
        found = decode(file, 8, "crop", 3)
        assert np.abs(found.astype(int) - expected).max() <= tolerance, file
        assert decode(file, 8, "crop", 1).shape == (8, 8, 1)


def test_exif_orientation_is_applied(tmp_path):
    image = picture(3, size=(8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    file = saved(tmp_path, image, "turned.png", exif=exif)
    assert np.array_equal(decode(file, 8, "crop", 3), np.rot90(np.asarray(image), -1))


def test_images_without_a_known_range_and_bombs_are_errors(tmp_path, monkeypatch):
    file = saved(tmp_path, Image.new("F", (8, 8), 0.5), "float.tif")
    with pytest.raises(UserError, match=r"float.tif: .*unknown range"):
        decode(file, 8, "crop", 1)
    file = saved(tmp_path, Image.new("I", (8, 8), 70000), "deep.tif")
    with pytest.raises(UserError, match=r"deep.tif: .*not 8 or 16 bits"):
        decode(file, 8, "crop", 1)
    file = saved(tmp_path, picture(1), "bomb.png")
    for limit in (50, 100):  # above twice Pillow's limit it raises, above the limit it warns
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(UserError, match=r"bomb.png: "):
            decode(file, 8, "crop", 3)


@pytest.mark.parametrize("size", [(64, 32), (33, 99), (16, 16), (10, 30), (41, 41)])
def test_resizing_agrees_with_torchvision(tmp_path, size):
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    smooth = np.stack([127 + 120 * np.sin(x / 9), 127 + 120 * np.cos(y / 7), 127 + 60 * np.sin((x + y) / 8)], -1)
    image = Image.fromarray(smooth.astype(np.uint8))
    file = saved(tmp_path, image, "image.png")
    tensor = torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())
    for resize, shape in (("crop", [16]), ("squash", [16, 16])):
        resized = v2.functional.center_crop(v2.functional.resize(tensor, shape, antialias=True), [16])
        expected = resized.permute(1, 2, 0).numpy().astype(int)
        assert np.abs(decode(file, 16, resize, 3) - expected).max() <= 1


def test_large_jpegs_are_decoded_smaller_and_look_the_same(tmp_path):
    image = picture(2, size=(16, 16)).resize((640, 640), Image.Resampling.BICUBIC)
    found = decode(saved(tmp_path, image, "large.jpg", quality=95), 32, "crop", 3)
    expected = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(found - expected).mean() < 3


def test_imagenette_is_unpacked_from_an_archive(tmp_path, monkeypatch):
    from cnnexp.storage import fetch

    root = tmp_path / "data"
    root.mkdir()
    tree(tmp_path / "imagenette2-160", ("train", "val"), ("n01440764", "n03888257"))
    with tarfile.open(root / "imagenette2-160.tgz", "w:gz") as archive:
        archive.add(tmp_path / "imagenette2-160", "imagenette2-160")
    monkeypatch.setattr(fetch, "digest_of", lambda path, like: like)
    data = build("imagenette", root=str(root), size=8, val_fraction=0.2)
    assert data.classes == ["tench", "parachute"] and [len(s) for s in data.splits().values()] == [7, 3, 10]
    assert not [note for note in data.notes if "there is no test/" in note], "that is how Imagenette is used"


def test_constants_are_those_of_torchvision():
    from torchvision.datasets import CIFAR10, Imagenette

    from cnnexp.data import download

    assert Imagenette._ARCHIVES["160px"] == (download.IMAGENETTE.url, download.IMAGENETTE.digest.removeprefix("md5:"))
    assert {w: names[0] for w, names in Imagenette._WNID_TO_CLASS.items()} == download.IMAGENETTE_CLASSES
    own = download.CIFAR10
    assert (CIFAR10.url, CIFAR10.filename, f"md5:{CIFAR10.tgz_md5}") == (own.url, own.name, own.digest)
    assert CIFAR10.base_folder == own.folder


def test_cifar10_is_read_from_its_folder(tmp_path, monkeypatch):
    import hashlib
    import pickle

    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3072), dtype=np.uint8)
    lists: dict[str, list] = {"train_list": [], "test_list": []}
    names = [f"class {k}" for k in range(10)]
    parts = {"data_batch_1": slice(0, 20), "test_batch": slice(20, 40)}
    for name, part in parts.items():
        (folder / name).write_bytes(pickle.dumps({"data": pixels[part], "labels": list(range(10)) * 2}))
        md5 = hashlib.md5((folder / name).read_bytes()).hexdigest()
        lists["test_list" if name == "test_batch" else "train_list"].append([name, md5])
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    digest = hashlib.md5((folder / "batches.meta").read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": digest})
    for key, value in lists.items():
        monkeypatch.setattr(CIFAR10, key, value)
    (folder / "test_batch").rename(folder / "elsewhere")
    with pytest.raises(UserError, match=r"cifar-10-batches-py: is damaged or not CIFAR-10; delete it"):
        build("cifar10", root=str(tmp_path))
    (folder / "elsewhere").rename(folder / "test_batch")
    data = build("cifar10", root=str(tmp_path), val_fraction=0.5)
    assert data.classes == names and data.image == (3, 32, 32) and len(data.test) == 20
    assert np.array_equal(data.test.images[data.test.indices[3]], pixels[23].reshape(3, 32, 32).transpose(1, 2, 0))
    assert build("cifar10", root=str(tmp_path), val_fraction=0.5, size=16).image == (3, 16, 16)


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.skipif("CNNEXP_DATA" not in os.environ, reason="CNNEXP_DATA does not say where the real images are")
def test_real_images(tmp_path):
    root = os.environ["CNNEXP_DATA"]
    data = build("imagenette", root=root)
    assert [len(s) for s in data.splits().values()] == [8516, 953, 3925]
    assert np.abs(np.array(data.mean) - [0.463, 0.458, 0.430]).max() < 0.01
    data = build("imagenette", root=root, size=160, train_limit=10, test_limit=10)
    untouched = np.asarray(Image.open(Path(root) / "imagenette2-160" / str(data.test.ids[0])).convert("RGB"))
    assert np.array_equal(data.test.images[data.test.indices[0]], untouched)


@pytest.mark.integration
def test_a_warning_of_pillows_names_the_image(tmp_path):
    image = Image.new("P", (8, 8))
    file = saved(tmp_path, image, "a b.png", transparency=bytes([0, 9]))
    command = (
        "from pathlib import Path; from cnnexp.data.decode import decode, warnings_that_name_images\n"
        f"with warnings_that_name_images(): decode(Path({str(file)!r}), 8, 'crop', 3)"
    )
    patch = (
        "import warnings; from PIL import ImageOps; own = ImageOps.exif_transpose; "
        "ImageOps.exif_transpose = lambda i: (warnings.warn('odd EXIF', UserWarning), own(i))[1]; "
    )
    done = subprocess.run([sys.executable, "-c", patch + command], capture_output=True, text=True, timeout=60)
    assert done.stderr == f"cnnexp: {file}: odd EXIF\n"
    other = "import cnnexp.data.decode, warnings; warnings.warn('of no image')"
    done = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, timeout=60)
    assert "<string>:1: UserWarning: of no image" in done.stderr
