"""Composing the runs of a sweep: Hydra composes each choice of groups once; plain values are set in that, in turn.

Hydra, too, sets plain values (`seed=3`, `optimizer.lr=0.01`) last, after its defaults lists, so both ways give the same
config. Composing takes 50 ms, which matters for a thousand runs.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
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


class Composed:
    """A config that Hydra composed, to set values in and put them back: a copy for each run would take 2 ms."""

    def __init__(self, whole: DictConfig):
        self.config, self.hydra = configs.without_hydra(whole), whole.hydra
        self.first = OmegaConf.to_container(self.config)
        OmegaConf.set_struct(self.config, True)  # no new keys

    def put_back(self, overrides: "Iterable[Override]") -> None:
        """Give what overrides have changed its first value."""
        assert isinstance(self.first, dict)
        for name in {re.split(r"[.\[]", override.key_or_group)[0] for override in overrides} & self.first.keys():
            self.config[name] = self.first[name]


class Composer:
    """Composes one run's config after another."""

    def __init__(self, loader: ConfigLoader, places: Sequence[str] = ()):
        self.loader, self.places = loader, places
        self.composed: dict[tuple[str, ...], Composed] = {}
        self.parsed: dict[str, Override] = {}
        self.groups: dict[str, bool] = {}

    def __call__(self, overrides: Sequence[str]) -> tuple[dict[str, Any], Any]:
        """Return a run's config, resolved, and its `hydra` node. Raises what Hydra and `compose.resolve` raise."""
        plain = [override for override in map(self.parse, overrides) if self.is_plain(override)]
        lines = {override.input_line for override in plain}
        composed = self.compose(tuple(line for line in overrides if line not in lines))
        try:
            for override in plain:
                OmegaConf.update(composed.config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:  # such as an unknown key: Hydra's error says more
            composed.put_back(plain)
            composed, plain = self.compose(tuple(overrides)), []
        try:
            return configs.resolve(composed.config), composed.hydra
        finally:
            composed.put_back(plain)

    def parse(self, line: str) -> "Override":
        """Read an override, once."""
        if line not in self.parsed:
            (self.parsed[line],) = configs.parse([line])
        return self.parsed[line]

    def compose(self, overrides: tuple[str, ...]) -> "Composed":
        """Return what Hydra composes; the same overrides are composed once."""
        if overrides not in self.composed:
            self.composed[overrides] = Composed(configs.load(self.loader, [*self.places, *overrides]))
        return self.composed[overrides]

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
