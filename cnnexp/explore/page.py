"""The page of a data set, with its figures and tables as files beside it. The template engine escapes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnnexp.errors import UserError
from cnnexp.explore import charts, copies, facts, measure
from cnnexp.explore.facts import Facts
from cnnexp.explore.pictures import Augmented, equal_images, samples
from cnnexp.pages.files import make_folders, replace_files
from cnnexp.pages.style import Figure, style
from cnnexp.pages.tables import Table, to_csv
from cnnexp.pages.template import engine
from cnnexp.text import plain

LISTED = 100  # groups of equal images in the page's table; the CSV file has all
OPEN = 60  # classes; more are folded away


def write(found: Facts, augmented: Augmented | None, out: Path, command: str) -> Path:
    """Write index.html, figures/ and tables/ into `out`; return the page. Raises UserError if that is impossible."""
    make_folders(out)
    with style():
        drawn = {figure.name: figure for figure in _figures(found, augmented) if figure is not None}
    files = {f"tables/{name}": content.encode("utf-8", "replace") for name, content in _tables(found).items()}
    for name, figure in drawn.items():
        files |= {f"figures/{name}.png": figure.png, f"figures/{name}.svg": figure.svg}
    files["index.html"] = render(found, drawn, augmented, command).encode("utf-8", "replace")
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


def class_table(found: Facts) -> Table:
    """Return images per class, a column per split."""
    columns = list(found.counts.values())
    rows = [
        [name, *(f"{c[k]:,}" for c in columns), f"{sum(c[k] for c in columns):,}"]
        for k, name in enumerate(found.classes)
    ]
    rows.append(["all", *(f"{c.sum():,}" for c in columns), f"{sum(c.sum() for c in columns):,}"])
    return Table(["Class", *found.counts, "All"], rows)


def channel_table(found: Facts) -> Table:
    """Return the statistics of every channel of the training split."""
    headings = ["Channel", "Mean", "Std", "Mean (0 to 255)", "Std (0 to 255)", "Smallest", "Largest", "Normalised by"]
    rows = []
    for c, mean, std in zip(found.channels, found.data.mean, found.data.std, strict=True):
        values = f"{c.mean / 255:.4f}", f"{c.std / 255:.4f}", f"{c.mean:.2f}", f"{c.std:.2f}", f"{c.low}", f"{c.high}"
        rows.append([c.name, *values, f"(x - {mean:.4f}) / {std:.4f}"])
    return Table(headings, rows)


def _element(found: Facts) -> list[tuple[str, str]]:
    sizes = facts.sizes(found)
    return [
        ("As stored", sizes["stored"]),
        ("As the network gets it", sizes["network"]),
        ("All images", sizes["all images"]),
        ("Label", f"int64, 0 to {len(found.classes) - 1}"),
    ]


def copy_counts(found: Facts) -> Table:
    """Return how many images repeat within each split and between splits."""
    rows = [
        [f"within {name}", f"{found.copies.within(name):,}", f"of {count.sum():,} images repeat another one of {name}"]
        for name, count in found.counts.items()
    ]
    for one, other in found.copies.pairs():
        size = found.copies.sizes[other]
        rows.append(
            [
                f"{one} and {other}",
                f"{found.copies.shared(one, other):,}",
                f"of {size:,} {other} images are in {one} too",
            ]
        )
    rows.append(
        ["different labels", f"{len(found.copies.contradictions()):,}", "images stand under more than one class"]
    )
    return Table(["Duplicates", "Count", "Meaning"], rows, words=frozenset({"Meaning"}))


def group_table(found: Facts) -> Table:
    """Return the first LISTED groups of equal images, a row per group."""
    rows = []
    for number, group in enumerate(found.copies.groups[:LISTED], 1):
        where = "; ".join(f"{copy.split}: {plain(copy.id)} ({found.classes[copy.label]})" for copy in group[:6])
        rows.append(
            [f"{number}", "yes" if copies.contradicts(group) else "", where + ("; ..." if len(group) > 6 else "")]
        )
    return Table(["Group", "Different labels", "Images"], rows, words=frozenset({"Different labels", "Images"}))


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


def _tables(found: Facts) -> dict[str, str]:
    splits = list(found.counts)
    classes: list[list[str | int]] = [
        [name, *(int(found.counts[s][k]) for s in splits)] for k, name in enumerate(found.classes)
    ]
    copied: list[list[str | int]] = [
        [number, copy.split, found.classes[copy.label], plain(copy.id)]
        for number, group in enumerate(found.copies.groups, 1)
        for copy in group
    ]
    return {
        "classes.csv": to_csv(["class", *splits], classes),
        "duplicates.csv": to_csv(["group", "split", "class", "id"], copied),
    }
