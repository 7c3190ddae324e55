"""The page of a data set, with its figures and tables as files beside it. The template engine escapes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnnexp.explore import charts, tables
from cnnexp.explore.facts import Facts, describe, sentences, warnings
from cnnexp.explore.pictures import Augmented, equal_images, samples
from cnnexp.pages import plotly
from cnnexp.pages.files import make_folders, write_page
from cnnexp.pages.style import Figure, style
from cnnexp.text import plain

OPEN_CLASSES = 60  # a longer table is folded
MAX_GROUPS = 100  # of equal images in the page's table; the CSV file has all


def write(facts: Facts, augmented: Augmented | None, out: Path, command: str) -> Path:
    """Write index.html, figures/ and tables/ into `out`; return the page. Raises UserError if that is impossible."""
    make_folders(out)
    with style():
        drawn = {figure.name: figure for figure in _figures(facts, augmented) if figure is not None}
    as_files = {"classes.csv": tables.class_table(facts, total=False), "duplicates.csv": tables.members(facts)}
    write_page(out, render(facts, drawn, augmented, command), as_files, drawn.values())
    return out / "index.html"


def _figures(facts: Facts, augmented: Augmented | None) -> Iterator[Figure | None]:
    yield charts.class_counts(facts.counts, facts.data.classes)
    yield samples(facts.data, augmented)
    yield charts.pixel_values(facts.pixels, [channel.name for channel in facts.channels])
    yield equal_images(facts.data, facts.duplicates.groups)


def render(facts: Facts, figures: dict[str, Figure], augmented: Augmented | None, command: str) -> str:
    """Return the page."""
    *balance, summary = sentences(facts)
    context: dict[str, Any] = {
        "name": plain(facts.data.name),
        "about": plain(facts.header.get("about", "")),
        "warnings": [plain(warning) for warning in warnings(facts)],
        "figures": figures,
        "balance": balance,
        "classes": tables.class_table(facts),
        "folded": len(facts.classes) > OPEN_CLASSES,
        "augmented": augmented,
        "channels": tables.channel_table(facts),
        "duplicates": tables.duplicate_counts(facts),
        "summary": summary,
        "groups": tables.members(facts, MAX_GROUPS),
        "max_groups": MAX_GROUPS,
        "described": describe(facts),
        "skipped": [plain(name) for name in facts.data.skipped],
        "command": command,
    }
    return plotly.render(Path(__file__).parent / "templates", "data.html.j2", context, ["data.js"], plot_data(facts))


def plot_data(facts: Facts) -> dict[str, Any]:
    """Return the data of the interactive figures. named: up to how many classes have their names at the axis."""
    shares = charts.pixel_shares(facts.pixels)
    return {
        "classes": facts.classes,
        "counts": [[split, counts.tolist()] for split, counts in facts.counts.items()],  # in order
        "named": charts.MAX_NAMES,
        "pixels": [
            {"name": channel.name, "shares": [plotly.rounded(x, 3) for x in share]}
            for channel, share in zip(facts.channels, shares, strict=True)
        ],
        "log": charts.is_skewed(shares),
    }
