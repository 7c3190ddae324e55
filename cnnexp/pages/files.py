"""The files of a page: written together; those of an earlier page that the new one does not have are removed."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.pages.tables import Table, to_texts
from cnnexp.storage.untrusted import checked_file, checked_folder

if TYPE_CHECKING:
    from cnnexp.pages.style import Figure

MANIFEST = "report.json"
MADE_OF = "made-of.json"
FOLDERS = ("figures", "tables")


def make_folders(out: Path, *names: str) -> None:
    """Create the folder of a page and FOLDERS in it, or only the named ones. Raises UserError if that is impossible."""
    for name in names or FOLDERS:
        storage.make_folder(checked_folder(out, name))


def write_page(out: Path, html: str, tables: Mapping[str, Table[Any]], figures: Iterable["Figure"] = ()) -> None:
    """Write index.html, tables/ and figures/; remove what an earlier call wrote there and this one does not.

    tables: by file name. Raises UserError if a file cannot be written. Call `make_folders` first, before slow work.
    """
    files: dict[str, str | bytes] = {f"tables/{name}": text for name, text in to_texts(tables).items()}
    for figure in figures:
        forms = {"png": figure.png, "svg": figure.svg, "pdf": figure.pdf}
        files |= {f"figures/{figure.name}.{form}": content for form, content in forms.items()}
    try:
        _replace(out, files | {"index.html": html})
    except OSError as error:
        raise UserError(f"{error.filename or out}: cannot write the page ({error.strerror or error})") from error


def mark_made_of(out: Path, stamp: str) -> None:
    """Note what a page was made of, for `is_made_of`. stamp: "" removes the note."""
    if stamp:
        storage.write_json(out / MADE_OF, stamp)
    else:
        storage.remove(out / MADE_OF)


def is_made_of(out: Path, stamp: str) -> bool:
    """Tell whether `out` holds a complete page with this stamp, of which no file has changed since."""
    try:
        noted, written = checked_file(out, MADE_OF), storage.read_json(checked_file(out, MANIFEST))
        if storage.read_json(noted) != stamp:
            return False
        made = noted.stat().st_mtime_ns
        return all((out / str(name)).stat().st_mtime_ns <= made for name in written)
    except (OSError, UserError, TypeError):
        return False


def is_of_page(out: Path, parts: Sequence[str]) -> bool:
    """Tell whether a file below `out` is of a page there: of its own folder, or of that of figures/ or tables/."""
    name = "/".join(parts[-2:]) if len(parts) > 1 and parts[-2] in FOLDERS and parts[-1] != "index.html" else parts[-1]
    folder = out.joinpath(*parts[: -1 - name.count("/")])
    try:
        written = storage.read_json(checked_file(folder, MANIFEST))
    except (OSError, UserError):
        return False
    return isinstance(written, list) and name in written


def _replace(out: Path, files: Mapping[str, str | bytes]) -> None:
    earlier = storage.read_json(checked_file(out, MANIFEST)) if (out / MANIFEST).exists() else []
    for name, content in files.items():
        storage.write_bytes(out / name, content.encode("utf-8", "replace") if isinstance(content, str) else content)
    for name in earlier if isinstance(earlier, list) else []:
        parts = Path(str(name)).parts
        if len(parts) == 2 and parts[0] in FOLDERS and parts[1] != ".." and name not in files:
            storage.remove(out / str(name))
    storage.write_json(out / MANIFEST, sorted(files))
