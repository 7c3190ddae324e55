"""The tables of claims, of the arms' effects, and of reported numbers beside reproduced ones."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from cnnexp.claims.metrics import metric
from cnnexp.pages.tables import Column, Table, csv_columns
from cnnexp.report.analysis.decisions import BEFORE_NOTE
from cnnexp.report.analysis.effects import Effect
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.analysis.judge import Judged
from cnnexp.report.analysis.reported_comparison import ReportedComparison
from cnnexp.report.analysis.units import in_words
from cnnexp.report.render.formats import amount, decision_columns, limits, or_dash, with_std
from cnnexp.text import DASH

REPRODUCED, HERE = "Reproduced", "Here"  # a claim's number in the runs, with and without a published one beside it
REPORTED_NOTES = (
    "Reproduced: mean ± sample standard deviation {over}. The reported number is copied from its source.",
)
CLAIM_NOTES = {  # each with a pattern of the claims, verdicts or remarks that it is about
    "Reproduced: the claim's left side minus its right side (a number on the right is not subtracted), over the "
    "{units} that all its arms have, with {interval}. Reported: the same for the reported values.": "",
    "Tests: two-sided paired {t_test}. Limit: what p must be below for a verdict. The claims share a level of their "
    "own; one that repeats a comparison with the baseline has that verdict. holds / does not hold: p below the limit, "
    "by the side of the claimed number.": "",
    "provisional: {planned} are not done.": "^provisional",
    "not comparable: arms of the claim differ in settings that none of them sets.": "^not comparable",
    BEFORE_NOTE: r" \(at \d",
    "within noise: p >= 0.05.": "^within noise",
    "not decided: p < 0.05 but above the limit, or too few {units}, or no spread.": r"^not decided(?! \(\d+ diverged)",
    "not decided (diverged): p below the limit, but diverged runs, which weaken it, are left out.": r"\(\d+ diverged",
    "Detectable: the distance from the claimed number that these {units} would show with probability 0.8, with the "
    "observed deviation.": "more seeds? would decide",
    "Within a margin: two one-sided tests (TOST, Schuirmann 1987); the table has the larger p.": r"\bwithin\s+\d",
    "<= and >= are tested as < and >, so a claim that two arms are equal or better never holds where they are equal: "
    "claim a margin, as in a - b < 1 points, or a within 1 point of b.": "[<>]=",
    "std(...): {std}.": r"std\(",
    "Converges faster: the epochs to a level that both arms reach, for {each} a point below the lower of the two "
    "runs' best validation accuracies; less than 0 where the first is faster.": "converges faster",
    "At every epoch: a paired {t_test} at each epoch that all runs reached, on validation instead of test images. "
    "The table shows the epoch with the smallest mean lead. p is the largest of all if every lead is on the claimed "
    "side (an intersection-union test, Berger 1982), and otherwise the smallest of the others times the number of "
    "epochs.": "at every epoch",
}
EFFECT_NOTES = (
    "Points of test accuracy, mean over the {units} that all these arms have, with {interval}. How the arms "
    "are built is read from their recorded changes.",
    "Verdicts: two-sided {t_test} over the {units}, p below its limit. The tested effects of this table share a "
    "level of their own. What an arm gains over the baseline is tested in the comparison.",
)
FACTORIAL_NOTE = (
    "Contrasts of a full factorial (Box, Hunter & Hunter). The effect of one technique is its gain, averaged over the "
    "arms with and without the others. The interaction of two (x) is half of: what one gains with the other, minus "
    "what it gains without. 0: the gains add up. Below 0: together they gain less than the sum. The interaction of "
    "three is half of: the interaction of two with the third, minus the same without."
)
FACTORIAL_IN_SHORT = (
    "Effects: the gain of each technique, averaged over the arms with and without the others. "
    "x: 0 if the gains add up, below 0 if together they gain less than the sum."
)


def _unit(judged: Judged) -> str:
    return judged.evidence.claim.unit if judged.evidence.claim else ""


def _amount(judged: Judged, value: float) -> str:
    return amount(value, _unit(judged), _is_signed(judged))


def _is_signed(judged: Judged) -> bool:
    return _unit(judged) not in ("%", "ratio")


def _reproduced(judged: Judged) -> str:
    test, unit = judged.evidence.test, _unit(judged)
    return f"{with_std(test.mean, test.std, unit, _is_signed(judged))} {unit}" if test.n else DASH


def _limits(judged: Judged) -> str:
    return limits(judged.evidence.test, _unit(judged), _is_signed(judged))


def _reproduced_in_short(judged: Judged) -> str:
    test = judged.evidence.test
    if test.all_equal:
        return f"{_amount(judged, test.mean)} {_unit(judged)} ({test.all_equal})"
    interval = "" if math.isnan(test.low) else f" {_limits(judged)}"
    return f"{_amount(judged, test.mean)}{interval} {_unit(judged)}" if test.n else DASH


def _points_in_short(effect: Effect) -> str:
    given = limits(effect.points, "points")
    return f"{amount(effect.points.mean, 'points', True)} {f'({given})' if effect.points.all_equal else given}"


def shown_difference(judged: Judged) -> str:
    """Return the difference that a claim is about, such as "+7.64 points"; "" of a claim that is not tested."""
    mean = judged.evidence.test.mean
    return "" if math.isnan(mean) else f"{_amount(judged, mean)} {_unit(judged)}"


CLAIMS: list[Column[Judged]] = [
    Column("Claim", "claim", lambda j: j.evidence.text, kind="words", terminal="Claim"),
    Column("", "unit", _unit),
    Column("Reported", "", lambda j: _amount(j, j.evidence.reported), terminal="Reported"),
    Column("", "reported", lambda j: j.evidence.reported),
    Column(REPRODUCED, "", _reproduced),
    Column("", "", _reproduced_in_short, kind="label", terminal=REPRODUCED),
    Column("95 % interval", "", _limits),
    *csv_columns("{}", ("mean", "std", "low", "high"), lambda j: j.evidence.test),
    Column("n", "n", lambda j: j.evidence.test.n, terminal="n"),
    Column("", "p", lambda j: j.evidence.test.p),
    *decision_columns(lambda j: (j.decision, j.evidence.test.p)),
    Column("Detectable", "", lambda j: amount(j.detectable, _unit(j))),
    Column("", "detectable", lambda j: j.detectable),
    Column("Verdict", "verdict", lambda j: j.verdict, kind="verdict", terminal="Verdict"),
    Column("Remark", "remark", lambda j: j.remark, kind="reason"),
]
EFFECTS: list[Column[Effect]] = [
    Column("Effect", "effect", lambda e: e.name, kind="label", terminal="Effect"),
    Column("", "formula", lambda e: e.formula),
    Column("Points", "", lambda e: with_std(e.points.mean, e.points.std, "points", signed=True)),
    Column("", "", _points_in_short, terminal="Points"),
    Column("95 % interval", "", lambda e: limits(e.points, "points")),
    *csv_columns("points_{}", ("mean", "std", "low", "high"), lambda e: e.points),
    Column("n", "n", lambda e: e.points.n, terminal="n"),
    Column("", "p", lambda e: e.points.p),
    *decision_columns(lambda e: (e.decision, e.points.p)),
    Column("Verdict", "verdict", lambda e: e.verdict, or_dash, kind="verdict", terminal="Verdict"),
    Column("Computed as", "", lambda e: e.formula, kind="words"),
]


def _metric_unit(row: ReportedComparison) -> str:
    return metric(row.metric).level


def _here(row: ReportedComparison) -> str:
    return with_std(row.here.mean, row.here.std, _metric_unit(row)) if row.here.n else "no finished run"


REPORTED: list[Column[ReportedComparison]] = [
    Column("Arm", "arm", lambda r: r.arm, kind="label"),
    Column("Metric", "", lambda r: f"{r.metric} ({_metric_unit(r)})", kind="label"),
    Column("", "metric", lambda r: r.metric),
    Column("", "unit", _metric_unit),
    Column("Reported", "", lambda r: with_std(r.reported, r.reported_std, _metric_unit(r))),
    Column("", "reported", lambda r: r.reported),
    Column("", "reported_std", lambda r: r.reported_std),
    Column(REPRODUCED, "", _here),
    *csv_columns("{}", ("mean", "std", "low", "high"), lambda r: r.here),
    Column("Difference", "", lambda r: amount(r.difference, _metric_unit(r), signed=True)),
    Column("n", "n", lambda r: r.here.n),
    Column("", "difference", lambda r: r.difference),
]


def claim_columns(judged: Sequence[Judged]) -> list[Column[Judged]]:
    """Return the columns of claims; where no number is published, none is for it, and nothing is called reproduced."""
    if _has_reported(judged):
        return CLAIMS
    shown = [column for column in CLAIMS if column.heading != "Reported"]
    names = {REPRODUCED: HERE}
    return [
        replace(c, heading=names.get(c.heading, c.heading), terminal=names.get(c.terminal, c.terminal)) for c in shown
    ]


def claim_notes(judged: Sequence[Judged]) -> list[str]:
    """Return what the reader of a table of claims must know, of what occurs in it."""
    folds = max((claim.evidence.test.folds for claim in judged), default=0)
    said = "\n".join(text for claim in judged for text in (claim.evidence.text, claim.verdict, claim.remark))
    notes = [note for note, about in CLAIM_NOTES.items() if re.search(about, said, re.MULTILINE)]
    if not _has_reported(judged):
        notes[0] = notes[0].replace(REPRODUCED, HERE).partition(" Reported:")[0]
    return in_words(notes, folds)


def _has_reported(judged: Sequence[Judged]) -> bool:
    return any(math.isfinite(claim.evidence.reported) for claim in judged)


def effects(findings: Findings) -> Table[Effect]:
    """Return the effects with their verdicts."""
    before = [BEFORE_NOTE] * any(" (at " in effect.verdict for effect in findings.effects)
    notes = in_words([*EFFECT_NOTES, *before], findings.study.folds)
    return Table(EFFECTS, findings.effects, [*notes, FACTORIAL_NOTE] if is_factorial(findings) else notes)


def is_factorial(findings: Findings) -> bool:
    """Return whether the effects are averaged over the other techniques, with their interactions."""
    return any(" x " in effect.name for effect in findings.effects)


def points_of(effect: Effect) -> str:
    """Return "+3.10 points"; "" without a seed."""
    return f"{amount(effect.points.mean, 'points', True)} points" if effect.points.n else ""


def tested_effects(findings: Findings) -> Table[Effect]:
    """Return the effects that are tested here: gains alone are tested in the comparison."""
    return Table(EFFECTS, [effect for effect in findings.effects if effect.words])
