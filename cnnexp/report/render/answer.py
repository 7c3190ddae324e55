"""The first screen of a report: each arm's difference as a figure, what was tested, how far it is, what to do next."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnnexp.report.analysis.compare import Row, in_short, kind_of, nothing_learned
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.analysis.judge import Judged, against_baseline
from cnnexp.report.analysis.left_out import same_settings, without_result
from cnnexp.report.analysis.plan import NO_PLAN, STOPPED, ended, more_seeds, seeds_beyond
from cnnexp.report.analysis.sequential import FIRST_LOOK
from cnnexp.report.analysis.statistics import LEVEL, Estimate
from cnnexp.report.read.comparable import NOT_COMPARABLE
from cnnexp.report.render.claim_tables import FACTORIAL_IN_SHORT, is_factorial, points_of, shown_difference
from cnnexp.report.render.forest import WITHIN_NOISE, Forest, forest
from cnnexp.text import in_shell, number, percent, plural, shell_words

NOT_NONE = "No detectable difference does not mean none: these runs fit every difference within the interval."
CORRECTED = "Not decided: alone, this test would decide; corrected for {} comparisons, it does not."
LOOKS = "Not decided: p is below 0.05, but not below its limit, because other numbers of seeds are looked at too."
SAME = "Not decided (no spread): the difference is the same each time, and a t-test needs differences that vary."
DIVERGED = (
    "Not decided (diverged): p is below its limit, but diverged runs are left out of the side that is ahead, which "
    "flatters it. More seeds do not change that."
)
TOO_FEW = "Too few seeds"
PROVISIONAL = "Provisional"
TOO_FEW_FOLDS = "Too few folds"
SEEDS = 5  # of an arm, advised where there are too few to test


@dataclass(frozen=True)
class Answer:
    """What the first screen says. status: (kind, one or two words, a sentence). next: (a sentence, a command).

    held: how many claims hold. explained: what verdicts of the figure mean. claims: (text, verdict, its difference),
    those that are decided first. effects: the same of what the techniques add, averaged or beyond their sum.
    """

    verdict: str
    held: str
    status: tuple[str, str, str]
    forest: Forest | None
    explained: Sequence[str]
    facts: dict[str, str]
    claims: Sequence[tuple[str, str, str]]
    effects: Sequence[tuple[str, str, str]]
    next: tuple[str, str] | None


def answer(findings: Findings) -> Answer:
    """Return the first screen of a study's report."""
    now = status(findings)
    claims = sorted(findings.judged, key=lambda judged: not judged.verdict.startswith(("holds", "does not hold")))
    return Answer(
        verdict=f"{in_short(findings.study, findings.rows)} {without_result(findings.study)}".rstrip(),
        held=_of_claims(claims),
        status=now,
        forest=forest(findings),
        explained=_explained(findings),
        facts=_facts(findings),
        claims=[(j.evidence.text, j.verdict.replace(*WITHIN_NOISE), shown_difference(j)) for j in claims],
        effects=[(e.name, e.verdict.replace(*WITHIN_NOISE), points_of(e)) for e in findings.effects if e.words],
        next=_next(findings, now),
    )


def _of_claims(claims: Sequence[Judged]) -> str:
    """Return "Of 6 claims, 3 hold.", "" without claims."""
    hold = sum(judged.verdict.startswith("holds") for judged in claims)
    return f"Of {plural(len(claims), 'claim')}, {hold or 'none'} hold{'s' * (hold < 2)}." if claims else ""


def status(findings: Findings) -> tuple[str, str, str]:
    """Return a kind, one or two words and a sentence: whether the verdicts are final."""
    study, test = findings.study, max((row.test for row in findings.rows), key=lambda test: test.n, default=Estimate())
    plan = study.schedule.plan
    if not test.n:
        return "none", "No result yet", "No run is finished."
    if findings.baseline is None:
        return "none", "No comparison", "There is no baseline, so nothing is tested."
    if any(kind_of(row.verdict) == "provisional" for row in findings.rows) or study.planned_waiting:
        return "provisional", PROVISIONAL, f"{_done(findings)}. Verdicts may change until all are done."
    if apart := sum(kind_of(row.verdict) == NOT_COMPARABLE for row in findings.rows):
        arms = f"{plural(apart, 'arm')} {'has' if apart == 1 else 'have'}"
        return "provisional", "Mixed settings", f"{arms} other settings than {findings.baseline.label}: not compared."
    if test.n < FIRST_LOOK:
        few = TOO_FEW_FOLDS if test.folds else TOO_FEW
        return "none", few, f"{test.units} cannot show whether a difference would come again."
    if nothing_learned(findings.rows):
        return "none", "Nothing learned", "Train longer, or change the learning rate, before you compare."
    if plan is None:
        return "final", "No plan", f"{test.units[:1].upper()}{test.units[1:]} are done. {NO_PLAN}"
    return "final", *_final(findings, test)


def _final(findings: Findings, test: Estimate) -> tuple[str, str]:
    """Return the words and the sentence of a study with a plan. test: of an arm with the most seeds."""
    schedule = findings.study.schedule
    assert schedule.plan is not None
    planned, more = plural(len(schedule.plan.seeds), "planned seed"), seeds_beyond(findings)
    lost, words = bool(schedule.without_result), "Final, incomplete" if schedule.without_result else "Final"
    are = f"{'have' if lost else 'are'} {ended(findings)}"
    if test.folds:
        return words, f"All {test.units} at the {planned} of the study {are}. More seeds change no verdict."
    if schedule.is_stopped:
        return words, f"Up to {test.n} of {planned} {are}: {STOPPED}."
    if more:
        added = f"Added since: {plural(len(more), 'seed')}."
        return words if lost else "Final, extended", f"The {planned} of the study {are}. {added}"
    return words, f"All {planned} {are}. What is decided stays."


