"""Runs from which a setting is chosen: a sweep over settings, with nothing that its arms are compared with."""

from collections.abc import Collection, Mapping
from typing import Any

ADVICE = (
    "Choose settings by validation accuracy, not by test accuracy: the best of several test accuracies is too high."
)


def is_choice(study: Mapping[str, Any] | None, arms: Collection[str]) -> bool:
    """Return whether these are several arms without a baseline and claims. study: study.json, None without one."""
    planned = study is not None and (study.get("baseline") or study.get("claims"))
    return len(set(arms)) > 1 and not planned and "baseline" not in arms
