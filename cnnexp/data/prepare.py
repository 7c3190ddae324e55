"""Decode once: images as one uint8 array in a content-addressed cache folder, then memory-mapped by every run.

The folder's key is a hash of everything that decides the pixels: the listing (relative paths, sizes, modification
times), the parameters, and CODE_VERSION. Imports no torch.
"""

import hashlib
import json
import os
import re
import sys
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
from cnnexp.data.images import Integers, Pixels
from cnnexp.errors import UserError
from cnnexp.text import visible

BLOCK = 64  # images decoded by one thread at a time


@dataclass(frozen=True)
class Listing:
    """What there is to decode: M images with their labels, parts and ids.

    `decode(i)` returns image i as (H, W, C) uint8, all of one shape, or None to skip it; it is called from threads.
    """

    classes: list[str]
    labels: list[int]
    parts: list[int]
    ids: list[str]
    decode: Callable[[int], Pixels | None]


def prepare(name: str, key: Any, cache: str | None, scan: Callable[[], Listing]) -> Prepared:
    """Return the images that `key` stands for, from the cache, or decoded now by `scan().decode`.

    Two processes that ask at once end with one cache: the second waits for the first. Raises UserError if the cache
    cannot be written, or what `scan` and `decode` raise.
    """
    text = json.dumps([CODE_VERSION, name, key], sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    folder = cache_root(cache) / "-".join([re.sub(r"\W+", "_", name), digest])
    prepared = load(folder)
    if prepared is not None:
        return prepared
    storage.make_folder(folder.parent)
    with locked(folder):
        prepared, seconds = load(folder), 0.0  # another process may have made it while we waited
        if prepared is None:
            seconds = _make(folder, name, scan())
            prepared = load(folder)
    assert prepared is not None, f"{folder} cannot be read back"
    return replace(prepared, seconds=seconds)


def _make(folder: Path, name: str, listing: Listing) -> float:
    """Decode a listing into `folder`; return the seconds it took. The caller holds the lock."""
    started = time.monotonic()
    where = f"once, in {visible(folder.parent)}"
    print(f"{visible(name)}: preparing {len(listing.ids)} images, {where}", file=sys.stderr)
    temporary = folder.parent / f".{folder.name}.tmp"
    storage.remove(temporary)  # left by a process that was killed
    if folder.exists():
        print(f"{visible(folder)}: is damaged, or of another version; preparing it again", file=sys.stderr)
        storage.remove(folder)
    storage.make_folder(temporary)
    digest, kept, sums = hashlib.blake2b(digest_size=16), list[int](), list[Integers]()

    def blocks() -> Iterator[Pixels]:
        for rows, pixels, block_sums in _decode(name, listing):
            kept.extend(rows)
            sums.append(block_sums)
            digest.update(pixels.data)
            yield pixels

    try:
        shape = storage.write_array(temporary / "images.npy", blocks())
        _check_classes(name, listing, kept)
        labels, parts = np.array(listing.labels, np.int64)[kept], np.array(listing.parts, np.uint8)[kept]
        ids = np.array(listing.ids, np.str_)[kept]
        for file, array in (("labels", labels), ("ids", ids), ("parts", parts), ("sums", np.concatenate(sums))):
            storage.write_array(temporary / f"{file}.npy", [array])
        digest.update(json.dumps([listing.classes, shape]).encode())
        digest.update(labels.astype("<i8").tobytes() + parts.tobytes())
        _write_meta(temporary, name, listing, kept, digest.hexdigest(), time.monotonic() - started)
    except BaseException:
        storage.remove(temporary)
        raise
    storage.publish_folder(temporary, folder)
    seconds = time.monotonic() - started
    size = storage.size_bytes(folder) / 2**20
    print(
        f"{visible(name)}: prepared {len(kept)} images ({size:.0f} MiB) in {seconds:.1f} s: {visible(folder)}",
        file=sys.stderr,
    )
    return seconds


def _write_meta(folder: Path, name: str, listing: Listing, kept: list[int], fingerprint: str, seconds: float) -> None:
    meta = {
        "version": CODE_VERSION,
        "name": name,
        "classes": listing.classes,
        "fingerprint": fingerprint,
        "skipped": sorted(set(listing.ids) - {listing.ids[i] for i in kept}),
        "seconds": round(seconds, 3),
        "files": {file: storage.size_bytes(folder / file) for file in ARRAYS},
        "crc32": {file: f"{storage.crc32_of(folder / file):08x}" for file in ARRAYS},
    }
    storage.write_json(folder / "meta.json", meta)


def _check_classes(name: str, listing: Listing, kept: list[int]) -> None:
    """Raise UserError if a class has no image left in a split."""
    left = {(listing.parts[i], listing.labels[i]) for i in kept}
    for part in sorted(set(listing.parts)):
        for label, title in enumerate(listing.classes):
            if (part, label) not in left:
                raise UserError(
                    f"data: {name}: class '{title}' has no readable image in {('train', 'val', 'test')[part]}"
                )


def _decode(name: str, listing: Listing) -> Iterator[tuple[list[int], Pixels, Integers]]:
    """Yield blocks of images in order: their numbers in the listing, (n, H, W, C) uint8, and their sums (n, C, 2).

    Threads, not processes: Pillow decodes and resizes without the interpreter's lock.
    """
    total = len(listing.ids)
    affinity = getattr(os, "sched_getaffinity", None)
    workers = min(32, len(affinity(0)) if affinity else os.cpu_count() or 1)
    starts = iter(range(0, total, BLOCK))
    pending: deque[Future[tuple[list[int], Pixels, Integers]]] = deque()
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=total, desc=f"prepare {visible(name)}", unit="img", file=sys.stderr, disable=None) as bar,
    ):
        try:
            while True:
                while len(pending) < 4 * workers and (start := next(starts, None)) is not None:
                    pending.append(pool.submit(_block, listing, start))
                if not pending:
                    return
                rows, pixels, sums = pending.popleft().result()
                bar.update(min(BLOCK, total - bar.n))
                if rows:
                    yield rows, pixels, sums
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _block(listing: Listing, start: int) -> tuple[list[int], Pixels, Integers]:
    numbers = range(start, min(start + BLOCK, len(listing.ids)))
    decoded = {i: image for i in numbers if (image := listing.decode(i)) is not None}
    if not decoded:
        return [], np.empty(0, np.uint8), np.empty(0, np.int64)
    pixels = np.ascontiguousarray(np.stack(list(decoded.values())))
    flat = pixels.reshape(len(pixels), -1, pixels.shape[-1])
    squares = np.square(flat, dtype=np.int32).sum(axis=1, dtype=np.int64)
    return list(decoded), pixels, np.stack([flat.sum(axis=1, dtype=np.int64), squares], axis=-1)
