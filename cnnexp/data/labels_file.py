"""A table of images: a CSV file with columns for path and label, and optionally for split and group."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cnnexp.data.folders import is_text, nfc, split_of
from cnnexp.data.image_files import File
from cnnexp.data.images import PARTS
from cnnexp.data.tree import Found
from cnnexp.errors import UserError, did_you_mean
from cnnexp.text import at_home, listed, plural, visible

SPLIT = "split"
NAMED = 3  # files in a note
Columns = Mapping[str, str | None]  # {"path", "label", "split", "group": the column's name, None: not read}
Row = tuple[int, str, str, str, str]  # line, path, label, split and group ("" without that column)


def read_table(file: Path, columns: Columns, root: Path, skip: bool) -> Found:
    """List the images of a table. root: the folder that paths start from. skip: leave out files that are missing.

    Classes are sorted, as numbers if all of them are. With a split column, every row names train, val or test; val is
    the test split if there is no test. Raises UserError naming the line for what cannot be read or contradicts, and for
    a column with train and test that is not read, unless columns["split"] is None.
    """
    rows = list(_rows(file, columns))
    names, parts = _classes(rows), {row[3] for row in rows}
    numbers = {name: number for number, name in enumerate(names)}
    renamed = {"val": "test"} if "test" not in parts else {}
    seen: dict[str, Row] = {}
    files, missing = list[File](), list[str]()
    for row in rows:
        line, path, label, part, group = row
        if seen.setdefault(path, row) is not row:
            if row[2:] != seen[path][2:]:
                also = f"is in line {seen[path][0]} too, with another label, split or group"
                raise UserError(f"{file}: line {line}: {visible(path)} {also}")
            continue
        if (root / path).is_file():
            named = f"{label}/{nfc(path)}"
            files.append(File(root / path, path, named, renamed.get(part, part) or "train", numbers[label], group))
        elif skip:
            missing.append(path)
        else:
            fix = "write / instead of \\, " if "\\" in path else ""
            fix += "data.root=DIR is where paths start, data.on_corrupt=skip leaves such lines out"
            raise UserError(f"{file}: line {line}: there is no file {visible(root / path)}; {fix}")
    _check(file, names, parts, files)
    again = len(rows) - len(seen)
    notes = [f"{plural(again, 'line')} of {file.name} left out, which repeat another"] if again else []
    if missing:
        notes.append(
            f"{plural(len(missing), 'file')} of {file.name} left out, which are not there: {listed(missing, NAMED)}"
        )
    val_as_test = {part: f"{SPLIT} {part}" for part in PARTS} if parts == {"train", "val"} else {}
    return Found(root, names, files, parts == {""}, notes, val_as_test=val_as_test)


def classes_of(file: Path, columns: Columns) -> list[str]:
    """Return the classes of a table. Raises UserError for a table that cannot be read; no image is read."""
    return _classes(list(_rows(file, columns)))


def _classes(rows: list[Row]) -> list[str]:
    """Return the labels, sorted; 10 after 9 if all are numbers."""
    names = {label for _, _, label, *_ in rows}
    numbers = all(name.isascii() and name.isdigit() for name in names)
    return sorted(names, key=lambda name: (int(name) if numbers else 0, name))


def _rows(file: Path, wanted: Columns) -> Iterator[Row]:
    """Yield the rows that are not empty. Commas, semicolons or tabs separate columns."""
    text, given, begun = _text(file), 0, 1
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        columns = _columns(file, wanted, reader.fieldnames or ())
        others = [title for title in reader.fieldnames or () if title not in columns.values()]
        unread = dict.fromkeys(others if wanted.get(SPLIT) and SPLIT not in columns else (), frozenset[str]())
        begun = reader.line_num + 1
        for row in reader:
            values = {key: (row[title] or "").strip() for key, title in columns.items()}
            where = f"{file}: line {begun}"
            if any(row.get(None, ())):
                raise UserError(f"{where}: has more columns than the first line; put a text with separators in quotes")
            texts = [text for text in row.values() if isinstance(text, str)]
            if any(line.count(separator) + 1 >= len(row) for text in texts for line in text.split("\n")[1:]):
                raise UserError(f"{where}: a quote that begins there goes on to line {reader.line_num}; close it there")
            if any(values.values()):
                given += 1
                named = ((title, parts, split_of((row[title] or "").strip())) for title, parts in unread.items())
                unread = {title: parts | {part} for title, parts, part in named if part}
                yield reader.line_num, *_row(where, **values)
            begun = reader.line_num + 1
    except csv.Error as error:
        fix = "close each quote in its line, and double it inside a text in quotes"
        raise UserError(f"{file}: line {begun}: cannot be read as CSV ({error}); {fix}") from error
    if not given:
        raise UserError(f"{file}: has no rows below its first line")
    _check_unread(file, unread)


def _columns(file: Path, wanted: Columns, names: Sequence[str]) -> dict[str, str]:
    """Return {"path": the column's title in the file, ...}; case does not count. A column `split` may be missing.

    Raises UserError if another one is missing, or one is there twice.
    """
    titles = [(title or "").strip().lower() for title in names]
    found, columns = dict(zip(titles, names, strict=True)), dict[str, str]()
    for key, name in wanted.items():
        title = (name or "").strip().lower()
        if titles.count(title) > 1:
            raise UserError(f"{file}: the first line names column '{name}' more than once; rename the others")
        if title in found:
            columns[key] = found[title]
        elif name is not None and (key, title) != (SPLIT, SPLIT):
            here = f"there are {', '.join(map(visible, found))}" if any(found) else "it is empty"
            fix = did_you_mean(title, found) or f"; data.columns.{key}=NAME names another one"
            raise UserError(f"{file}: the first line names no column '{name}'; {here}{fix}")
    return columns


def _check_unread(file: Path, unread: Mapping[str, frozenset[str]]) -> None:
    """Raise UserError if a column that is not read has the splits. unread: {title: its splits}, if it has no others."""
    for title, parts in unread.items():
        if "train" in parts and len(parts) > 1:
            name, given = visible(title.strip()), ", ".join(part for part in PARTS if part in parts)
            fix = f"type data.columns.split={name} to use them, data.columns.split=null to draw others"
            raise UserError(f"{file}: column '{name}' looks like splits ({given}): {fix}")


def _text(file: Path) -> str:
    """Return the text of a table. Raises UserError if it cannot be read, is no regular file or no UTF-8 text."""
    try:
        if file.exists() and not (file.is_file() or file.is_dir()):  # a pipe may never end
            raise UserError(f"data.file: {file} is not a regular file; save the table as one")
        text = file.read_text(encoding="utf-8-sig")
        if "\0" in text.partition("\n")[0]:
            raise UnicodeError  # UTF-16 without a mark
    except OSError as error:
        raise UserError(f"data.file: {file} cannot be read ({error.strerror})") from error
    except UnicodeError as error:
        raise UserError(f"data.file: {file} is not UTF-8 text; save it as CSV UTF-8") from error
    return text


def _row(
    where: str, path: str, label: str, split: str | None = None, group: str | None = None
) -> tuple[str, str, str, str]:
    """Return the path, label, split and group of a row. Raises UserError if one is missing or wrong."""
    if not path or not label or not is_text(path + label):
        given = f"path '{visible(path)}', label '{visible(label)}'"
        raise UserError(f"{where}: given {given}; both are needed, as text")
    part = split_of(split or "") or ""
    if split is not None and not part:
        raise UserError(f"{where}: split: given '{visible(split)}'; allowed: train, val, test")
    if group is not None and not (group and is_text(group)):
        raise UserError(f"{where}: given group '{visible(group)}'; every row needs one, as text")
    return Path(at_home(path)).as_posix(), nfc(label), part, nfc(group or "")


def _check(file: Path, names: list[str], parts: set[str], files: list[File]) -> None:
    if len(names) < 2:
        raise UserError(f"{file}: has one label, '{visible(names[0])}'; at least two are needed")
    if parts not in ({""}, {"train", "val"}, {"train", "test"}, {"train", "val", "test"}):
        raise UserError(f"{file}: its splits are {', '.join(sorted(parts))}; train is needed, and test or val")
    trained = {file.label for file in files if file.part == "train"}
    if without := [name for number, name in enumerate(names) if number not in trained]:
        raise UserError(f"{file}: label '{visible(without[0])}' has no training image")
