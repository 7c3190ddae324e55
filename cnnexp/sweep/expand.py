"""The runs of a sweep: every combination of what its study varies and of what was typed."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser

from cnnexp.config import signature
from cnnexp.config.arms import CHOSEN
from cnnexp.config.schema import SWEEP, Study
from cnnexp.config.words import as_text, choices_of, in_order, key_of
from cnnexp.errors import UserError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

MAX_RUNS = 10_000


def expand(words: Sequence[str], study: Any, loader: ConfigLoader) -> list[list[str]]:
    """Return the overrides of every run; the last key varies fastest. A typed value replaces the study's.

    words: the typed overrides. study: the `study` node of the sweep. Raises UserError for no run, or too many.
    """
    typed = {key_of(word) for word in words}
    varied = [f"{key}={values}" for key, values in axes(study).items() if key not in typed]
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(in_order([*varied, *words]))
    check_size(overrides)
    (batch,) = BasicSweeper.split_arguments(overrides, None)
    return [list(run) for run in batch]


def axes(study: Any) -> dict[str, str]:
    """Return what a study varies, each key with its values as typed: {"+arm": "baseline,dropout", "seed": "0,1,2"}.

    study: the `study` node of a config. Raises UserError for arms beside a grid, and for values that are not a list.
    """
    signature.check_value("study", study, dict)
    signature.check("study", study, Study)
    arms, grid, seeds = (study.get(key) for key in SWEEP)
    found = {"+arm": list(arms)} if arms else {}
    if grid:
        if found:
            raise UserError("study.grid: given beside study.arms; allowed: one of them")
        found = {str(key): values for key, values in grid.items()}
        for key, values in found.items():
            signature.check_value(f"study.grid.{key}", values, list[int | float | str | bool | None])
            _check_not_empty(f"study.grid.{key}", values)
            if key in CHOSEN and (odd := [value for value in values if not isinstance(value, str)]):
                example = ", ".join(choices_of()[key][:2])
                raise UserError(f"study.grid.{key}: given {as_text(odd[0])}; allowed: choices, such as [{example}]")
    if seeds is not None:
        _check_not_empty("study.seeds", seeds)
        found["seed"] = seeds
    return {key: ",".join(map(as_text, values)) for key, values in found.items()}


def _check_not_empty(where: str, values: Sequence[Any]) -> None:
    if not values:
        raise UserError(f"{where}: given []; allowed: at least one value")


def check_size(overrides: Sequence["Override"]) -> None:
    """Raise UserError for values that make no run, that another word replaces, or that make more than MAX_RUNS runs.

    This is before all runs are written out.
    """
    from hydra.core.override_parser.types import RangeSweep

    swept = [override for override in overrides if override.is_discrete_sweep()]
    keys = [override.key_or_group for override in overrides]
    if twice := [override.key_or_group for override in swept if keys.count(override.key_or_group) > 1]:
        raise UserError(f"{twice[0]}: given more than once, with several values; give all its values in one place")
    counts = []
    for override in swept:
        given = override.value()
        values: Iterable[Any] = given.range() if isinstance(given, RangeSweep) else override.sweep_iterator()
        counts.append(len(list(itertools.islice(values, MAX_RUNS + 1))))
        if not counts[-1]:
            raise UserError(f"{override.input_line}: there is no such value, and so no run")
    if math.prod(counts) > MAX_RUNS:
        named = ", ".join(override.key_or_group for override in swept)
        raise UserError(f"{named}: these values make more than {MAX_RUNS:,} runs; a sweep has at most so many")
