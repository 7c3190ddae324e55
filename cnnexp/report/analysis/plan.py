"""The planned seeds of a study, the looks at it and the seeds to add, in words; docs/statistics.md has the rules."""

from collections.abc import Iterable, Sequence

from cnnexp.report.analysis.decisions import ANYTIME, AT_PLAN
from cnnexp.report.analysis.findings import Findings, Question, questions
from cnnexp.report.analysis.sequential import FIRST_LOOK
from cnnexp.report.analysis.statistics import LEVEL
from cnnexp.text import in_shell, listed, plural, shell_words

MAX_OPEN = 4  # tests that are named
MAX_LISTED = 8  # seeds of a command; more are a range
FIXED_TEST = (
    " All folds have the same test images, for which the correction is an approximation; the intervals leave out the "
    "choice of these images."
)
NO_PLAN = (
    "No plan of seeds is recorded (one command with seed=0,1,2,3,4 records one), so every number of seeds counts as a "
    "look (alpha spending)."
)
STOPPED = "the rest would decide nothing, or hardly anything"
FAMILIES = ("comparison", "claim test", "effect test")  # a claim that repeats a comparison is no test of its own


def rules_in_words(findings: Findings) -> list[str]:
    """Return which rule judges the tests of a study, its families, and at how many seeds it was looked at."""
    counts = [
        plural(family.tests, name) for family, name in zip(findings.families, FAMILIES, strict=True) if family.tests
    ]
    if not counts:
        return []
    plan, looks = findings.study.schedule.plan, findings.study.schedule.looks
    found = [
        _of_plan(findings),
        *(_of_folds(findings, folds) for folds in sorted({arm.folds for arm in findings.arms} - {0})),
    ]
    if beyond := seeds_beyond(findings):
        found.append(_of_extension(findings, beyond))
    found.append(f"Level {LEVEL:g} for {_and_for(counts)} (Holm's method){_of_level(findings, len(counts))}.")
    counts_now = [family.tests for family in findings.families]
    earlier = findings.study.schedule.families if findings.study.has_own_baseline else ()
    if before := [counts for counts in earlier if any(counts) and counts != counts_now]:
        found.append(_of_other_families(before[-1], counts_now))
    if any(arm.folds for arm in findings.arms):
        return found
    seen = sorted({*looks, max((len(arm.runs) for arm in findings.arms), default=0)} - {0} if plan else ())
    return [*found, f"Looked at with {_listed(seen)} seed{'s' * (seen != [1])}."] if seen else found


def _and_for(counts: Sequence[str]) -> str:
    """Return "all 6 comparisons together, 0.05 for all 5 claim tests together, 0.05 for the effect test"."""
    together = [f"the {count[2:]}" if count.startswith("1 ") else f"all {count} together" for count in counts]
    return f", {LEVEL:g} for ".join(together)


def _of_level(findings: Findings, families: int) -> str:
    """Return how much of the level is for the planned seeds, "" if they are looked at one by one."""
    plan = findings.study.schedule.plan
    if plan and not plan.every_seed and len(plan.seeds) >= FIRST_LOOK:
        return (
            f"; {AT_PLAN * LEVEL:g} of {'each' if families > 1 else 'it'} is for the planned seeds, the rest for more"
        )
    return ""


def more_seeds(findings: Findings) -> tuple[str, str] | None:
    """Return what more seeds would decide soonest, and the command that makes them; None if it is not known."""
    schedule, command = findings.study.schedule, findings.study.command
    open_ones = [question for question in questions(findings) if question.outlook.more and not question.decided]
    words = [word for word in shell_words(command) if not word.startswith(("seed=", "--plan"))]
    if not open_ones or words[:2] != ["cnnexp", "train"] or (schedule.plan and schedule.plan.ended):
        return None
    soonest = min(open_ones, key=lambda question: (question.outlook.more, -question.outlook.chance))
    waiting = sorted(set[int]().union(*schedule.waiting.values()))
    seeds = waiting or [*range(max(_seeds(findings)) + 1, max(_seeds(findings)) + 1 + soonest.outlook.more)]
    typed = ",".join(map(str, seeds)) if len(seeds) <= MAX_LISTED else f"range({seeds[0]},{seeds[-1] + 1})"
    advice = f"Still open: {_open_tests(open_ones, soonest)}{soonest.outlook.advice}:"
    if schedule.plan and schedule.plan.every_seed:  # the same command goes on
        return advice, command
    return advice, in_shell([*words, f"seed={typed}"])


