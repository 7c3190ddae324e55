"""The words of a command before Hydra sees them: short names, several presets as one, quotes, what wins over what."""

import re
from collections.abc import Sequence

from cnnexp.errors import UserError

ALIASES = {"aug": "augmentation"}
# Each wins over those before it, and every other override wins over all of them.
FIRST = ("+study", "+pretrain", "+arm", "+preset")
# Hydra's own settings that have an effect here. cnnexp starts the runs and names their folders, so others have none.
HYDRA = {"hydra.searchpath", "hydra.mode", "hydra.launcher.plan", "hydra.launcher.budget", "hydra.launcher.fail_fast"}
HYDRA_CHOICES = {"hydra/launcher": "local", "hydra/sweeper": "local"}


def key_of(word: str) -> str:
    """Return the key of an override as it was typed: "+arm" of "+arm=dropout"."""
    return word.partition("=")[0]


def in_order(overrides: Sequence[str]) -> list[str]:
    """Return overrides with full names, presets as one list, and sorted by what wins: study < arm < preset < typed."""
    named = [full_name(word) for word in overrides]
    presets = [word.partition("=")[2] for word in named if key_of(word) == "+preset"]
    if len(presets) > 1:
        joined = ",".join(preset.strip("[]") for preset in presets)
        named = [*(word for word in named if key_of(word) != "+preset"), f"+preset=[{joined}]"]
    return sorted(named, key=lambda word: FIRST.index(key_of(word)) if key_of(word) in FIRST else len(FIRST))


def check_hydra(overrides: Sequence[str]) -> None:
    """Raise UserError for a setting of Hydra's that cnnexp does not use."""
    for word in overrides:
        key, _, value = word.lstrip("+~").partition("=")
        if not re.match(r"hydra([./@]|$)", key) or key in HYDRA:
            continue
        if key not in HYDRA_CHOICES:
            fix = "leave it out; outputs=DIR and study.name=NAME say where results go, slots=cpu:2 where runs are made"
            raise UserError(f"{key}: cnnexp does not use this setting of Hydra's; {fix}")
        if value != HYDRA_CHOICES[key]:
            raise not_ours(key, value)


def not_ours(key: str, given: str) -> UserError:
    """Return the error for a launcher or sweeper that is not cnnexp's. key: hydra/launcher or hydra/sweeper."""
    return UserError(
        f"{key}: given {given}; allowed: {HYDRA_CHOICES[key]}; type {key}={HYDRA_CHOICES[key]}, or nothing"
    )


def quoted(text: str) -> str:
    """Return text as Hydra reads it back: in single quotes, those within it and backslashes before them escaped."""
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text) + "'"


def full_name(word: str) -> str:
    """Return an override with a short name written out: +aug=full, aug=full -> augmentation=full."""
    for short, name in ALIASES.items():
        word = re.sub(rf"^\+?{short}=", f"{name}=", word)
        word = re.sub(rf"^([+~]*){short}\.", rf"\1{name}.", word)
    return word


def study_of(overrides: Sequence[str]) -> str | None:
    """Return the study that overrides name, None without one.

    Raises UserError for several studies, and for an arm without a study.
    """
    named = [word.partition("=")[2] for word in overrides if key_of(word) == "+study"]
    if len(named) > 1 or any("," in name for name in named):
        raise UserError(f"+study: given {' and '.join(named)}; allowed: one study in a command")
    if not named and (arms := [word for word in overrides if key_of(word) == "+arm"]):
        raise UserError(f"{arms[0]}: an arm belongs to a study; add +study=NAME")
    return named[0] if named else None
