"""The tables of a data set, for the page, its CSV files and a terminal; and all that a terminal shows."""

from operator import itemgetter
from typing import Any

from cnnexp.explore.facts import Facts, describe, sentences, warnings
from cnnexp.pages.tables import Column, Table, to_terminal
from cnnexp.text import number, plain

CLASSES_SHOWN = 40  # in a terminal


def class_table(facts: Facts, first: int | None = None, total: bool = True) -> Table[Any]:
    """Return images per class, a column per split. first: only so many classes; total: add a row for all classes."""

    def column(split: str) -> Column[tuple[str, int | slice]]:
        return Column(split, split, lambda row: int(facts.counts[split][row[1]].sum()), number, terminal=split)

    splits = [column(split) for split in facts.counts]
    columns: list[Column[tuple[str, int | slice]]] = [
        Column("class", "class", lambda row: row[0], kind="label", terminal="class"),
        *splits,
        Column("all", "", lambda row: sum(split.value(row) for split in splits), number),
    ]
    rows: list[tuple[str, int | slice]] = [(name, k) for k, name in enumerate(facts.classes[:first])]
    return Table(columns, [*rows, ("all", slice(None))] if total else rows)


def channel_table(facts: Facts) -> Table[Any]:
    """Return the statistics of every channel of the training split; mean and std of pixels / 255."""
    columns: list[Column[Any]] = [
        Column("channel", "", lambda row: row[0].name, kind="label", terminal="channel"),
        Column("mean", "", lambda row: row[0].mean / 255, "{:.4f}".format, terminal="mean"),
        Column("std", "", lambda row: row[0].std / 255, "{:.4f}".format, terminal="std"),
        Column("smallest", "", lambda row: row[0].low, terminal="smallest"),
        Column("largest", "", lambda row: row[0].high, terminal="largest"),
        Column("normalised by", "", lambda row: f"(x - {row[1]:.4f}) / {row[2]:.4f}", terminal="normalised by"),
    ]
    return Table(columns, list(zip(facts.channels, facts.data.mean, facts.data.std, strict=True)))


def duplicate_counts(facts: Facts) -> Table[Any]:
    """Return how many images repeat within each split and between splits."""
    found = facts.duplicates
    rows = [
        (f"within {split}", found.within(split), f"of {count.sum():,} images repeat another one of {split}")
        for split, count in facts.counts.items()
    ]
    for one, other in found.pairs():
        meaning = f"of {found.sizes[other]:,} {other} images are in {one} too"
        rows.append((f"{one} and {other}", found.shared(one, other), meaning))
    several = len(found.contradictions())
    rows.append(("different labels", several, f"{'image has' if several == 1 else 'images have'} more than one class"))
    columns: list[Column[Any]] = [
        Column("duplicates", "", lambda row: row[0], kind="label"),
        Column("count", "", lambda row: row[1], number),
        Column("meaning", "", lambda row: row[2], kind="label"),
    ]
    return Table(columns, rows)


def members(facts: Facts, first: int | None = None) -> Table[Any]:
    """Return the images that are equal to another one, a row per image. first: only so many groups."""
    groups = enumerate(facts.duplicates.groups[:first], 1)
    rows = [(number, m.split, facts.classes[m.label], plain(m.id)) for number, group in groups for m in group]
    names = enumerate(("group", "split", "class", "id"))
    return Table([Column(name, name, itemgetter(place), kind="label") for place, name in names], rows)


def as_text(facts: Facts) -> str:
    """Return what a terminal shows."""
    described = [f"{heading:12} {text}" for heading, text in describe(facts).items()]
    left = len(facts.classes) - CLASSES_SHOWN
    more = [f"(the first {CLASSES_SHOWN} classes; --json lists the other {left:,})"] if left > 0 else []
    return "\n".join(
        [
            *described,
            f"\n{to_terminal(channel_table(facts))}\n{to_terminal(class_table(facts, CLASSES_SHOWN))}".rstrip(),
            *[*more, "", *sentences(facts)],
            *(f"Warning: {warning}" for warning in warnings(facts)),
        ]
    )