def _open_tests(open_ones: Sequence[Question], soonest: Question) -> str:
    """Return "up. ", or "up, down and 4 more. Soonest up: " of several. A claim that repeats another is not counted."""
    once: dict[str, Question] = {}
    for question in open_ones:
        once.setdefault(question.hypothesis, question)
    if len(once) == 1:
        return f"{soonest.text}. "
    return f"{listed([question.text for question in once.values()], MAX_OPEN)}. Soonest {soonest.text}: "


def _of_plan(findings: Findings) -> str:
    schedule = findings.study.schedule
    if (plan := schedule.plan) is None:
        return NO_PLAN
    planned = f"Planned: {plural(len(plan.seeds), 'seed')} ({_listed(sorted(plan.seeds))})"
    if plan.every_seed:
        stopped = f" It has ended: {STOPPED}." if schedule.is_stopped else ""
        return f"{planned}, with a look at every number of seeds from {FIRST_LOOK} on (alpha spending).{stopped}"
    if len(plan.seeds) < FIRST_LOOK and not any(arm.folds for arm in findings.arms):
        return f"{planned}. Fewer than {FIRST_LOOK} seeds decide nothing."
    if set(plan.seeds) & set[int]().union(*schedule.waiting.values()):
        return f"{planned}. Until all are done, verdicts are provisional."
    return f"{planned}, all {ended(findings)}."


def ended(findings: Findings) -> str:
    """Return "done", or "ended; 2 runs have no result" of planned runs."""
    lost = findings.study.schedule.without_result
    return f"ended; {plural(lost, 'run')} {'has' if lost == 1 else 'have'} no result" if lost else "done"


def seeds_beyond(findings: Findings) -> list[int]:
    """Return the seeds with a result that are not planned ones."""
    plan = findings.study.schedule.plan
    return [seed for seed in _seeds(findings) if plan and seed not in plan.seeds]


def _of_folds(findings: Findings, folds: int) -> str:
    arms = [arm for arm in findings.arms if arm.folds == folds]
    fixed = any(run.tested for arm in arms for run in arm.runs) and not any(arm.fold_is_test for arm in arms)
    return (
        f"Cross-validation with {folds} folds: runs are paired by fold and seed, and averaged over a fold's seeds. "
        f"So n counts folds. Their training sets overlap: intervals and p are those of the corrected resampled t test "
        f"(Nadeau & Bengio 2003), with n held-out / n trained-on = 1 / {folds - 1}. Verdicts fall once, when all folds "
        "are done." + FIXED_TEST * fixed
    )


def _of_other_families(before: Sequence[int], now: Sequence[int]) -> str:
    """Say that arms or claims were added or removed between two looks."""
    counts = [(old, new, name) for old, new, name in zip(before, now, FAMILIES, strict=False) if old != new]
    changes = [f"{plural(old, name)}, and this one {new}" for old, new, name in counts]
    return (
        f"An earlier report had {' and '.join(changes)}. The level holds for tests that are planned together: if some "
        "are added after a look, false verdicts are more frequent."
    )


def _of_extension(findings: Findings, beyond: list[int]) -> str:
    if any(arm.folds for arm in findings.arms):
        return f"Beyond the plan, and in no verdict over folds: {plural(len(beyond), 'seed')} ({_listed(beyond)})."
    rules = {decision.rule for decision in findings.decisions.values()}
    by = "an e-process" if ANYTIME in rules else "alpha spending"
    return f"Beyond the plan, by {by}: {plural(len(beyond), 'seed')} ({_listed(beyond)})."


def _seeds(findings: Findings) -> list[int]:
    return sorted({run.seed for arm in findings.arms for run in arm.runs})


def _listed(numbers: Iterable[int]) -> str:
    """Return "0 to 4" of neighbours, and "2, 5" of others."""
    given = list(numbers)
    if len(given) > 2 and given[-1] - given[0] == len(given) - 1:
        return f"{given[0]} to {given[-1]}"
    return ", ".join(map(str, given))
