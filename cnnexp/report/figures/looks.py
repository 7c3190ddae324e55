"""How an arm looks: the same colour, marker and label in every figure."""

from collections.abc import Sequence
from dataclasses import dataclass

from cnnexp.pages.fonts import labels
from cnnexp.pages.style import BASELINE, COLOURS, LABEL, MARKERS
from cnnexp.report.read.study import Arm


@dataclass(frozen=True)
class Look:
    """How an arm is drawn."""

    label: str
    colour: str
    marker: str


def looks(arms: Sequence[Arm], baseline: Arm | None) -> dict[str, Look]:
    """Return {arm.key: Look}: the baseline grey, the others by their place in the study."""
    every = [*(a for a in arms if a is not baseline), *([baseline] if baseline else [])]
    names = labels([a.label for a in every], LABEL)
    found = {a.key: Look(names[i], COLOURS[i % 8], MARKERS[i // 8 % 8]) for i, a in enumerate(every)}
    if baseline:
        found[baseline.key] = Look(names[-1], BASELINE, "o")
    return found
