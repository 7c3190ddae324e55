"""A digest of the content of many files, read again only if the file system says that one has changed.

<cache>/digests/<hash>    the digest; the hash is of each file's path, device, inode, size, and times

Sizes and modification times alone cannot be trusted: container layers, Nix and `tar --mtime` set them. The time of the
last change (ctime) is the kernel's own. A file that changed in the last SETTLE_SECONDS may change once more without
another time, so nothing is remembered of it.
"""

import hashlib
import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from cnnexp import storage
from cnnexp.data.cache import cache_root
from cnnexp.data.decode import raise_if_transient
from cnnexp.errors import UserError

States = dict[Path, tuple[int, int]]  # of files: size in bytes, time of modification in ns
UNREADABLE = bytes(hashlib.sha256().digest_size)  # in place of the digest of such a file
SETTLE_SECONDS = 2.0  # the coarsest times of a file system are FAT's, of 2 s


def content_digest(files: Sequence[Path], cache: str | None, states: States | None = None) -> str:
    """Return a digest of the content of files, in their order. states: gets the state of each, before it is read.

    Measured on Imagenette (13,394 files, 101 MB, 2 cores): 1.9 s to read them, 0.2 s if they are remembered. SHA-256,
    because most processors have instructions for it: 1,520 MB/s of a core here, and 680 MB/s of BLAKE2.
    """
    now = time.time()
    known, newest = hashlib.blake2b(digest_size=8), 0
    for path in files:
        status = _status(path)
        if states is not None:
            states[path] = status.st_size, status.st_mtime_ns
        newest = max(newest, status.st_ctime_ns)
        state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        known.update(f"{path.absolute()}\0{state}\0".encode(errors="surrogateescape"))
    record = _folder(cache) / known.hexdigest()
    with suppress(OSError, ValueError):
        text = record.read_text(encoding="ascii")
        if re.fullmatch(r"[0-9a-f]{64}", text):
            return text
    with ThreadPoolExecutor() as pool:
        digest = hashlib.sha256(b"".join(pool.map(_digest, files, chunksize=64))).hexdigest()
    if newest / 1e9 < now - SETTLE_SECONDS:
        with suppress(OSError, UserError):  # a cache that cannot be written is reported where it is needed
            storage.make_folder(record.parent)
            storage.write_text(record, digest)
    return digest


def check_unchanged(states: States) -> None:
    """Raise UserError naming a file that is gone, or whose state is another one now.

    What was read of such a file is not what its digest says.
    """
    for path, state in states.items():
        try:
            status = _status(path)
            unchanged = (status.st_size, status.st_mtime_ns) == state
        except OSError as error:
            raise_if_transient(path, error)
            unchanged = False
        if not unchanged:
            raise UserError(f"{path}: changed while the images were prepared; run the same command again")


def _status(path: Path) -> os.stat_result:
    return path.stat() if path.exists() else path.lstat()  # decoding reports a dangling link


def forget(cache: str | None) -> None:
    """Forget all digests, so that every file is read again."""
    storage.remove(_folder(cache))


def _folder(cache: str | None) -> Path:
    return cache_root(cache) / "digests"


def _digest(path: Path) -> bytes:
    """Return the digest of a file; of nothing, if it cannot be read, which decoding reports."""
    try:
        if not path.is_file():
            return UNREADABLE
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise_if_transient(path, error)
        return UNREADABLE
