"""Decode images once, into one uint8 array in a content-addressed cache folder that every run memory-maps.

The folder's key is a hash of all that determines the pixels: the listing (relative paths, content), the parameters, the
versions of Pillow, and CODE_VERSION. Imports no torch.
"""

import hashlib
import json
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cnnexp import storage
from cnnexp.data.cache import ARRAYS, CODE_VERSION, Prepared, cache_root, load, locked
from cnnexp.data.images import PARTS, Integers, Pixels, channel_sums
from cnnexp.errors import UserError
from cnnexp.process.limits import cores
from cnnexp.text import visible

BLOCK_IMAGES = 64  # decoded by one thread at a time
Block = tuple[list[int], Pixels, Integers]  # indices in the listing (n,), images (n, H, W, C), sums (n, C, 2)


@dataclass(frozen=True)
class Listing:
    """The images to decode: M images with their labels, parts (indices into images.PARTS) and ids.

    `decode(i)` returns image i as (H, W, C) uint8, all of one shape, or None to skip it; threads call it. `notes()`
    returns what to know of the images, after all are decoded. `check()` is called then: if it raises UserError, nothing
    is kept.
    """

    classes: list[str]
    labels: list[int]
    parts: list[int]
    ids: list[str]
    decode: Callable[[int], Pixels | None]
    notes: Callable[[], list[str]] = list
    check: Callable[[], object] = bool


def prepare(name: str, key: Any, cache: str | None, scan: Callable[[], Listing]) -> Prepared:
    """Return the images that `key` identifies, from the cache, or decoded now by `scan().decode`.

    Of two processes at once, the second waits for the first and uses its cache. Raises UserError if the cache cannot be
    written, and what `scan` and `decode` raise.
    """
    text = json.dumps([CODE_VERSION, name, key], sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    folder = cache_root(cache) / "-".join([re.sub(r"\W+", "_", name), digest])
    prepared = load(folder)
    if prepared is not None:
        return prepared
    with locked(folder):
        prepared, seconds = load(folder), 0.0  # another process may have written it in the meantime
        if prepared is None:
            seconds = _write(folder, name, scan())
            prepared = load(folder)
    assert prepared is not None, f"{folder} cannot be read back"
    return replace(prepared, seconds=seconds)


def _write(folder: Path, name: str, listing: Listing) -> float:
    """Decode a listing into `folder`; return the seconds. The caller holds the lock."""
    started, shown = time.monotonic(), visible(name)
    print(f"{shown}: preparing {len(listing.ids)} images, once, in {visible(folder.parent)}", file=sys.stderr)
    temporary = folder.parent / f".{folder.name}.tmp"
    storage.remove(temporary)  # of a process that was killed
    if folder.exists():
        print(f"{visible(folder)}: is damaged, or of another version; preparing it again", file=sys.stderr)
        storage.remove(folder)
    try:
        storage.make_folder(temporary)
        kept = _write_arrays(temporary, name, listing, started)
        listing.check()
    except BaseException:
        storage.remove(temporary)
        raise
    storage.publish_folder(temporary, folder)
    seconds = time.monotonic() - started
    size = f"{storage.size_bytes(folder) / 2**20:.0f} MiB"
    print(f"{shown}: prepared {kept} images ({size}) in {seconds:.1f} s: {visible(folder)}", file=sys.stderr)
    return seconds


def _write_arrays(folder: Path, name: str, listing: Listing, started: float) -> int:
    """Write the arrays and meta.json of a cache folder; return the number of images."""
    digest, kept, sums = hashlib.blake2b(digest_size=16), list[int](), list[Integers]()

    def blocks() -> Iterator[Pixels]:
        for indices, pixels, block_sums in _decode(name, listing):
            kept.extend(indices)
            sums.append(block_sums)
            digest.update(pixels.data)
            yield pixels

    shape = storage.write_array(folder / "images.npy", blocks())
    _check_classes(name, listing, kept)
    labels, parts = np.array(listing.labels, np.int64)[kept], np.array(listing.parts, np.uint8)[kept]
    ids = np.array(listing.ids, np.str_)[kept]
    for file, array in (("labels", labels), ("ids", ids), ("parts", parts), ("sums", np.concatenate(sums))):
        storage.write_array(folder / f"{file}.npy", [array])
    digest.update(json.dumps([listing.classes, shape]).encode())
    digest.update(labels.astype("<i8").tobytes() + parts.tobytes())
    meta = {
        "version": CODE_VERSION,
        "name": name,
        "classes": listing.classes,
        "fingerprint": digest.hexdigest(),
        "skipped": sorted(set(listing.ids) - set(ids.tolist())),
        "notes": listing.notes(),
        "seconds": round(time.monotonic() - started, 3),
        "files": {file: storage.size_bytes(folder / file) for file in ARRAYS},
        "crc32": {file: f"{storage.crc32_of(folder / file):08x}" for file in ARRAYS},
    }
    storage.write_json(folder / "meta.json", meta)
    return len(kept)


def _check_classes(name: str, listing: Listing, kept: list[int]) -> None:
    """Raise UserError if a class had images in a split, and none can be read."""
    left = {(listing.parts[i], listing.labels[i]) for i in kept}
    for part, label in sorted({*zip(listing.parts, listing.labels, strict=True)} - left):
        title = listing.classes[label]
        raise UserError(f"data: {name}: class '{title}' has no readable image in {PARTS[part]}")


def _decode(name: str, listing: Listing) -> Iterator[Block]:
    """Decode a listing in order, in threads: Pillow decodes and resizes without the interpreter's lock."""
    total = len(listing.ids)
    workers = min(32, cores())
    starts, stopping = iter(range(0, total, BLOCK_IMAGES)), threading.Event()
    pending: deque[Future[Block]] = deque()
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=total, desc=f"prepare {visible(name)}", unit="img", file=sys.stderr, disable=None) as bar,
    ):
        try:
            while True:
                while len(pending) < 4 * workers and (start := next(starts, None)) is not None:
                    pending.append(pool.submit(_decode_block, listing, start, stopping))
                if not pending:
                    return
                block = pending.popleft().result()
                bar.update(min(BLOCK_IMAGES, total - bar.n))
                if block[0]:
                    yield block
        finally:
            stopping.set()
            pool.shutdown(wait=True, cancel_futures=True)


def _decode_block(listing: Listing, start: int, stopping: threading.Event) -> Block:
    """Decode images from `start` on; no more of them once the command is stopping."""
    numbers = range(start, min(start + BLOCK_IMAGES, len(listing.ids)))
    decoded = {i: image for i in numbers if not stopping.is_set() and (image := listing.decode(i)) is not None}
    if not decoded:
        return [], np.empty(0, np.uint8), np.empty(0, np.int64)
    pixels = np.ascontiguousarray(np.stack(list(decoded.values())))
    return list(decoded), pixels, channel_sums(pixels)
