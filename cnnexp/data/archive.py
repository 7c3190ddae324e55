"""Unpack a downloaded archive safely: only regular files and folders, all below one folder.

Absolute paths, `..`, links, devices, names that are equal on some file systems, and archives above MAX_MEMBERS or
MAX_UNPACKED_BYTES are refused. Owners and permissions are ignored.
"""

import lzma
import tarfile
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from cnnexp import storage
from cnnexp.errors import UserError

MAX_MEMBERS = 100_000  # Imagenette has 13,415
MAX_UNPACKED_BYTES = 4 * 2**30  # of all files; CIFAR-10 has 186 million
BLOCK_BYTES = 2**18  # read at a time


def extract_tar(archive: Path, folder: Path) -> None:
    """Unpack a .tar.gz or .tar.xz archive with one top folder, named as `folder`, which appears when it is complete.

    Raises UserError, naming the archive, if it cannot be read or has a member that is refused.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    storage.remove(temporary)
    storage.make_folder(temporary)
    try:
        with tarfile.open(archive, "r:*") as tar:
            _unpack(tar, temporary, folder.name)
        storage.sync_tree(temporary)
        storage.rename(temporary / folder.name, folder)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, ValueError) as error:
        raise UserError(f"{archive}: cannot be unpacked ({error})") from error
    finally:
        storage.remove(temporary)


def _unpack(tar: tarfile.TarFile, into: Path, top: str) -> None:
    """Write the members of an open archive, all of which must lie below `top`. Raises ValueError if one is refused."""
    spelt: dict[str, str] = {}
    members = size = 0
    for member in tar:
        path = safe_path(member, top)
        members, size = members + 1, size + member.size
        if members > MAX_MEMBERS or size > MAX_UNPACKED_BYTES:
            raise ValueError(f"it has more than {MAX_MEMBERS:,} members, or {MAX_UNPACKED_BYTES:,} bytes in them")
        for place in (path, *path.parents):
            if spelt.get(folded(place), str(place)) != str(place):
                raise ValueError(f"{member.name!r} differs from another name only in its case")
        if member.isreg() and folded(path) in spelt:
            raise ValueError(f"{member.name!r} is there twice")
        spelt |= {folded(place): str(place) for place in (path, *path.parents)}
        if member.isdir():
            storage.make_folder(into / path)
        else:
            content = tar.extractfile(member)
            assert content is not None, "it is a regular file"
            storage.make_folder((into / path).parent)
            storage.append_blocks(into / path, _blocks(content))


def folded(path: PurePosixPath) -> str:
    """Return the path as a file system sees it that ignores case and the composition of letters."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def safe_path(member: tarfile.TarInfo, top: str) -> PurePosixPath:
    """Return the path of a member below the folder where its archive is unpacked. Raises ValueError if refused."""
    path = PurePosixPath(member.name)
    if path.is_absolute():
        raise ValueError(f"{member.name!r} is an absolute path")
    if ".." in path.parts:
        raise ValueError(f"{member.name!r} leads out of its folder")
    if not (member.isreg() or member.isdir()):
        raise ValueError(f"{member.name!r} is a link or a device")
    if path.parts and path.parts[0] != top:
        raise ValueError(f"{member.name!r} is not in the folder '{top}'")
    return path


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block
