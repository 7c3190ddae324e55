"""How an arm looks: the same colour, marker and label in every figure."""

from collections.abc import Sequence
from dataclasses import dataclass

from cnnexp.pages.style import BASELINE, COLOURS, LABEL, MARKERS
from cnnexp.report.read.study import Arm
from cnnexp.text import shorten


@dataclass(frozen=True)
class Look:
    """How an arm is drawn."""

    label: str
    colour: str
    marker: str


def looks(arms: Sequence[Arm], baseline: Arm | None) -> dict[str, Look]:
    """Return {arm.key: Look}: the baseline grey, the others by their place in the study."""
    others = [a for a in arms if a is not baseline]
    found = {a.key: Look(shorten(a.label, LABEL), COLOURS[i % 8], MARKERS[i // 8 % 8]) for i, a in enumerate(others)}
    if baseline:
        found[baseline.key] = Look(shorten(baseline.label, LABEL), BASELINE, "o")
    return found
