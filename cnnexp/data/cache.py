"""The cache of prepared images: its location and content, and how it is opened, verified and cleared. No torch.

<cache>/<name>-<key>/    written by one process, under a lock, in a temporary folder that is renamed when complete
images.npy    (M, H, W, C) uint8            labels.npy    (M,) int64        ids.npy    (M,) str
parts.npy     (M,) uint8: 0 train, 1 val, 2 test
sums.npy      (M, C, 2) int64: each image's sum and sum of squares per channel
meta.json     {version, name, classes, skipped, notes, fingerprint, seconds,
              files: {name: bytes}, crc32: {name: 8 digits}}

A process compares each file with its checksum once, before it is used. Of a file above MAX_CHECKED_BYTES it compares
the size only; `cnnexp data NAME --verify` compares the checksum too.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnexp import storage
from cnnexp.data.images import Integers, Pixels
from cnnexp.errors import UserError

CODE_VERSION = 4  # increase it when decoding, drawing or the file layout changes
MAX_CHECKED_BYTES = 2 << 30  # half a second; measured: crc32 of a cached file reads 4.2 GB/s
ARRAYS = ("images.npy", "labels.npy", "ids.npy", "parts.npy", "sums.npy")
_verified: set[tuple[Path, int, int]] = set()  # (file, inode, mtime in ns) that match their checksum in this process


@dataclass(frozen=True)
class Prepared:
    """A source's images, decoded and memory-mapped. The arrays are those of the module's docstring.

    files: the folder below which ids are image files, None where images are not files. notes: what to know of them.
    assigned: (M,) 0 train, 1 val, 2 test, if the source divides its images itself. drawn: see `ImageData`.
    """

    name: str
    classes: list[str]
    images: Pixels
    labels: Integers
    ids: NDArray[np.str_]
    parts: NDArray[np.uint8]
    sums: Integers
    fingerprint: str
    skipped: list[str]
    seconds: float
    folder: Path
    files: str | None = None
    notes: list[str] = field(default_factory=list)
    assigned: NDArray[np.uint8] | None = None
    drawn: dict[str, str] = field(default_factory=dict)


def cache_root(cache: str | None) -> Path:
    """Return the cache folder: as given, else $CNNEXP_CACHE, $XDG_CACHE_HOME/cnnexp or ~/.cache/cnnexp."""
    if cache is not None:
        return Path(cache)
    if os.environ.get("CNNEXP_CACHE"):
        return Path(os.environ["CNNEXP_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cnnexp"


def compiled_folder(cache: str | None) -> Path:
    """Return the folder of torch's compiled code, an absolute path in the cache folder."""
    return cache_root(cache).resolve() / "compiled"


def damage(folder: Path, meta: dict[str, Any], max_checked: float) -> str | None:
    """Return the name of the first damaged file of a cache folder, None if there is none.

    max_checked: bytes; of larger files only the size is compared. Raises OSError or KeyError if something is missing.
    """
    for name in ARRAYS:
        stat = (folder / name).stat()
        if stat.st_size != meta["files"][name]:
            return name
        if stat.st_size <= max_checked and (seen := (folder / name, stat.st_ino, stat.st_mtime_ns)) not in _verified:
            if f"{storage.crc32_of(folder / name):08x}" != meta["crc32"][name]:
                return name
            _verified.add(seen)
    return None


def verify(folder: Path) -> int:
    """Compare every file of a cache folder with its checksum; return the total size in bytes.

    Raises UserError if one is damaged.
    """
    meta = storage.read_json(folder / "meta.json")
    _verified.clear()
    if (name := damage(folder, meta, float("inf"))) is not None:
        raise UserError(f"{folder / name}: does not match its checksum; delete {folder}, and it is prepared again")
    return sum(meta["files"].values())


def load(folder: Path) -> Prepared | None:
    """Open a cache folder; None if it is missing, damaged or of another CODE_VERSION."""
    try:
        meta = storage.read_json(folder / "meta.json")
        if damage(folder, meta, MAX_CHECKED_BYTES) is not None:
            return None
        images, labels, ids, parts, sums = (
            np.load(folder / name, mmap_mode="r" if name == "images.npy" else None, allow_pickle=False)
            for name in ARRAYS
        )
        if meta["version"] != CODE_VERSION or not len(images) == len(labels) == len(ids) == len(parts) == len(sums):
            return None
        name, classes, fingerprint, skipped, notes = (
            meta[k] for k in ("name", "classes", "fingerprint", "skipped", "notes")
        )
    except (UserError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Prepared(name, classes, images, labels, ids, parts, sums, fingerprint, skipped, 0.0, folder, notes=notes)


def find(cache: str | None, name: str, fingerprint: str) -> Prepared | None:
    """Open the prepared set with this fingerprint, never preparing one; None if the cache has no intact one.

    One of this data name is preferred: the same images, read from a table, are named otherwise.
    """
    for folder, found in sorted(fingerprints(cache).items(), key=lambda item: item[1][0] != name):
        if found[1] == fingerprint and (prepared := load(folder)) is not None:
            return prepared
    return None


def fingerprints(cache: str | None) -> dict[Path, tuple[str, str]]:
    """Return {folder: (data name, fingerprint)} of the prepared sets in a cache folder, sorted by folder."""
    found = {}
    for file in sorted(cache_root(cache).glob("[!.]*-*/meta.json")):
        try:
            meta = storage.read_json(file)
            found[file.parent] = (str(meta["name"]), str(meta["fingerprint"]))
        except (UserError, OSError, ValueError, KeyError, TypeError):
            continue  # being deleted, or from another program
    return found


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the parent of `folder`, and hold the lock on writing `folder`, after waiting for it.

    Raises UserError if the parent cannot be made or is not writable.
    """
    lock = folder.parent / f".{folder.name}.lock"
    elsewhere = "choose another folder with data.cache=DIR or CNNEXP_CACHE"
    try:
        storage.make_folder(folder.parent)
    except UserError as error:
        raise UserError(f"{error}; {elsewhere}") from error
    try:
        with ExitStack() as stack:
            try:
                stack.enter_context(storage.lock(lock))
            except storage.Locked as busy:
                print(f"{busy}; waiting until it has prepared {folder.name}", file=sys.stderr)
                stack.enter_context(storage.lock(lock, wait=True))
            yield
    except OSError as error:
        if isinstance(error, storage.StorageError) and error.verb == "read":  # an image
            raise
        fix = f"free some space, or {elsewhere}"
        raise UserError(f"{folder.parent}: cannot be written ({error.strerror or error}); {fix}") from error


def cached(cache: str | None) -> list[tuple[Path, int]]:
    """Return the prepared sets in a cache folder, and unfinished ones, with their sizes in bytes."""
    names = re.compile(r"\.?\w+-[0-9a-f]{16}(\.tmp)?")
    folders = [f for f in sorted(cache_root(cache).glob("*-*")) if names.fullmatch(f.name) and f.is_dir()]
    return [(folder, storage.size_bytes(folder)) for folder in folders]


def clear_cache(cache: str | None) -> int:
    """Delete the prepared sets and digests in a cache folder, and nothing else in it; return the bytes freed.

    Sets that a process is preparing are kept. A run that has a deleted set open can use it until it ends.
    """
    freed = 0
    storage.remove(cache_root(cache) / "digests")
    for folder, size in cached(cache):
        name = folder.name.removeprefix(".").removesuffix(".tmp")
        try:
            with storage.lock(folder.parent / f".{name}.lock"):
                storage.remove(folder)
                freed += size
        except storage.Locked:
            print(f"{folder}: is being prepared; kept", file=sys.stderr)
    return freed
