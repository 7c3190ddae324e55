"""The files of a written page: put in place, and those of the one before that are no longer wanted removed."""

from collections.abc import Mapping
from pathlib import Path

from cnnexp import storage
from cnnexp.storage.untrusted import checked_file, checked_folder

MANIFEST = "report.json"
OWN_FOLDERS = ("figures", "tables")


def make_folders(out: Path) -> None:
    """Create the folder of a page, and those within it. Raises UserError if that is impossible."""
    for name in OWN_FOLDERS:
        storage.make_folder(checked_folder(out, name))


def replace_files(out: Path, files: Mapping[str, str | bytes]) -> None:
    """Write {path in `out`: content}, and remove what an earlier call wrote into OWN_FOLDERS and this one does not.

    Raises OSError. `make_folders` comes before it, best before any work is done.
    """
    earlier = storage.read_json(checked_file(out, MANIFEST)) if (out / MANIFEST).exists() else []
    for name, content in files.items():
        storage.write_bytes(out / name, content.encode("utf-8", "replace") if isinstance(content, str) else content)
    for name in earlier if isinstance(earlier, list) else []:
        parts = Path(str(name)).parts
        if len(parts) == 2 and parts[0] in OWN_FOLDERS and parts[1] != ".." and name not in files:
            storage.remove(out / str(name))
    storage.write_json(out / MANIFEST, sorted(files))
