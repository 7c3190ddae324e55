"""Image folders for tests, and data sets built from their shipped configs."""

import functools
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnexp.config import compose as config
from cnnexp.config import signature
from cnnexp.data import sources
from cnnexp.data.arrays import image_data


@functools.cache
def _composed(name: str) -> dict[str, Any]:
    return config.resolve(config.compose([f"data={name}"]))["data"]


def settings(name: str, /, **changes) -> dict:
    """Return the `data` node of a shipped data set, with changes."""
    return _composed(name) | changes


def build(name: str, /, **changes):
    node = settings(name, **changes)
    builder = getattr(sources, node["_target_"].rsplit(".", 1)[1])
    signature.check("data", node, builder)
    builder.check("data", node, {})
    node.pop("_target_")
    return builder(**node)


def picture(seed: int, size=(12, 10), mode="RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def write_png(path, values, transparent=None, bits=16):
    """Write (H, W[, 2 to 4]) values as a PNG file of 16 bits a channel, which Pillow does not write; or gray of 4."""
    kind = 0 if values.ndim == 2 else {2: 4, 3: 2, 4: 6}[values.shape[2]]

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    if bits == 4:
        packed = [(row[::2] << 4 | row[1::2]).astype(np.uint8) for row in values]
    else:
        packed = [row.astype(">u2") for row in values]
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, kind, 0, 0, 0)
    if transparent is not None:
        head_chunk = chunk(b"IHDR", head) + chunk(b"tRNS", np.array(transparent, ">u2").tobytes())
    else:
        head_chunk = chunk(b"IHDR", head)
    content = head_chunk + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


def tree(root: Path, parts=("train", "test"), classes=("cat", "dog"), count=5, mode="RGB") -> Path:
    for p, part in enumerate(parts):
        for k, name in enumerate(classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                picture(100 * p + 10 * k + i, mode=mode).save(folder / f"{i}.png")
    return root


def folder(root: Path, **changes):
    return build("folder", **{"root": str(root), "size": 8, "val_fraction": 0.2, **changes})


def array_data(classes, sizes, side=4, channels=3, seed=0):
    """Return a data set of arrays: sizes[k] training images of class k, and half as many (at least one) to test."""
    generator = np.random.default_rng(seed)

    def part(numbers):
        labels = np.repeat(np.arange(len(classes)), numbers)
        return generator.integers(0, 256, (len(labels), side, side, channels), dtype=np.uint8), labels

    return image_data("made", classes, part(sizes), part([max(1, size // 2) for size in sizes]), val_fraction=0)
