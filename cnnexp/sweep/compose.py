"""Composing the runs of a sweep: Hydra composes each choice of groups once; plain values are set on copies of that.

Hydra, too, sets plain values (`seed=3`, `optimizer.lr=0.01`) last, after its defaults lists, so both ways give the same
config. Composing takes 50 ms and unpickling a copy 0.5 ms (copy.deepcopy 2 ms), which matters for a thousand runs.
"""

import pickle  # noqa: TID251 - of bytes that this process made
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnexp.config import compose as configs
from cnnexp.errors import UserError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override


class Composer:
    """Composes one run's config after another."""

    def __init__(self, loader: ConfigLoader, places: Sequence[str] = ()):
        self.loader, self.places = loader, places
        self.composed: dict[tuple[str, ...], tuple[bytes, Any]] = {}
        self.parsed: dict[str, Override] = {}
        self.groups: dict[str, bool] = {}

    def __call__(self, overrides: Sequence[str]) -> tuple[dict[str, Any], Any]:
        """Return a run's config, resolved, and its `hydra` node. Raises what Hydra and `compose.resolve` raise."""
        plain = [override for override in map(self.parse, overrides) if self.is_plain(override)]
        lines = {override.input_line for override in plain}
        own, hydra_node = self.compose(tuple(line for line in overrides if line not in lines))
        OmegaConf.set_struct(own, True)  # no new keys
        try:
            for override in plain:
                OmegaConf.update(own, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:  # such as an unknown key: Hydra's error says more
            own, hydra_node = self.compose(tuple(overrides))
        return configs.resolve(own), hydra_node

    def parse(self, line: str) -> "Override":
        """Read an override, once."""
        if line not in self.parsed:
            (self.parsed[line],) = configs.parse([line])
        return self.parsed[line]

    def compose(self, overrides: tuple[str, ...]) -> tuple[DictConfig, Any]:
        """Return a copy of what Hydra composes, and its `hydra` node; the same overrides are composed once."""
        if overrides not in self.composed:
            composed = configs.load(self.loader, [*self.places, *overrides])
            self.composed[overrides] = pickle.dumps(configs.without_hydra(composed)), composed.hydra
        pickled, hydra_node = self.composed[overrides]
        return pickle.loads(pickled), hydra_node  # noqa: S301

    def is_plain(self, override: "Override") -> bool:
        """Tell whether an override only gives a key of the config another value."""
        adds = override.is_add() or override.is_force_add() or override.is_delete()
        if adds or override.package is not None or override.is_hydra_override():
            return False
        key = override.key_or_group
        if key not in self.groups:
            self.groups[key] = bool(self.loader.get_group_options(key))
        return not isinstance(override.value(), dict) and not self.groups[key]


def without_defaults(changes: Sequence[str], overrides: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """Return the changes, which are among a run's overrides, without those that leave its config as it is.

    config: of the run, resolved.
    """
    with configs.loader() as loader:
        compose, kept = Composer(loader), list(overrides)
        for change in changes:
            fewer = [word for word in kept if word != change]
            with suppress(UserError, HydraException, OmegaConfBaseException):  # another override needs this one
                kept = fewer if compose(configs.prepare(fewer))[0] == config else kept
    return [change for change in changes if change in kept]
