"""The comparison: one row per arm, with its results over the seeds and its difference from the baseline."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cnnexp.report.analysis import paired_runs
from cnnexp.report.analysis.decisions import NO_DECISION, Decision, compared_with, in_words
from cnnexp.report.analysis.judge import against_baseline
from cnnexp.report.analysis.outlook import NO_OUTLOOK, Outlook
from cnnexp.report.analysis.statistics import Estimate, McNemar, paired, summarise
from cnnexp.report.read.comparable import NOT_COMPARABLE, why_not
from cnnexp.report.read.study import Arm, Study
from cnnexp.report.read.tested import same_test_images
from cnnexp.text import shorten

VERDICTS = {  # what a verdict begins with, in the order of the summary; every other is not decided
    "better": "Better than {}",
    "worse": "Worse than {}",
    "within noise": "No detectable difference from {}",
    "not decided": "Not decided",
    NOT_COMPARABLE: "Not comparable with {}",
    "provisional": "Provisional",
}

MAX_REASON = 60  # characters of why an arm is in no comparison
NOTHING_LEARNED = (
    "Nothing shows that a network learned: every run is at chance, not significantly better than one answer for all."
)


@dataclass(frozen=True)
class Row:
    """An arm's line of the comparison. Accuracies are fractions. difference: None without shared seeds or test images.

    mcnemar: of two arms that share one seed. decision, outlook: of the comparison. verdict: "" of the baseline.
    """

    arm: Arm
    test: Estimate
    is_baseline: bool = False
    difference: Estimate | None = None
    decision: Decision = NO_DECISION
    outlook: Outlook = NO_OUTLOOK
    verdict: str = ""
    mcnemar: McNemar | None = None

    @property
    def diverged(self) -> int:
        """Return how many runs of the arm diverged: they are in no mean."""
        return len(self.arm.diverged)

    def over_seeds(self, *path: str) -> Estimate:
        """Estimate the mean of a number of run.json over the arm's done runs, such as ("seconds", "train")."""
        return summarise(self.arm.values(*path))

    def mean(self, *path: str) -> float:
        """Return the mean of over_seeds."""
        return self.over_seeds(*path).mean

    @cached_property
    def epochs_to_plateau(self) -> float:
        """Return the mean over the seeds."""
        return summarise({run.unit: run.epochs_to_plateau() for run in self.arm.runs}).mean

    @property
    def train_seconds(self) -> Estimate:
        """Return the training time of a run."""
        return self.over_seeds("seconds", "train")

    def model(self, name: str) -> float:
        """Return a number of the network, such as "macs"; nan if it is not recorded."""
        return self.arm.first.number("model", name)


def compare(arm: Arm, base: Arm | None, decisions: Mapping[str, Decision], outlooks: Mapping[str, Outlook]) -> Row:
    """Compare an arm with the baseline, paired by seed. decisions, outlooks: of all tests of the study."""
    test = summarise(arm.values("result", "test_accuracy"))
    if base is None or arm is base:
        return Row(arm, test, is_baseline=arm is base)
    if reason := why_not(arm, base):
        return Row(arm, test, verdict=reason)
    if not same_test_images(arm, base):
        return Row(arm, test, verdict="other test images: no verdict")
    name, sign = against_baseline(arm, base)
    difference, decision = paired(arm.accuracies(), base.accuracies()), decisions[name]
    mcnemar = paired_runs.same_images_test(arm, base) if difference.n == 1 and not difference.folds else None
    diverged = len(arm.diverged) if difference.mean > 0 else len(base.diverged)
    words = in_words(difference, decision, sign * decision.side, ("better", "worse"), diverged)
    if not arm.runs and not decision.provisional:
        words = "all runs diverged"
    outlook = outlooks.get(name, NO_OUTLOOK)
    return Row(arm, test, False, difference if difference.n else None, decision, outlook, words, mcnemar)


