"""Compare --until-decided with ten planned seeds on recorded runs: the seconds and the verdicts of docs/statistics.md.

Run: python scripts/demonstration.py               makes the runs: seeds 5 to 54 of the embedded ablation
     python scripts/until_decided.py 5 10 15       the ten seeds from 5, from 10 and from 15; a minute each
     python scripts/until_decided.py 0 10 --of outputs/STUDY       the same, of another study that has been made

Nothing is trained: when --until-decided asks for a run, the recorded one is copied. A run counts with the mean training
time of its arm, because the machine was not equally busy all the time.
"""

import argparse
import io
import shutil
import tempfile
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from statistics import mean
from typing import Any

from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.records.study import read_study
from cnnexp.report.analysis.findings import questions
from cnnexp.report.look import look
from cnnexp.sweep.study import write_studies
from cnnexp.sweep.until import Sweep, until_decided
from cnnexp.training.plan import Plan

RECORDED = Path(__file__).resolve().parent.parent / "outputs" / "demonstration"
FIXED, MOST = 10, (10, 20)  # planned seeds; --max-seeds
Runs = dict[tuple[str, int], RunRecord]  # by arm and seed


def plans(runs: Runs, seeds: range, folder: Path) -> list[Plan]:
    """Return the recorded runs of these seeds as if they were to be made in a new folder."""
    study = read_study(next(iter(runs.values())).folder.parent) or {}
    of_study = {key: study.get(key) for key in ("name", "question", "baseline", "reported", "source", "claims")}
    found = []
    for seed in seeds:
        for arm in study["arms"]:
            run = runs[arm, seed]
            config: dict[str, Any] = {"study": {**of_study, "arm": arm, "seeds": list(seeds)}, "seed": seed}
            fingerprint = run.info["fingerprint"]
            found.append(Plan(config, [], [], {}, fingerprint, folder / run.folder.name, "", choices={"arm": arm}))
    return found


def replay(runs: Runs, seeds: range, fixed: bool) -> tuple[Counter[str], dict[str, tuple[str, int]]]:
    """Return how many runs of each arm are made, and of each question {its text: (verdict, seeds)}.

    fixed: all seeds are planned, with one look; else until all is decided.
    """
    made = Counter[str]()

    def finish(here: list[Plan], budget: int | None = None) -> int:
        for plan in here:
            if not plan.folder.exists():
                made[plan.arm] += 1
                shutil.copytree(
                    runs[plan.arm, plan.seed].folder, plan.folder, ignore=shutil.ignore_patterns("checkpoints")
                )
        return 0

    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        asked = plans(runs, seeds, Path(folder) / "ablation")
        if fixed:
            write_studies(asked, "")
            finish(asked)
        else:
            until_decided(asked, Sweep(lambda here: write_studies(here, "", tuple(seeds)), finish))
        found = questions(look(asked[0].folder.parent))
    return made, {q.text: (q.verdict.partition(" (at ")[0] if q.decided else "undecided", q.n) for q in found}


def main() -> None:
    """Print a row for every block of seeds and every --max-seeds, then the questions that ended otherwise."""
    words = argparse.ArgumentParser()
    words.add_argument("seeds", type=int, nargs="+")
    words.add_argument("--of", type=Path, nargs="*", default=[*RECORDED.glob("*/ablation")])
    given = words.parse_args()
    records = [run for folder in given.of for run in find_runs(folder) if run.status == "done"]
    runs = {(run.info["arm"], run.info["seed"]): run for run in records}
    times = {arm: [run.info["seconds"]["train"] for run in records if run.info["arm"] == arm] for arm, _ in runs}
    seconds = {arm: mean(of_arm) for arm, of_arm in times.items()}
    print("| Seeds | `--max-seeds` | Runs | Run-seconds, of those of ten seeds | Decided | Other verdicts |")
    print("|---|---|---|---|---|---|")
    for first in given.seeds:
        fixed, of_fixed = replay(runs, range(first, first + FIXED), fixed=True)
        for most in MOST:
            if any((arm, first + most - 1) not in runs for arm in times):
                continue
            made, verdicts = replay(runs, range(first, first + most), fixed=False)
            share = sum(seconds[arm] * n for arm, n in made.items()) / sum(seconds[arm] * n for arm, n in fixed.items())
            other = [
                f"{q}: {v} (n = {n}), not {of_fixed[q][0]}" for q, (v, n) in verdicts.items() if v != of_fixed[q][0]
            ]
            decided = [sum(v != "undecided" for v, _ in found.values()) for found in (verdicts, of_fixed)]
            cells = [f"from {first}", f"{most}", f"{made.total()} of {fixed.total()}", f"{100 * share:.0f} %"]
            cells += [f"{decided[0]} of {len(verdicts)}, and {decided[1]} with ten", "; ".join(other) or "none"]
            print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
