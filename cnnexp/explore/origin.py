"""Where images come from: what their config says of it, and their files as they lie on disk."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cnnexp.data.images import ImageData

LOOKED_AT = 500  # files whose header is read


@dataclass(frozen=True)
class Files:
    """A data set's image files: their number and bytes; of a sample of `looked_at`, evenly spread, sizes and kinds.

    widths, heights: (smallest, median, largest), in pixels as stored. kinds: {"JPEG, RGB": count}.
    """

    folder: str
    count: int
    bytes: int
    looked_at: int
    widths: tuple[int, int, int]
    heights: tuple[int, int, int]
    kinds: dict[str, int]


def header(config: Path | None) -> dict[str, str]:
    """Return {"about", "from", ...}: what the comment at the head of a config file says; {} without a file."""
    found, key = dict[str, str](), "about"
    for line in config.read_text(encoding="utf-8", errors="replace").splitlines() if config else []:
        if not line.startswith("#"):
            break
        words = line.lstrip("# ")
        if named := re.match(r"(From|Run):\s*", words):
            key, words = named[1].lower(), words[named.end() :]
        words = re.split(r"\s{2,}Look:", words)[0]
        found[key] = f"{found.get(key, '')} {words}".strip()
    return found


def files(data: ImageData) -> Files | None:
    """Look at the files that the images were decoded from; None where they are not files, or are there no longer."""
    if data.files is None:
        return None
    paths = [Path(data.files, str(name)) for split in data.splits().values() for name in split.ids]
    try:
        size = sum(path.stat().st_size for path in paths)
        sample = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, LOOKED_AT).astype(int))]
        shapes, kinds = [], Counter[str]()
        for path in sample:
            with Image.open(path) as image:
                shapes.append(image.size)
                kinds[f"{image.format}, {image.mode}"] += 1
    except OSError:  # moved or deleted since they were prepared
        return None
    widths, heights = (sorted(values) for values in zip(*shapes, strict=True))
    return Files(data.files, len(paths), size, len(sample), _ends(widths), _ends(heights), dict(kinds.most_common()))


def _ends(values: list[int]) -> tuple[int, int, int]:
    return values[0], values[len(values) // 2], values[-1]
