"""The page of a data set, with its figures and tables as files beside it. The template engine escapes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cnnexp.errors import UserError
from cnnexp.explore import charts, copies, facts, measure
from cnnexp.explore.facts import Facts
from cnnexp.explore.pictures import Augmented, equal_images, samples
from cnnexp.pages.files import make_folders, replace_files
from cnnexp.pages.style import Figure, style
from cnnexp.pages.tables import Column, Table, csv_fields, to_texts
from cnnexp.pages.template import engine
from cnnexp.text import number, plain

LISTED = 100  # groups of equal images in the page's table; the CSV file has all
OPEN = 60  # classes; more are folded away


def write(found: Facts, augmented: Augmented | None, out: Path, command: str) -> Path:
    """Write index.html, figures/ and tables/ into `out`; return the page. Raises UserError if that is impossible."""
    make_folders(out)
    with style():
        drawn = {figure.name: figure for figure in _figures(found, augmented) if figure is not None}
    tables = to_texts({"classes.csv": class_table(found, total=False), "duplicates.csv": duplicates_csv(found)})
    files: dict[str, str | bytes] = {f"tables/{name}": text for name, text in tables.items()}
    for name, figure in drawn.items():
        files |= {f"figures/{name}.png": figure.png, f"figures/{name}.svg": figure.svg}
    files["index.html"] = render(found, drawn, augmented, command)
    try:
        replace_files(out, files)
    except OSError as error:
        raise UserError(f"{error.filename or out}: cannot write the page ({error.strerror or error})") from error
    return out / "index.html"


def _figures(found: Facts, augmented: Augmented | None) -> Iterator[Figure | None]:
    yield charts.class_counts(found.counts, found.data.classes)
    yield samples(found.data, augmented)
    yield charts.pixel_values(found.pixels, [channel.name for channel in found.channels])
    yield equal_images(found.data, found.copies.groups)


def render(found: Facts, figures: dict[str, Figure], augmented: Augmented | None, command: str) -> str:
    """Return the page."""
    context: dict[str, Any] = {
        "name": plain(found.data.name),
        "about": plain(found.header.get("about", "")),
        "headline": _headline(found),
        "warnings": [plain(warning) for warning in facts.warnings(found)],
        "figures": figures,
        "balance": list(measure.balance(found.counts, found.classes).values()),
        "classes": class_table(found),
        "folded": len(found.classes) > OPEN,
        "augmented": augmented,
        "channels": channel_table(found),
        "element": _element(found),
        "copies": copy_counts(found),
        "copies_summary": copies.summary(found.copies),
        "groups": group_table(found),
        "groups_left": max(0, len(found.copies.groups) - LISTED),
        "origin": _origin(found),
        "skipped": [plain(name) for name in found.data.skipped],
        "command": command,
    }
    return engine(Path(__file__).parent / "templates").get_template("data.html.j2").render(context)


def _headline(found: Facts) -> str:
    sizes = ", ".join(f"{counts.sum():,} {copies.IMAGES[name]}" for name, counts in found.counts.items())
    channels, height, width = found.data.image
    kind = "colour" if channels == 3 else "gray"
    return f"{len(found.classes):,} classes; {sizes}; {kind}, {width} x {height} pixels."


def class_table(found: Facts, total: bool = True) -> Table[tuple[str, int | slice]]:
    """Return images per class, a column per split and one for all; `total`: with a last row for all classes."""

    def column(split: str) -> Column[tuple[str, int | slice]]:
        return Column(split, split, lambda row: int(found.counts[split][row[1]].sum()), number)

    splits = [column(split) for split in found.counts]
    columns: list[Column[tuple[str, int | slice]]] = [
        Column("Class", "class", lambda row: row[0], kind="label"),
        *splits,
        Column("All", "", lambda row: sum(split.value(row) for split in splits), number),
    ]
    rows: list[tuple[str, int | slice]] = [(name, k) for k, name in enumerate(found.classes)]
    return Table(columns, [*rows, ("all", slice(None))] if total else rows)


CHANNELS: list[Column[tuple[measure.Channel, float, float]]] = [  # a channel, and what it is normalised by
    Column("Channel", "", lambda c: c[0].name, kind="label"),
    Column("Mean", "", lambda c: f"{c[0].mean / 255:.4f}"),
    Column("Std", "", lambda c: f"{c[0].std / 255:.4f}"),
    Column("Mean (0 to 255)", "", lambda c: f"{c[0].mean:.2f}"),
    Column("Std (0 to 255)", "", lambda c: f"{c[0].std:.2f}"),
    Column("Smallest", "", lambda c: c[0].low),
    Column("Largest", "", lambda c: c[0].high),
    Column("Normalised by", "", lambda c: f"(x - {c[1]:.4f}) / {c[2]:.4f}"),
]


def channel_table(found: Facts) -> Table[Any]:
    """Return the statistics of every channel of the training split."""
    return Table(CHANNELS, list(zip(found.channels, found.data.mean, found.data.std, strict=True)))


def _element(found: Facts) -> list[tuple[str, str]]:
    sizes = facts.sizes(found)
    return [
        ("As stored", sizes["stored"]),
        ("As the network gets it", sizes["network"]),
        ("All images", sizes["all images"]),
        ("Label", f"int64, 0 to {len(found.classes) - 1}"),
    ]


COPIES: list[Column[tuple[str, int, str]]] = [
    Column("Duplicates", "", lambda row: row[0], kind="label"),
    Column("Count", "", lambda row: row[1], number),
    Column("Meaning", "", lambda row: row[2], kind="label"),
]


def copy_counts(found: Facts) -> Table[tuple[str, int, str]]:
    """Return how many images repeat within each split and between splits."""
    rows = [
        (f"within {name}", found.copies.within(name), f"of {count.sum():,} images repeat another one of {name}")
        for name, count in found.counts.items()
    ]
    for one, other in found.copies.pairs():
        meaning = f"of {found.copies.sizes[other]:,} {other} images are in {one} too"
        rows.append((f"{one} and {other}", found.copies.shared(one, other), meaning))
    rows.append(("different labels", len(found.copies.contradictions()), "images stand under more than one class"))
    return Table(COPIES, rows)


def group_table(found: Facts) -> Table[Any]:
    """Return the first LISTED groups of equal images, a row per group."""

    def where(group: Sequence[copies.Copy]) -> str:
        shown = "; ".join(f"{copy.split}: {plain(copy.id)} ({found.classes[copy.label]})" for copy in group[:6])
        return shown + ("; ..." if len(group) > 6 else "")

    columns: list[Column[tuple[int, list[copies.Copy]]]] = [
        Column("Group", "", lambda row: row[0], kind="label"),
        Column("Different labels", "", lambda row: "yes" if copies.contradicts(row[1]) else "", kind="label"),
        Column("Images", "", lambda row: where(row[1]), kind="reason"),
    ]
    return Table(columns, list(enumerate(found.copies.groups[:LISTED], 1)))


def duplicates_csv(found: Facts) -> Table[Any]:
    """Return every image that is equal to another one."""
    rows = [
        (group, copy.split, found.classes[copy.label], plain(copy.id))
        for group, copies_of_one in enumerate(found.copies.groups, 1)
        for copy in copies_of_one
    ]
    return Table(csv_fields("group", "split", "class", "id"), rows)


def _origin(found: Facts) -> list[tuple[str, str]]:
    data, cached = found.data, facts.cached_bytes(found.data)
    files = facts.files_in_words(found.files) if found.files else {}
    named = {
        "Source and licence": plain(found.header.get("from", "")) or "not stated in its config",
        "Files": files.get("files", ""),
        "Sizes before resizing": files.get("sizes before", ""),
        "Kinds of file": files.get("kinds", ""),
        "Prepared images": f"{plain(data.cache)}, {cached / facts.MIB:,.1f} MiB on disk" if cached else "",
        "Fingerprint of the content": data.fingerprint,
    }
    return [(name, value) for name, value in named.items() if value]
