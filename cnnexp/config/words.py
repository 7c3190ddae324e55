"""The words of a command before Hydra sees them: short names, several presets as one, and what wins over what."""

import re
from collections.abc import Sequence

from cnnexp.errors import UserError

ALIASES = {"aug": "augmentation"}
# Each wins over those before it, and every other override wins over all of them.
FIRST = ("+study", "+pretrain", "+arm", "+preset")


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
