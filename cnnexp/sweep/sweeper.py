"""Hydra's sweeper of every multirun: all combinations of the values, handed to the launcher at once."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from cnnexp.config import signature
from cnnexp.config.arms import as_word
from cnnexp.config.schema import SWEEP, Study
from cnnexp.config.words import in_order, key_of, not_ours
from cnnexp.errors import UserError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

MOST_RUNS = 10_000


class LocalSweeper(Sweeper):
    """Combines values as Hydra's basic sweeper does, but leaves no `multirun.yaml`: study.json says what was asked for.

    That one also writes before anything is checked, and composes every run once more than the launcher does.
    """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take Hydra's context and make the launcher; called by Hydra."""
        self.context, self.config = hydra_context, config
        if not config.hydra.launcher._target_.endswith(".LocalLauncher"):
            raise not_ours("hydra/launcher", config.hydra.launcher._target_)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Sequence[Any]:
        """Launch every combination of what the study varies and what was typed; a typed value replaces the study's."""
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        plain, typed = OmegaConf.to_container(self.config), {key_of(word) for word in arguments}
        assert isinstance(plain, dict)
        varied = [f"{key}={values}" for key, values in axes(plain.get("study")).items() if key not in typed]
        overrides = parser.parse_overrides(in_order([*varied, *arguments]))
        check_size(overrides)
        (batch,) = BasicSweeper.split_arguments(overrides, None)
        return [self.launcher.launch(batch, initial_job_idx=0)]


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
    if seeds:
        found["seed"] = seeds
    return {key: ",".join(map(as_word, values)) for key, values in found.items()}


def check_size(overrides: Sequence["Override"]) -> None:
    """Raise UserError for values that make no run, or more than MOST_RUNS, before they are all written out."""
    from hydra.core.override_parser.types import RangeSweep

    swept = [override for override in overrides if override.is_discrete_sweep()]
    counts = []
    for override in swept:
        given = override.value()
        values: Iterable[Any] = given.range() if isinstance(given, RangeSweep) else override.sweep_iterator()
        counts.append(len(list(itertools.islice(values, MOST_RUNS + 1))))
        if not counts[-1]:
            raise UserError(f"{override.input_line}: there is no such value, and so no run")
    if math.prod(counts) > MOST_RUNS:
        keys = ", ".join(override.key_or_group for override in swept)
        raise UserError(f"{keys}: these values make more than {MOST_RUNS:,} runs; a sweep has at most so many")
