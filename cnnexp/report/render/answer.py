"""The first screen of a report: each arm's difference as a figure, what was tested, how far it is, what to do next."""

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cnnexp.report.analysis.compare import Row, in_short, kind_of
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.analysis.plan import more_seeds
from cnnexp.report.analysis.sequential import FIRST_LOOK
from cnnexp.report.analysis.statistics import LEVEL, Estimate
from cnnexp.text import in_shell, number, percent, plural

KINDS = {"better": "better", "worse": "worse", "within noise": "noise", "not decided": "open", "provisional": "open"}
WORDS = {"within noise": "no detectable difference"}  # a verdict's words where they are read for the first time
NOT_NONE = "No detectable difference does not mean none: it may be as large as the ends of the interval."
LEVELS = ("Test accuracy (%)", "Validation accuracy (%)")
TOO_FEW = "Too few seeds"
SEEDS = 5  # of an arm, advised where there are too few to test
TICKS = 4  # wanted on the axis


@dataclass(frozen=True)
class Bar:
    """A line of the figure. at, start, width: the mean and the interval, in % of the axis; nan where there is none."""

    label: str
    verdict: str
    kind: str
    value: str
    interval: str
    at: float = math.nan
    start: float = math.nan
    width: float = math.nan


@dataclass(frozen=True)
class Forest:
    """The figure. heading: of its values. zero: where no difference is, in %; nan without one. ticks: (in %, label)."""

    heading: str
    bars: Sequence[Bar]
    zero: float
    ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Answer:
    """What the first screen says. status: (kind, one or two words, a sentence). next: (a sentence, a command).

    explained: what verdicts of the figure mean. claims: (text, verdict), those that are decided first.
    """

    verdict: str
    status: tuple[str, str, str]
    forest: Forest | None
    explained: Sequence[str]
    facts: dict[str, str]
    claims: Sequence[tuple[str, str]]
    next: tuple[str, str] | None


def answer(findings: Findings) -> Answer:
    """Return the first screen of a study's report."""
    claims = sorted(findings.judged, key=lambda judged: not judged.verdict.startswith(("holds", "does not hold")))
    return Answer(
        verdict=in_short(findings.study, findings.rows),
        status=status(findings),
        forest=_forest(findings),
        explained=_explained(findings),
        facts=_facts(findings),
        claims=[(judged.evidence.text, judged.verdict) for judged in claims],
        next=_next(findings),
    )


def status(findings: Findings) -> tuple[str, str, str]:
    """Return a kind, one or two words and a sentence: whether the verdicts are final."""
    schedule, most = findings.study.schedule, max((row.test.n for row in findings.rows), default=0)
    planned = len(schedule.plan.seeds) if schedule.plan else 0
    waiting = (
        set[int]().union(*schedule.waiting.values()) if not (schedule.plan and schedule.plan.ended) else set[int]()
    )
    if not most:
        return "none", "No result yet", "No run is finished."
    if findings.baseline is None:
        return "none", "No comparison", "There is no baseline, so nothing is tested."
    if any(kind_of(row.verdict) == "provisional" for row in findings.rows) or waiting:
        fewest = min(row.test.n for row in findings.rows)
        done = f"{fewest} of {plural(planned or most, 'planned seed')} done in every arm"
        return "provisional", "Provisional", f"{done}. Verdicts may change until all are done."
    if most < FIRST_LOOK:
        return "none", TOO_FEW, f"{plural(most, 'seed')} cannot show whether a difference would come again."
    if schedule.plan is None:
        return "final", "Final", "Every run is done. No plan of seeds is recorded, so these count as planned."
    return "final", "Final", f"The {plural(planned, 'planned seed')} of the study are done. More may be added."


def _explained(findings: Findings) -> list[str]:
    """Return a sentence for each kind of verdict that its interval alone does not explain."""
    tests = findings.families[0].tests if findings.families else 0
    rows = [(kind_of(row.verdict), row.difference) for row in findings.rows if row.verdict and row.difference]
    corrected = tests > 1 and any(kind == "not decided" and d.low * d.high > 0 for kind, d in rows)
    return [
        *([f"Not decided: alone, this test would decide; corrected for {tests} comparisons, it does not."] * corrected),
        *([NOT_NONE] * any(kind == "within noise" for kind, _ in rows)),
    ]


