"""The oracle finds a fault in the arithmetic of a report: each mutant is one changed line of its source."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from consistent_study import CLAIMS, FACTORIAL, GAINS, REPORTED, THREE, make_consistent, write_edge_cases
from fake_records import ARMS, write_run, write_study
from mutated_report import find, mutated
from recomputed.check import compare_tables
from recomputed.of_tables import Tables

from cnnexp.report.read.collect import collect, find_groups

pytestmark = [pytest.mark.counts("faults found"), pytest.mark.slow]

STATISTICS = [  # source of the report, and a fault in its place
    ("values.std(-1, ddof=1)", "values.std(-1)"),
    ("special.stdtrit(n - 1, 1 - LEVEL / 2)", "special.stdtrit(n, 1 - LEVEL / 2)"),
    ("special.stdtrit(n - 1, 1 - LEVEL / 2)", "special.ndtri(1 - LEVEL / 2)"),
    ("2 * special.stdtr(n - 1, -t)", "special.stdtr(n - 1, -t)"),
    ("np.abs(mean) <= NO_SPREAD, 1.0", "np.abs(mean) <= NO_SPREAD, np.nan"),
    ("float(sample.std(ddof=1))", "float(sample.std())"),
    ("for unit in sorted(arm.keys() & baseline.keys())", "for unit in sorted(arm.keys() & baseline.keys())[:2]"),
    ("t_interval(sample - reference, overlap", "t_interval(sample, overlap"),
    ("int((second & ~first).sum())", "int((second | ~first).sum())"),
    ("discordant, 0.5)", "discordant, 0.4)"),
    ("in ((1, arm), (-1, base)) if", "in ((1, base), (-1, arm)) if"),
    ("if decision.crossed and diverged", "if decision.crossed and not diverged"),
    ("crosses = p < limit and not test.biased", "crosses = p < limit"),
    ("AT_PLAN, WITH_LOOKS = 0.8", "AT_PLAN, WITH_LOOKS = 0.9"),
    ("share = len(undecided)", "share = len(self.now)"),
    ("POWER = 0.8", "POWER = 0.9"),
    ("test.p < LEVEL or test.n < FIRST_LOOK", "test.p < LEVEL"),
    ("abs(ratio - 1 / ratio)", "abs(ratio - 1)"),
    ("math.sqrt((n - 2) / (4 * unexplained))", "math.sqrt((n - 1) / (4 * unexplained))"),
    ("ratio / factor, ratio * factor", "ratio * factor, ratio / factor"),
    ("2 * special.stdtr(n - 2, -t)", "2 * special.stdtr(n - 1, -t)"),
    ("np.sqrt(k + np.sqrt(k * k - 1))", "np.sqrt(k + np.sqrt(k * k + 1))"),
    ("min(1.0, len(by_epoch) * p)", "p"),
    ("(min if opposed else max)(", "min("),
    ("(round(leads[epoch], TIE_DECIMALS), epoch)", "(-round(leads[epoch], TIE_DECIMALS), epoch)"),
    ("direction * (test.mean - threshold)", "direction * test.mean"),
    ("MIN_SEEDS_FOR_RATIO = 3", "MIN_SEEDS_FOR_RATIO = 4"),
    ("min(1.0, 2 * float(special.bdtr", "min(1.0, float(special.bdtr"),
]
PREDICTIONS = [
    ("NUM_BINS = 15", "NUM_BINS = 10"),
    ("np.abs(self.right - self.confidence).sum()", "abs((self.right - self.confidence).sum())"),
    ("np.minimum(np.sqrt(2 * self.variance / math.pi), 2 * self.variance)", "np.sqrt(2 * self.variance / math.pi)"),
    ("(probabilities**2).sum(1) - 2 * probabilities[true] + 1", "(probabilities**2).sum(1) + 1"),
    ("right / np.maximum(guesses, 1)", "right / np.maximum(images, 1)"),
    ("2 * right / np.maximum(images + guesses, 1)", "right / np.maximum(images + guesses, 1)"),
    ('scores["recall"][np.unique(labels)].mean()', 'scores["precision"][np.unique(labels)].mean()'),
    ("(_rank(logits, labels) < 5)", "(_rank(logits, labels) < 4)"),
    ("-log_probabilities[true].mean()", "-log_probabilities.max(1).mean()"),
    ("paired(confidence, accuracy)", "paired(accuracy, confidence)"),
    ("float(table[k, k] / table[k].sum())", "float(table[k, k] / table[:, k].sum())"),
    ("counts * (1 - np.eye(len(counts), dtype=np.int64))", "counts"),
    ("wrong[t, p] / counts[t].sum()", "wrong[t, p] / counts[:, p].sum()"),
    ('np.argsort(-wrong, axis=None, kind="stable")', 'np.argsort(wrong, axis=None, kind="stable")'),
    ("paired(mine, theirs) for mine, theirs in", "paired(theirs, mine) for mine, theirs in"),
    ("only_arm=share(lambda a, b: a & ~b)", "only_arm=share(lambda a, b: ~a & b)"),
    ("mine.all(0) & ~theirs.any(0)", "mine.any(0) & ~theirs.any(0)"),
    ("(seeds * (seeds - 1) / 2)", "(seeds * (seeds + 1) / 2)"),
    ("others[label] = -1.0", "others[label] = 1.0"),
    ('np.argsort(-confidence[rows], kind="stable")', 'np.argsort(confidence[rows], kind="stable")'),
    ("lead = arm[rows][true] - base[true]", "lead = arm[rows][true] + base[true]"),
    ("predictions.predicted[:, row] != label", "predictions.predicted[:, row] == label"),
]
STUDIES = [
    ('if size == 2 else ("above 0", "below 0")', 'if size else ("above 0", "below 0")'),
    ("PLATEAU_MARGIN = 0.01", "PLATEAU_MARGIN = 0.02"),
    ("value >= accuracy - 1e-9", "value > accuracy + 1e-9"),
    ("from statistics import stdev", "from statistics import pstdev as stdev"),
    ("level = min(max(one.curve", "level = max(max(one.curve"),
    ("sum(term.times * value[seed] for term, value in pairs)", "sum(value[seed] for term, value in pairs)"),
    ("return estimate(sample, claim.threshold)", "return estimate(sample)"),
    ("return first / second if second", "return second / first if second"),
    ("sum(term.times * value(term, term.metric)", "sum(value(term, term.metric)"),
    ("claim.threshold, claim.direction)\n        test = epochs", "claim.threshold, 1)\n        test = epochs"),
    ("(-1) ** (size - len(m & set(chosen)))", "(-1) ** len(m & set(chosen))"),
    ("/ 2 ** (len(singles) - 1) for m in arms", "/ 2 ** len(singles) for m in arms"),
    ("frozenset(): rest}", "frozenset(): 1}"),
    ("return self.here.mean - self.reported", "return self.reported - self.here.mean"),
    ('threshold if kind in (STD, "within") else -threshold', "threshold"),
    ("return 1 if lead > 0 else -1", "return 1"),
    ("side * term.times * metric_of(term.metric).better > 0", "side * term.times > 0"),
]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[Path, str | None, dict]]]:
    """Return studies, each with the baseline of its report and the oracle's tables."""
    made = []
    for number, (changes, seeds, baseline) in enumerate(
        [(FACTORIAL, 4, None), (FACTORIAL, 1, "batchnorm"), (GAINS, 2, None), (THREE, 4, None)]
    ):
        arms = {name: ARMS.get(name, (0.9 if name == "all" else 0.7, 0.05, 60.0)) for name in changes}
        outputs = tmp_path_factory.mktemp(f"mutants{number}")
        made.append((write_study(outputs, arms, seeds, images=200, claims=CLAIMS, reported=REPORTED), baseline))
        if number == 0:
            write_run(outputs, "dropout", 7, status="diverged")
        make_consistent(outputs, changes)
    made.append((write_edge_cases(tmp_path_factory.mktemp("edges")), None))
    yield [(folder, base, Tables(collect(*find_groups(folder)[0], base)).all()) for folder, base in made]


def faults(report: object, studies: list[tuple[Path, str | None, dict]], out: Path) -> list[str]:
    """Write the reports of the studies until the oracle finds numbers that do not agree; return these."""
    for folder, baseline, expected in studies:
        report.write(folder, out, baseline, figures=False)
        if found := [str(number) for number in compare_tables(out / "tables", expected) if not number.agrees]:
            return found
    return []


def test_without_a_fault_all_agrees(studies: list, tmp_path: Path) -> None:
    file = find(STATISTICS[0][0])
    with mutated(file, file.read_text()) as report:
        assert faults(report, studies, tmp_path) == []


@pytest.mark.parametrize(("source", "fault"), [*STATISTICS, *PREDICTIONS, *STUDIES])
def test_a_fault_is_found(studies: list, tmp_path: Path, source: str, fault: str) -> None:
    file = find(source)
    with mutated(file, file.read_text().replace(source, fault)) as report:
        assert faults(report, studies, tmp_path)
