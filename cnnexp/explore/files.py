"""Where images come from: what their config says, and their files on disk."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cnnexp.data.images import ImageData

SAMPLE = 500  # files whose header is read


@dataclass(frozen=True)
class Files:
    """The image files of a data set: their number and bytes; sizes and kinds of an evenly spread sample of them.

    sample: number of files in it. widths, heights: (smallest, median, largest), in pixels. kinds: {"JPEG, RGB": count}.
    """

    folder: str
    count: int
    bytes: int
    sample: int
    widths: tuple[int, int, int]
    heights: tuple[int, int, int]
    kinds: dict[str, int]


def header(config: Path | None) -> dict[str, str]:
    """Return {"about", "from", "run"}: the parts of the comment at the head of a config file; {} without a file."""
    found, key = dict[str, str](), "about"
    for line in config.read_text(encoding="utf-8", errors="replace").splitlines() if config else []:
        if not line.startswith("#"):
            break
        words = line.lstrip("# ")
        if words.startswith("@package"):  # Hydra's
            continue
        if named := re.match(r"(From|Run):\s*", words):
            key, words = named[1].lower(), words[named.end() :]
        words = re.split(r"\s{2,}Look:", words)[0]
        found[key] = f"{found.get(key, '')} {words}".strip()
    return found


def find(data: ImageData) -> Files | None:
    """Describe the files that the images were decoded from; None if there are none, or some are missing now."""
    if data.files is None:
        return None
    paths = [Path(data.files, str(name)) for split in data.splits().values() for name in split.ids]
    try:
        size = sum(path.stat().st_size for path in paths)
        sample = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, SAMPLE).astype(int))]
        shapes, kinds = [], Counter[str]()
        for path in sample:
            with Image.open(path) as image:
                shapes.append(image.size)
                kinds[f"{image.format}, {image.mode}"] += 1
    except OSError:  # moved or deleted since they were prepared
        return None
    widths, heights = ((v[0], v[len(v) // 2], v[-1]) for v in map(sorted, zip(*shapes, strict=True)))
    return Files(data.files, len(paths), size, len(sample), widths, heights, dict(kinds.most_common()))