def sentences(study: Study, rows: Sequence[Row]) -> list[str]:
    """Describe the result: first the summary, then a sentence for each arm."""
    if not any(row.test.n for row in rows):
        return ["No run is done yet, so there is nothing to compare."]
    if not study.baseline and len(rows) == 1:
        return [f"One arm, {rows[0].arm.label}: nothing to compare it with."]
    if not study.baseline:
        return [f"{len(rows)} arms and no baseline: they are listed, not ranked (name one with --baseline ARM)."]
    baseline, others = study.baseline.label, [row for row in rows if not row.is_baseline]
    if not others:
        return [f"Only the baseline, {baseline}, has finished runs: there is nothing to compare it with."]
    summary = " ".join([*[NOTHING_LEARNED] * nothing_learned(rows), _summary(others, baseline)])
    return [summary, *(_sentence(row, baseline) for row in others)]


def nothing_learned(rows: Sequence[Row]) -> bool:
    """Tell whether there are results, and all of them are at chance, so that no difference says anything."""
    runs = [run for row in rows for run in row.arm.runs]
    return bool(runs) and all(run.at_chance for run in runs)


def in_short(study: Study, rows: Sequence[Row], most: int = 6) -> str:
    """Return the summary alone; of more than `most` arms with one verdict it names the first."""
    others = [row for row in rows if not row.is_baseline]
    compared = study.baseline and others and any(row.test.n for row in rows)
    if compared and nothing_learned(rows):
        return NOTHING_LEARNED
    return _summary(others, study.baseline.label, most) if compared and study.baseline else sentences(study, rows)[0]


def _summary(others: Sequence[Row], baseline: str, most: int = 0) -> str:
    groups: dict[str, list[Row]] = {}
    for row in others:
        groups.setdefault(kind_of(row.verdict), []).append(row)
    return " ".join(
        f"{VERDICTS[kind].format(baseline)}: {_listed(groups[kind], most)}." for kind in VERDICTS if kind in groups
    )


def kind_of(verdict: str) -> str:
    """Return which of VERDICTS a verdict is."""
    return next((kind for kind in VERDICTS if verdict.startswith(kind)), "not decided")


def _listed(rows: Sequence[Row], most: int) -> str:
    """Name arms: "a, b (all runs diverged); c and 2 more", with the reason of those that are in no comparison."""
    shown = rows if not most or len(rows) <= most else rows[: most - 1]
    reasons: dict[str, list[str]] = {}
    for row in shown:
        reasons.setdefault(_why_left_out(row), []).append(row.arm.label)
    named = "; ".join(", ".join(labels) + (f" ({why})" if why else "") for why, labels in reasons.items())
    return named + (f" and {len(rows) - len(shown)} more" if len(shown) < len(rows) else "")


def _why_left_out(row: Row) -> str:
    """Return why an arm has no difference from the baseline, shortened; "" if it has one, or waits for planned runs."""
    if row.difference is not None or kind_of(row.verdict) not in ("not decided", NOT_COMPARABLE):
        return ""
    return shorten(row.verdict.removeprefix(f"{NOT_COMPARABLE}: ").removesuffix(": no verdict"), MAX_REASON)


def _sentence(row: Row, baseline: str) -> str:
    label, difference = row.arm.label, row.difference
    diverged = f" Runs that diverged and are left out of the mean: {row.diverged}." if row.diverged else ""
    if difference is None:
        return f"{label}: {row.verdict}.{diverged}"
    points = f"{100 * difference.mean:+.2f} points against {baseline}"
    if difference.n == 1:
        verdict = row.decision.provisional or "no verdict"
        pair = f" {paired_runs.in_words(row.mcnemar)}" if row.mcnemar else ""
        return f"{label}: {points} at the one {difference.unit} they share: {verdict}.{pair}{diverged}"
    interval = f"95 % interval {100 * difference.low:+.2f} to {100 * difference.high:+.2f}"
    units = f"{difference.n} shared {difference.unit}s"
    over = f"at each of {units}" if difference.all_equal else f"{interval}, {units}"
    return f"{label}: {row.verdict}; {points} ({over}{compared_with(row.decision)}).{_outlook(row.outlook)}{diverged}"


def _outlook(outlook: Outlook) -> str:
    """Say what this number of seeds could have shown, and what more would; "" if nothing is known of it."""
    found = ""
    if not math.isnan(outlook.detectable):
        found = f" This many seeds find a true difference of {outlook.detectable:.2f} points with probability 0.8."
    return f"{found} {outlook.advice}." if outlook.advice else found
