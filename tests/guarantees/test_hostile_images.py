"""Images and folders as they come: damaged, odd, hostile. Each is read as what is seen, or told by its name."""

import io
import os
import random
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnexp import cli
from cnnexp.data import decode as decoding
from cnnexp.data import sources
from cnnexp.data.decode import decode, is_gray
from cnnexp.data.images import ImageData
from cnnexp.errors import UserError
from cnnexp.records.run_record import RunRecord
from cnnexp.training.plan import quoted

pytestmark = [pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"), pytest.mark.counts("images")]


def picture(seed: int = 0, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tree(root: Path, classes: list[str] | None = None) -> Path:
    for part in ("train", "test"):
        for k, name in enumerate(classes or ["cat", "dog"]):
            (root / part / name).mkdir(parents=True)
            for i in range(5):
                picture(10 * k + i).save(root / part / name / f"{i}.png")
    return root


def read(root: Path, tmp_path: Path, on_corrupt: str = "error", path: str = ".") -> ImageData:
    settings = {
        "bits": None,
        "test_fraction": 0.2,
        "size": 8,
        "resize": "crop",
        "channels": "auto",
        "val_fraction": 0.2,
        "split_seed": 0,
        "folds": None,
        "fold": None,
    }
    limits = {"train_limit": None, "val_limit": None, "test_limit": None, "normalize": "dataset"}
    return sources.folder(
        name="folder",
        root=str(root),
        path=path,
        **settings,
        **limits,
        on_corrupt=on_corrupt,
        group=None,
        cache=str(tmp_path / "c"),
    )


def refused(file: Path) -> str:
    with pytest.raises(UserError) as caught:
        decode(file, 8, "crop", 3)
    message = str(caught.value)
    assert message.startswith(f"{file}: cannot be read as an image (") and message.endswith(")")
    return message.removeprefix(f"{file}: cannot be read as an image (")[:-1]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int) -> bytes:
    """Return a PNG file of some bytes that says it is width x height pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_460, 20_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_from_its_header(tmp_path: Path, side: int) -> None:
    (tmp_path / "bomb.png").write_bytes(png_of(side, side))
    told = refused(tmp_path / "bomb.png")
    assert "pixels" in told
    if side < 10_000:
        assert told == "it has 9460 x 9460 pixels; allowed: 89,478,485"
    assert is_gray(tmp_path / "bomb.png"), "which is asked of every file, before any is decoded"


def test_the_largest_image_is_no_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture().save(tmp_path / "it.png")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 120)
    decode(tmp_path / "it.png", 8, "crop", 3)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 119)
    assert refused(tmp_path / "it.png") == "it has 12 x 10 pixels; allowed: 119"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_a_file_is_read_by_its_content_whatever_its_name_says(tmp_path: Path, kind: str) -> None:
    (tmp_path / "it.jpg").write_bytes(encoded(picture(), kind))
    assert decode(tmp_path / "it.jpg", 8, "crop", 3).shape == (8, 8, 3)


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "TGA", "PCX"])
def test_formats_that_are_not_for_photographs_are_not_opened(tmp_path: Path, kind: str) -> None:
    (tmp_path / "it.png").write_bytes(encoded(picture(), kind))
    assert refused(tmp_path / "it.png").startswith("cannot identify image file")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
def test_truncated_files(tmp_path: Path, kind: str) -> None:
    whole = encoded(picture(size=(40, 40)), kind)
    for length in (0, 1, 10, len(whole) // 2):
        (tmp_path / "it.png").write_bytes(whole[:length])
        assert refused(tmp_path / "it.png") == "the file is empty" if length == 0 else refused(tmp_path / "it.png")


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        (tmp_path / "it").write_bytes(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
        assert decode(tmp_path / "it", 8, "crop", 3).reshape(-1, 3).max(0).tolist() == [255, 0, 0], kind


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation(tmp_path: Path, orientation: int) -> None:
    image, exif = picture(size=(8, 8)), Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "it.png").write_bytes(encoded(image, "PNG", exif=exif))
    upright = np.asarray(image)
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, -1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright),
    }
    assert np.array_equal(decode(tmp_path / "it.png", 8, "crop", 3), turned[orientation])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
def test_damaged_files_are_read_or_told_and_never_a_bug(tmp_path: Path, kind: str) -> None:
    draw = random.Random(kind)
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = encoded(picture(size=(24, 20)), kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}))
    file = tmp_path / "it.png"
    for _ in range(100):
        damaged = bytearray(whole)
        for _ in range(draw.randrange(1, 9)):
            damaged[draw.randrange(min(len(damaged), draw.choice([60, 10_000])))] = draw.randrange(256)
        file.write_bytes(damaged[: draw.choice([len(damaged), draw.randrange(len(damaged))])])
        is_gray(file)
        try:
            assert decode(file, 8, draw.choice(["crop", "squash"]), 3).shape == (8, 8, 3)
        except UserError as error:
            assert str(file) in str(error)


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    for name in ("pipe.png", "endless.png", "folder.png"):
        assert refused(tmp_path / name) == "it is not a file"
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    for name in ("loop.png", "dangling.png"):
        assert refused(tmp_path / name)


@pytest.mark.parametrize("spoil", ["pipe", "loop", "dangling", "empty"])
def test_one_bad_file_in_a_tree_is_named_or_left_out_and_counted(tmp_path: Path, spoil: str) -> None:
    root = tree(tmp_path / "tree")
    file = root / "train" / "cat" / "x y=[z] 🙂.png"
    if spoil == "pipe":
        os.mkfifo(file)
    elif spoil == "empty":
        file.write_bytes(b"")
    else:
        file.symlink_to(file.name if spoil == "loop" else "nowhere")
    with pytest.raises(
        UserError, match=r"x y=\[z\] 🙂\.png: cannot be read .*; data.on_corrupt=skip leaves such images out"
    ):
        read(root, tmp_path)
    assert read(root, tmp_path, "skip").skipped == ["train/cat/x y=[z] 🙂.png"]


ODD = [
    *(
        "a b",
        "k=v",
        "[x]",
        "{y}",
        "${z}",
        "it's",
        '"q"',
        "emoji 🙂",
        "日本",
        "#",
        "-m",
        "a,b",
        "a\\b",
        "$x^2_3$",
        "%s",
        "<b>",
    ),
    *(
        "~",
        "*",
        "?",
        "null",
        "true",
        "1",
        "1e3",
        "x" * 255,
        "é",
        "👩\u200d🔬",
        "a;rm",
        "`a`",
        "|",
        "&amp;",
        " lead",
        "trail ",
    ),
]


def test_class_names_and_paths_of_any_letters(tmp_path: Path) -> None:
    root = tree(tmp_path / "a tree=[of] {odd} 'names' \n🙂", ODD)
    data = read(root, tmp_path)
    assert data.classes == sorted(ODD)
    assert len(data.test) == 5 * len(ODD)
    for row, name in zip(data.test.indices[::5], data.test.ids[::5], strict=True):
        assert np.array_equal(data.test.images[row], decode(root / name, 8, "crop", 3))


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "shown"),
    [("a\nb", r"a\nb"), ("a\x1b[31m", r"a\x1b[31m"), ("\udcff", r"\udcff"), ("a\u2028b", r"a\u2028b")],
)
def test_class_names_that_cannot_stand_in_a_table(
    tmp_path: Path, name: str, shown: str, train: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    root = tree(tmp_path / "tree", ["cat", name])
    assert train("data=folder", f"data.root={root}", "data.size=8") == 2
    message = capsys.readouterr().err
    assert message.startswith("cnnexp: ") and message.count("\n") == 1
    assert f"{shown}: its name is that of a class and has control characters; rename it" in message


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux alone")
def test_file_names_that_are_no_text(
    tmp_path: Path, train: Callable[..., int], only: Callable[[], RunRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    root = tree(tmp_path / "tree \udcfe")
    odd = ["\udcff", "line\nend", "\x1b[31m", "x" * 251]
    for name in odd:
        picture(9).save(root / "test" / "cat" / f"{name}.png")
    (root / "train" / "dog" / "bad\n\udcff.png").write_bytes(b"")
    place = ["data=folder", f"data.root={quoted(str(root))}", "data.size=8", "data.on_corrupt=skip"]
    assert train(*place, "epochs=1st", "batch_size=4", "data.val_fraction=0.2") == 0
    ids = set(only().predictions()["ids"])
    assert {f"test/cat/{name}.png" for name in odd} <= ids and len(ids) == 14
    assert only().info["data"]["skipped"] == 1
    assert only().config()["data"]["root"] == str(root)
    capsys.readouterr()
    assert cli.main(["data", "folder", *place[1:]]) == 0


def test_folders_that_link_to_each_other_are_walked_once(tmp_path: Path) -> None:
    root = tree(tmp_path / "tree")
    (root / "train" / "cat" / "up").symlink_to(root)
    (root / "train" / "cat" / "self").symlink_to(".")
    (tmp_path / "more").mkdir()
    picture(7).save(tmp_path / "more" / "7.png")
    (root / "train" / "dog" / "more").symlink_to(tmp_path / "more")
    (root / "train" / "dog" / "7.png").symlink_to(tmp_path / "more" / "7.png")
    data = read(root, tmp_path)
    names = [*data.train.ids, *data.val.ids]
    assert len(names) == len(set(names))
    assert {"train/dog/more/7.png", "train/dog/7.png"} <= set(names)
