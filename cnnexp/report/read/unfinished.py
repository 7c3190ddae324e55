"""Runs that are not finished: they are listed, and their curves are drawn, but no number or verdict comes from them."""

from collections.abc import Mapping

from cnnexp.report.read.runs import UNFINISHED, Run
from cnnexp.report.read.study import Arm

MAX_NAMED = 6  # runs in the sentence


def add_unfinished(arms: list[Arm], runs: list[Run], present: Mapping[str, set[str]]) -> list[Arm]:
    """Give each arm its unfinished runs; return the arms of those that belong to none. Superseded runs are left out.

    present: the fingerprints that each arm of study.json has now.
    """
    by_identity = {(arm.name, arm.fingerprint): arm for arm in arms}
    for run in sorted((r for r in runs if r.status in UNFINISHED and r.fingerprint), key=lambda r: r.seed):
        if run.text("fingerprint") in present.get(run.arm, {run.text("fingerprint")}):
            identity = run.arm, run.fingerprint
            by_identity.setdefault(identity, Arm(*identity)).unfinished.append(run)
    return [arm for arm in by_identity.values() if arm.unfinished and not (arm.runs or arm.diverged)]


def sentence(arms: list[Arm]) -> str:
    """Return "Not finished: dropout, seed 1 (running, epoch 4 of 10)."; "" if all runs are."""
    named = [
        f"{arm.label}, seed {run.seed_name} ({', '.join(filter(None, (run.status, run.progress)))})"
        for arm in arms
        for run in arm.unfinished
    ]
    more = f"; and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    return f"Not finished, and in no verdict: {'; '.join(named[:MAX_NAMED])}{more}." if named else ""
