"""Unpacking an archive that came from elsewhere: files and folders below one folder, and nothing else.

Refused are absolute paths, `..`, links, devices, names that some file systems cannot tell apart, and more or larger
files than any archive has that is used here. Neither owners nor permissions are taken over.
"""

import tarfile
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from cnnexp import storage
from cnnexp.errors import UserError

MOST_MEMBERS = 100_000  # Imagenette has 13,415
MOST_BYTES = 4 * 2**30  # of all files; CIFAR-10 has 186 million
BLOCK = 2**18


def extract_tar(archive: Path, folder: Path) -> None:
    """Unpack a .tar.gz archive whose one top folder is named as `folder`, so that it appears complete or not at all.

    Raises UserError, naming the archive, if it cannot be read or has a member that is refused.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    storage.remove(temporary)
    storage.make_folder(temporary)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            _unpack(tar, temporary, folder.name)
        storage.sync_tree(temporary)
        storage.rename(temporary / folder.name, folder)
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError) as error:
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
        if members > MOST_MEMBERS or size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_MEMBERS:,} members, or {MOST_BYTES:,} bytes in them")
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
    """Return what a file system makes of a path that tells neither case nor composed letters apart."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def safe_path(member: tarfile.TarInfo, top: str) -> PurePosixPath:
    """Return where a member goes, relative to where an archive is unpacked. Raises ValueError if it is refused."""
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
    while block := file.read(BLOCK):
        yield block
