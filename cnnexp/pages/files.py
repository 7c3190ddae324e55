"""The files of a page: written together; those of an earlier page that the new one does not have are removed."""

from collections.abc import Mapping
from pathlib import Path

from cnnexp import storage
from cnnexp.storage.untrusted import checked_file, checked_folder

MANIFEST = "report.json"
FOLDERS = ("figures", "tables")


def make_folders(out: Path, *names: str) -> None:
    """Create the folder of a page and FOLDERS in it, or only the named ones. Raises UserError if that is impossible."""
    for name in names or FOLDERS:
        storage.make_folder(checked_folder(out, name))


def replace_files(out: Path, files: Mapping[str, str | bytes]) -> None:
    """Write {path in `out`: content}; remove what an earlier call wrote into FOLDERS and this one does not.

    Raises OSError. Call `make_folders` first, best before any other work.
    """
    earlier = storage.read_json(checked_file(out, MANIFEST)) if (out / MANIFEST).exists() else []
    for name, content in files.items():
        storage.write_bytes(out / name, content.encode("utf-8", "replace") if isinstance(content, str) else content)
    for name in earlier if isinstance(earlier, list) else []:
        parts = Path(str(name)).parts
        if len(parts) == 2 and parts[0] in FOLDERS and parts[1] != ".." and name not in files:
            storage.remove(out / str(name))
    storage.write_json(out / MANIFEST, sorted(files))