def _done(findings: Findings) -> str:
    """Return "3 of 5 planned seeds done in every arm", of the test that lacks most."""
    waiting = [decision for decision in findings.decisions.values() if decision.done < decision.total]
    if not waiting:
        return "Planned runs are not done"
    least = min(waiting, key=lambda decision: decision.done / decision.total)
    how = "ended" if findings.study.schedule.without_result and not least.folds else "done"
    return f"{least.done} of {plural(least.total, 'fold' if least.folds else 'planned seed')} {how} in every arm"


def _explained(findings: Findings) -> list[str]:
    """Return a sentence for each kind of verdict that its interval alone does not explain, and for averaged effects."""
    tests = findings.families[0].tests if findings.families else 0
    rows = [row for row in findings.rows if row.verdict and row.difference]
    noise = [row for row in rows if kind_of(row.verdict) == "within noise"]
    said = {_why_open(findings, row, tests) for row in rows if kind_of(row.verdict) == "not decided"}
    return [
        *([FACTORIAL_IN_SHORT] * is_factorial(findings)),
        *(sentence for sentence in (CORRECTED.format(tests), LOOKS, DIVERGED, SAME) if sentence in said),
        *([f"Each interval is for one arm alone; verdicts are corrected for {tests} comparisons."] * (tests > 1)),
        *([NOT_NONE] * any(row.difference and not row.difference.all_equal for row in noise)),
    ]


def _why_open(findings: Findings, row: Row, tests: int) -> str:
    """Return the sentence for a comparison that is not decided although its interval does not contain 0."""
    assert findings.baseline is not None and row.difference is not None
    if math.isnan(row.difference.p) and row.difference.all_equal:
        return SAME
    if row.decision.crossed or math.isnan(row.decision.limit) or not row.difference.p < LEVEL:
        return DIVERGED if row.decision.crossed else ""
    name, _ = against_baseline(row.arm, findings.baseline)
    alone, _ = findings.families[0].limit(name, row.decision.n, 1)
    return CORRECTED.format(tests) if row.decision.p < alone else LOOKS


def _facts(findings: Findings) -> dict[str, str]:
    rows, tests = findings.rows, findings.families[0].tests if findings.families else 0
    counts = sorted({row.test.n for row in rows})
    found = {}
    if findings.baseline and (base := next((row.test for row in rows if row.is_baseline), None)) and base.n:
        found[findings.baseline.label] = f"test accuracy {percent(base.mean)}"
    if data := _training_data(findings):
        found["Data"] = data
    if tests and findings.baseline:
        together = " for all together (Holm)" if tests > 1 else ""
        what = plural(tests, "comparison")
        by = "paired t-test over the seeds"
        if findings.study.folds:
            by = "paired t-test over the folds, corrected for their shared images"
        found["Tested"] = f"{what}: {by}, level {LEVEL:g}{together}"
    if counts:
        unit = "fold" if findings.study.folds else "seed"
        found["n"] = f"{_counted(counts, unit)} an arm{_images(findings)}"
    return found


def _training_data(findings: Findings) -> str:
    """Return "postcards, 200 training images", "" if the runs have different ones."""
    runs = [run for arm in findings.arms for run in arm.runs]
    if len(found := {(run.text("data", "name"), run.number("data", "train")) for run in runs}) != 1:
        return ""
    ((name, images),) = found
    return f"{name}, {plural(int(images), 'training image')}" if name and math.isfinite(images) else ""


def _counted(counts: Sequence[float], unit: str) -> str:
    """Return "5 seeds", or "2 to 5 seeds" of different counts."""
    low, high = number(min(counts)), number(max(counts))
    return f"{low if low == high else f'{low} to {high}'} {unit}{'s' * (high != '1')}"


def _images(findings: Findings) -> str:
    """Return ", 2 seeds a fold, 1,000 test images"; "" where their number is not recorded."""
    seeds = [len({run.seed for run in arm.runs}) for arm in findings.arms if arm.folds and arm.runs]
    found = f", {_counted(seeds, 'seed')} a fold" if seeds else ""
    counts = [run.number("data", "test") for arm in findings.arms for run in arm.runs]
    images = [count for count in counts if math.isfinite(count)]
    if not images:
        return found
    if any(arm.fold_is_test for arm in findings.arms):
        return f"{found}, {_counted(images, 'test image')} a fold"
    return f"{found}, {_counted(images[:1], 'test image')}"


def _next(findings: Findings, now: tuple[str, str, str]) -> tuple[str, str] | None:
    study = findings.study
    if advice := same_settings(findings):
        return advice
    unfinished = now[1] == PROVISIONAL or not any(row.test.n for row in findings.rows)
    if unfinished and study.command.startswith("cnnexp train "):
        return "Finish the planned runs:", study.command
    if nothing_learned(findings.rows):
        return None
    if advice := more_seeds(findings):
        return advice
    words = [word for word in shell_words(study.command) if not word.startswith("seed=")]
    if now[1] == TOO_FEW and words[:2] == ["cnnexp", "train"]:
        return f"Make {SEEDS} seeds of every arm, so that a test is possible:", in_shell(
            [*words, f"seed={','.join(map(str, range(SEEDS)))}"]
        )
    if findings.baseline is None and len(study.arms) > 1 and not study.is_choice:
        return "Compare the arms with one of them:", in_shell(
            ["cnnexp", "report", str(study.folder), "--baseline", study.arms[0].name]
        )
    if any(row.test.n for row in findings.rows):
        return "Recompute every number of this page from the stored predictions:", in_shell(
            ["cnnexp", "verify", str(study.folder)]
        )
    return None
