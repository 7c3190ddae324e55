"""Hydra's sweeper of every multirun: all combinations of the values, handed to the launcher at once."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from cnnexp.config import compose as configs
from cnnexp.errors import UserError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

MOST_RUNS = 10_000


class LocalSweeper(Sweeper):
    """Combines values as Hydra's basic sweeper does, but leaves no `multirun.yaml`: study.json says what was asked for.

    That one also writes before anything is checked, and composes every run once more than the launcher does.
    """

    def __init__(self, params: Mapping[str, str] | None):
        self.params = {} if params is None else params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take Hydra's context and make the launcher; called by Hydra."""
        self.context = hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Sequence[Any]:
        """Launch every combination of the study's own axes and what was typed; a typed value replaces an axis."""
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        assert self.launcher is not None
        if not isinstance(self.params, Mapping):
            raise UserError(f"hydra.sweeper.params: given {self.params!r}; allowed: keys with their values, +arm: a,b")
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        axes = [f"{key}={values}" for key, values in self.params.items()]
        overrides = parser.parse_overrides(configs.by_precedence([*axes, *arguments]))
        check_size(overrides)
        (batch,) = BasicSweeper.split_arguments(overrides, None)
        return [self.launcher.launch(batch, initial_job_idx=0)]


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
