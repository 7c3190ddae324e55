"""Hydra's sweeper of every multirun: all combinations of the values, handed to the launcher at once."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from cnnexp import config as configs


class LocalSweeper(Sweeper):
    """Combines values as Hydra's basic sweeper does, but leaves no `multirun.yaml`: study.json says what was asked for.

    That one also writes before anything is checked, and composes every run once more than the launcher does.
    """

    def __init__(self, params: Mapping[str, str] | None):
        self.params = params or {}

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
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        axes = [f"{key}={values}" for key, values in self.params.items()]
        overrides = parser.parse_overrides(configs.by_precedence([*axes, *arguments]))
        (batch,) = BasicSweeper.split_arguments(overrides, None)
        return [self.launcher.launch(batch, initial_job_idx=0)]
