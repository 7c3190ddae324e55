"""rows.yaml, with its placeholders filled in."""

import re
from collections.abc import Mapping
from string import Template
from typing import Any

import yaml

from bench.images import Images
from bench.lab import BENCH, Lab
from bench.results import COMPARISONS, Check

Row = dict[str, Any]  # rows.yaml describes the keys
Set = dict[str, Any]  # of a row, with its own values in place of the row's; also: name, images (Images or None)
Case = dict[str, Any]  # {KIND: words or settings, option: value}


def sets_of(row: Row, lab: Lab) -> list[Set]:
    """Return the sets of a row, with everything filled in but what each command changes."""
    names = {name: value[lab.quick] if isinstance(value, list) else value for name, value in row["names"].items()}
    names |= {"epochs": lab.epochs} if "epochs" in names and lab.epochs else {}
    found = []
    for name, own in list(row["sets"].items())[: 2 if lab.quick else None]:
        merged = {**row, **own, "words": [row["words"], own.get("words", [])]}
        part = fill(merged, {**names, "set": name}) | {"name": str(name)}
        if part["images"]:
            few = {"train": 300, "test": 50, "size": 64} if lab.quick else {}
            given = part["images"].items()
            part["images"] = Images(**{key: min(value, few[key]) if key in few else value for key, value in given})
            part["words"] = [*part["images"].words(lab), *part["words"]]
        part["checks"] = [check for given in part["checks"] for check in _checks(given, part["cases"])]
        found.append(part)
    return found


def _checks(given: dict[str, Any], cases: Mapping[str, Case]) -> list[Check]:
    (kind,) = COMPARISONS.keys() & given.keys()
    each = [name for name in cases if name not in given.values()] if "${case}" in given.values() else [""]
    filled = [fill({"metric": "wall_seconds", "theirs": given["ours"], **given}, {"case": name}) for name in each]
    return [{**check, "kind": kind, "target": check[kind]} for check in filled]


def fill(value: Any, names: Mapping[str, Any]) -> Any:
    """Return a value with its placeholders filled in and its lists flattened: "epochs=${epochs}ep" -> "epochs=2ep".

    A text that is a single placeholder becomes its value.
    """
    if isinstance(value, Mapping):
        return {str(fill(key, names)): fill(item, names) for key, item in value.items()}
    if isinstance(value, list):
        filled = [fill(item, names) for item in value]
        return [item for part in filled for item in (part if isinstance(part, list) else [part])]
    if not isinstance(value, str):
        return value
    used = {name: names[name] for name in re.findall(r"\$\{(\w+)\}", value) if name in names}
    if list(used) == [value[2:-1]]:
        return used[value[2:-1]]
    texts = {name: ",".join(map(str, item)) if isinstance(item, list) else item for name, item in used.items()}
    return Template(value).safe_substitute(texts)


def load() -> dict[str, Row]:
    """Return the rows by their ids, in the order of the page."""
    table = yaml.safe_load((BENCH / "rows.yaml").read_text(encoding="utf-8"))
    rows = {name: {**table["defaults"], **row} for name, row in table["rows"].items()}
    return {name: {**row, "shows": fill(row["shows"], {})} for name, row in rows.items()}


ROWS = load()
