"""Runs with identical results although their configs differ: a setting that never took effect. Imports no torch.

The seed counts as a setting. Keys that cannot change a number may differ.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cnnexp.config.keys import Purpose, counts, flatten
from cnnexp.errors import UserError
from cnnexp.records.fields import TIMING
from cnnexp.records.run_record import RunRecord
from cnnexp.text import plural

Named = tuple[str, RunRecord]  # an arm's label and one of its runs


def sentences(runs: Sequence[Named]) -> list[str]:
    """Return a sentence for each set of arms with identical runs, naming the settings in which they differ."""
    seeds: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for group in identical(runs):
        arms = tuple(dict.fromkeys(label for label, _ in group))
        named = " and ".join(dict.fromkeys(str(run.info.get("seed")) for _, run in group))
        seeds.setdefault((arms, differing([run for _, run in group])), []).append(named)
    return [
        f"{' and '.join(arms)}, seed{'s' * (len(at) > 1 or ' ' in at[0])} {', '.join(at)}: the same to the last bit, "
        f"though their configs differ in {', '.join(keys)}: that never took effect"
        for (arms, keys), at in seeds.items()
    ]


def identical(runs: Iterable[Named]) -> list[list[Named]]:
    """Return the sets of finished runs whose numbers are identical to the last bit and whose configs differ."""
    alike: dict[str, list[Named]] = {}
    for label, run in runs:  # the rows and logits are read only where the results agree
        if run.info.get("status") == "done" and isinstance(result := run.info.get("result"), dict):
            known = {key: value for key, value in result.items() if key.endswith(("_loss", "_accuracy"))}
            alike.setdefault(json.dumps(known, sort_keys=True), []).append((label, run))
    found: dict[str, list[Named]] = {}
    for candidates in alike.values():
        for named in candidates if len(candidates) > 1 else []:
            if (key := digest(named[1])) is not None:
                found.setdefault(key, []).append(named)
    return [group for group in found.values() if len(group) > 1 and differing([run for _, run in group])]


def digest(run: RunRecord) -> str | None:
    """Hash a run's metric rows, without times, and its test logits; None if they cannot be read."""
    try:
        rows, logits = untimed(run), run.predictions()["logits"]
    except UserError:
        return None
    return hashlib.sha256(json.dumps(rows).encode() + logits.tobytes()).hexdigest()


def untimed(run: RunRecord) -> list[dict[str, Any]]:
    """Return the metric rows of a run, of epochs and then of steps, without the columns of times."""
    rows = [*run.rows(), *run.rows("step")]
    return [{key: value for key, value in row.items() if key not in TIMING} for row in rows]


def first_difference(first: RunRecord, second: RunRecord, names: tuple[str, str] = ("a", "b")) -> str | None:
    """Describe the first metric row that differs between two runs; None if all are the same. names: of the runs."""
    rows, others = untimed(first), untimed(second)
    for number, (row, other) in enumerate(zip(rows, others, strict=False), 1):
        if json.dumps(row) != json.dumps(other):  # as text, because nan is not equal to itself
            keys = [key for key in {**row, **other} if json.dumps(row.get(key)) != json.dumps(other.get(key))]
            values = ", ".join(f"{key} {row.get(key)} and {other.get(key)}" for key in keys)
            return f"differ first in row {number} (epoch {row.get('epoch')}, {row.get('split')}): {values}"
    if len(rows) == len(others):
        return None
    return f"the same for {plural(min(len(rows), len(others)), 'row')}; only {names[len(others) > len(rows)]} has more"


def differing(runs: Sequence[RunRecord], purpose: Purpose = "effect") -> tuple[str, ...]:
    """Return the settings that count for a purpose in which the configs of runs differ; () if one cannot be read."""
    if len({(run.info.get("fingerprint"), run.info.get("seed")) for run in runs}) == 1:
        return ()
    try:
        configs = [flatten(run.config()) for run in runs]
    except UserError:
        return ()
    return tuple(key for key in varying(configs) if counts(key, purpose))


def varying(configs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the keys in which flat configs differ."""
    first, *others = [*configs] or [{}]
    return list(dict.fromkeys(k for other in others for k in {**first, **other} if first.get(k) != other.get(k)))