def _facts(findings: Findings) -> dict[str, str]:
    rows, tests = findings.rows, findings.families[0].tests if findings.families else 0
    counts = sorted({row.test.n for row in rows})
    found = {}
    if findings.baseline and (base := next((row.test for row in rows if row.is_baseline), None)) and base.n:
        found[findings.baseline.label] = f"test accuracy {percent(base.mean)}"
    if tests and findings.baseline:
        together = " for all together (Holm)" if tests > 1 else ""
        what = f"{plural(tests, 'comparison')} with {findings.baseline.label} in test accuracy"
        found["Tested"] = f"{what}, by a paired t-test over the seeds, level {LEVEL:g}{together}"
    if counts:
        n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        images = next((number(run.number("data", "test")) for arm in findings.arms for run in arm.runs), "-")
        seeds = f"{n} seed{'s' * (n != '1')} an arm"
        found["n"] = seeds + (f", {images} test images" if images != "-" else "")
    return found


def _next(findings: Findings) -> tuple[str, str] | None:
    study = findings.study
    unfinished = status(findings)[0] == "provisional" or not any(row.test.n for row in findings.rows)
    if unfinished and study.command.startswith("cnnexp train "):
        return "Finish the planned runs:", study.command
    if advice := more_seeds(findings):
        return advice
    if status(findings)[1] == TOO_FEW and study.command.startswith("cnnexp train "):
        words = [word for word in shlex.split(study.command) if not word.startswith("seed=")]
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


def _forest(findings: Findings) -> Forest | None:
    compared = findings.baseline is not None and any(row.difference for row in findings.rows)
    rows = [row for row in findings.rows if not (compared and row.is_baseline)]
    choice = findings.study.is_choice  # test accuracies are not what a setting is chosen by
    values = [(row, row.difference if compared else _level(row, choice)) for row in rows]
    numbers = [100 * value.mean for _, value in values if value and value.n]
    if not numbers:
        return None
    ends = [100 * end for _, v in values if v for end in (v.low, v.high) if math.isfinite(end)]
    low, high = _limits(numbers, ends, compared)

    def place(value: float) -> float:
        return round(100 * (min(max(value, low), high) - low) / (high - low), 2)

    bars = [_bar(row, value, place, compared) for row, value in values]
    base = findings.baseline.label if findings.baseline and compared else ""
    heading = f"Difference from {base} in points of test accuracy" if compared else LEVELS[choice]
    ticks = [(place(tick), f"{tick:+g}" if compared and tick else f"{tick:g}") for tick in _ticks(low, high)]
    return Forest(heading, bars, place(0.0) if compared else math.nan, ticks)


def _level(row: Row, validation: bool) -> Estimate:
    return row.over_seeds("result", "val_accuracy") if validation else row.test


def _limits(means: Sequence[float], ends: Sequence[float], compared: bool) -> tuple[float, float]:
    """Return the ends of the axis. Of intervals much wider than the means are apart, the axis holds a part."""
    inner = [*means, 0.0] if compared else means
    spread = max(max(inner) - min(inner), 1.0)
    low = max(min([*inner, *ends]), min(inner) - spread)
    high = min(max([*inner, *ends]), max(inner) + spread)
    margin = 0.04 * (high - low) or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [round(k * step, 10) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _bar(row: Row, value: Estimate | None, place: Callable[[float], float], compared: bool) -> Bar:
    kind = KINDS.get(kind_of(row.verdict), "open") if row.verdict else "plain"
    verdict = WORDS.get(row.verdict.split(" (")[0], row.verdict).replace("n = ", "n\u00a0=\u00a0")
    if value is None or not value.n:
        return Bar(row.arm.label, verdict, kind, "-", "")
    mean, low, high = (100 * x for x in (value.mean, value.low, value.high))
    words = f"{mean:+.2f}" if compared else f"{mean:.2f}"
    if math.isnan(low):
        return Bar(row.arm.label, verdict, kind, words, f"n = {value.n}", place(mean))
    interval = f"{low:+.2f} to {high:+.2f}" if compared else f"{low:.2f} to {high:.2f}"
    at, start = place(mean), place(low)
    return Bar(row.arm.label, verdict, kind, words, interval, at, start, round(place(high) - start, 2))
