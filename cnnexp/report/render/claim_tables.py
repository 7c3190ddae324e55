"""The tables of the claims and of the effects."""

import math
from collections.abc import Sequence

from cnnexp.pages.tables import Table
from cnnexp.report.analysis.effects import Effect
from cnnexp.report.analysis.judge import Judged
from cnnexp.report.analysis.reported_comparison import amount, with_std
from cnnexp.report.analysis.statistics import Difference, p_value

WORDS = frozenset({"Claim", "Verdict", "Remark", "Effect", "Of the arms"})
CLAIM_NOTES = (
    "Reproduced: the claim's left side minus its right side, a number on the right apart; mean ± sample standard "
    "deviation over the seeds that all its arms have; 95 % interval: Student's t. Reported: the same of the reported "
    "values.",
    "holds / does not hold: two-sided paired t-test, p < 0.05 after Holm over all comparisons and claims of the study "
    "(a comparison that a claim repeats counts once), and the value on that side of the number claimed. not "
    "decided: p < 0.05 only before Holm, or two seeds, or the same difference at every seed. within noise: none of "
    "these.",
    "<= and >= are tested as < and >, so a claim that two arms are equal or better never holds where they are equal: "
    "claim a margin, as in a - b < 1 points.",
    "Seeds that would decide: where t s / √n, with the deviation s observed here and t at 0.05 divided by the number "
    "of tests, falls below the distance from the number claimed. A guide, no promise: at that number the chance to "
    "decide is about one half.",
    "std(...): the ratio of the deviations over the seeds, with the interval and test of Pitman and Morgan (1939).",
    "Converges faster: the epochs to a level that both arms reach, for each seed a point below the lower of the two "
    "runs' best validation accuracies; less than 0 where the first is faster.",
    "At every epoch: a paired t-test at each epoch that all runs reached; shown is the epoch with the smallest mean "
    "lead. p is the largest of them where all leads are on the claimed side (an intersection-union test, Berger 1982), "
    "and otherwise the smallest of the others times the number of epochs. "
    "Test images are looked at once, so validation stands for them.",
)
EFFECT_NOTES = (
    "Points of test accuracy, mean over the seeds that all these arms have, with Student's 95 % interval. How the arms "
    "are built is read off their recorded changes.",
    "Verdicts: two-sided t-test over the seeds, p < 0.05 after Holm over the tested effects of this table: a family of "
    "their own, corrected apart from the comparisons and claims. Gains alone are tested in the comparison.",
)
FACTORIAL_NOTE = (
    "Contrasts of a full factorial (Box, Hunter & Hunter): a main effect is averaged over the other techniques, and "
    "the interaction of two is half of what one gains with the other beyond what it gains without."
)


def interval(test: Difference, unit: str, signed: bool = True) -> str:
    """Format "[+1.10, +3.90]", or "n = 1" where there is no interval."""
    if math.isnan(test.low):
        return f"n = {test.n}"
    return f"[{amount(test.low, unit, signed)}, {amount(test.high, unit, signed)}]"


def _unit(judged: Judged) -> str:
    return judged.evidence.claim.unit if judged.evidence.claim else ""


def _is_signed(unit: str) -> bool:
    return unit not in ("%", "ratio")


def claims(judged: Sequence[Judged]) -> Table:
    """Return the claims with their verdicts and remarks."""
    lines = []
    for j in judged:
        unit, test = _unit(j), j.evidence.test
        signed = _is_signed(unit)
        here = f"{with_std(test.mean, test.std, unit, signed)} {unit}" if test.n else "-"
        cells = [j.evidence.text, amount(j.evidence.reported, unit, signed), here, interval(test, unit, signed)]
        lines.append([*cells, f"{test.n}", p_value(j.p_holm), j.verdict, j.remark])
    headings = ["Claim", "Reported", "Reproduced", "95 % interval", "n", "p (Holm)", "Verdict", "Remark"]
    return Table(headings, lines, words=WORDS)


def claims_terminal(judged: Sequence[Judged]) -> Table:
    """Return the claims for a terminal of 120 columns."""
    lines = []
    for j in judged:
        unit, test = _unit(j), j.evidence.test
        signed = _is_signed(unit)
        limits = f" {interval(test, unit, signed)}" if not math.isnan(test.low) else ""
        here = f"{amount(test.mean, unit, signed)}{limits} {unit}" if test.n else "-"
        lines.append([j.evidence.text, amount(j.evidence.reported, unit, signed), here, f"{test.n}", j.verdict])
    return Table(["Claim", "Reported", "Reproduced", "n", "Verdict"], lines, words=WORDS | {"Reproduced"})


def claims_csv(judged: Sequence[Judged]) -> tuple[list[str], list[list[str | float | int]]]:
    """Return the claims in full precision: headings, and rows in each claim's own unit."""
    headings = ["claim", "unit", "reported", "mean", "std", "low95", "high95", "n", "p", "p_holm", "verdict", "remark"]
    lines: list[list[str | float | int]] = []
    for j in judged:
        t = j.evidence.test
        numbers = [j.evidence.reported, t.mean, t.std, t.low, t.high, t.n, t.p, j.p_holm]
        lines.append([j.evidence.text, _unit(j), *numbers, j.verdict, j.remark])
    return headings, lines


def effects(found: Sequence[Effect]) -> Table:
    """Return the effects with their verdicts, and what of the arms they are."""
    headings = ["Effect", "Points", "95 % interval", "n", "p (Holm)", "Verdict", "Of the arms"]
    lines = [
        [
            e.name,
            with_std(e.points.mean, e.points.std, "points", signed=True),
            interval(e.points, "points"),
            f"{e.points.n}",
            p_value(e.p_holm),
            e.verdict or "-",
            e.formula,
        ]
        for e in found
    ]
    return Table(headings, lines, words=WORDS)


def effects_terminal(found: Sequence[Effect]) -> Table:
    """Return the tested effects for a terminal."""
    lines = [
        [e.name, f"{amount(e.points.mean, 'points', True)} {interval(e.points, 'points')}", f"{e.points.n}", e.verdict]
        for e in found
        if e.words
    ]
    return Table(["Effect", "Points", "n", "Verdict"], lines, words=WORDS)


def effect_notes(found: Sequence[Effect]) -> tuple[str, ...]:
    """Return what a reader of the effects must know."""
    return (*EFFECT_NOTES, FACTORIAL_NOTE) if any(" x " in e.name for e in found) else EFFECT_NOTES


def effects_csv(found: Sequence[Effect]) -> tuple[list[str], list[list[str | float | int]]]:
    """Return the effects in full precision: headings with units, and rows."""
    headings = ["effect", "formula", "points_mean", "points_std", "points_low95", "points_high95", "n", "p", "p_holm"]
    lines: list[list[str | float | int]] = []
    for e in found:
        t = e.points
        lines.append([e.name, e.formula, t.mean, t.std, t.low, t.high, t.n, t.p, e.p_holm, e.verdict])
    return [*headings, "verdict"], lines
