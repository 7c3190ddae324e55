"""Composing runs: Hydra composes each choice of groups once; plain values are set in that, in turn.

Hydra, too, sets plain values (`seed=3`, `optimizer.lr=0.01`) last, after its defaults lists, so both ways give the same
config. Composing takes 50 ms or more, which matters for a thousand runs.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnexp.config import compose as configs
from cnnexp.config.keys import flatten, is_below
from cnnexp.config.words import as_typed, key_of
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
        plain, others = self.divided(overrides)
        composed = self.compose(others)
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

    def divided(self, overrides: Sequence[str]) -> "tuple[list[Override], tuple[str, ...]]":
        """Return the overrides that only give a key another value, whatever the others are, and the others.

        Where a mapping, or a key that is new or goes, is for the same key, or for one above or below, the order counts.
        """
        read = [self.parse(line) for line in overrides]
        changed = [o.key_or_group for o in read if not self.is_plain(o) and not self.is_group(o.key_or_group)]
        values = [o for o in read if self.is_plain(o) and not any(_related(o.key_or_group, key) for key in changed)]
        lines = {override.input_line for override in values}
        return values, tuple(line for line in overrides if line not in lines)

    def before_values(self, overrides: Sequence[str]) -> "Composed":
        """Return what Hydra composes without the overrides that only give a key another value."""
        return self.compose(self.divided(overrides)[1])

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
        return not isinstance(override.value(), dict) and not self.is_group(override.key_or_group)

    def is_group(self, key: str) -> bool:
        """Tell whether a key is a group of configs."""
        if key not in self.groups:
            self.groups[key] = any(source.is_group(key) for source in self.loader.get_sources())
        return self.groups[key]


def _related(key: str, other: str) -> bool:
    return is_below(key, [other]) or is_below(other, [key])


@dataclass(frozen=True)
class ComposedRun:
    """One run: its config, resolved, its `study` and `hydra` nodes as composed, and the words that make it."""

    config: dict[str, Any]
    study: DictConfig
    hydra: DictConfig
    words: list[str]
    compose: Composer

    def without_defaults(self, changes: Sequence[str]) -> list[str]:
        """Return the changes, which are among the words as typed, without those that leave the config as it is."""
        kept, leaves = as_typed(self.words), flatten(self.config)
        for change in changes:
            fewer = [word for word in kept if word != change]
            with suppress(UserError, HydraException, OmegaConfBaseException):  # another word needs this one
                words = configs.prepare(fewer)
                if not self._differs(leaves, change, words) and self.compose(words)[0] == self.config:
                    kept = fewer
        return [change for change in changes if change in kept]

    def _differs(self, leaves: Mapping[str, Any], change: str, others: Sequence[str]) -> bool:
        """Tell at little cost that other words alone do not give the config; False: only composing tells.

        leaves: of the config. They do not if, without the change, they leave another number in its place, or, where
        the change is a choice, choose another builder.
        """
        override = self.compose.parse(change)
        is_plain = self.compose.is_plain(override)
        key = override.key_or_group if is_plain else f"{override.key_or_group}._target_"
        if key not in leaves or key in {key_of(word).lstrip("+~") for word in others}:
            return False
        left = flatten(self.compose.before_values(others).first)
        is_number = key in left and isinstance(left[key], bool | int | float | None)
        return (is_number or not is_plain) and left.get(key) != leaves[key]


def compose_run(words: Sequence[str]) -> ComposedRun:
    """Compose the config of one run. words: prepared. Raises what Hydra and `compose.resolve` raise."""
    with configs.loader() as loader:
        compose = Composer(loader)
        config, hydra = compose(words)
    return ComposedRun(config, compose.before_values(words).config.study, hydra, list(words), compose)
