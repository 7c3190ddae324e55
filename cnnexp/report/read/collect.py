"""The runs of a report: read, checked one by one, and grouped by (arm, fingerprint).

No run is fatal: one that cannot be used is left out of the table, and listed with the reason.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnexp.claims.study import read_reported
from cnnexp.errors import UserError, unknown
from cnnexp.records.identical import sentences
from cnnexp.records.names import arm_folder, same_numbers
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.records.study import is_choice, read_crossings, read_looks, read_plan, read_study, read_tested
from cnnexp.report.read.comparable import not_compared, now_other
from cnnexp.report.read.notes import compare_notes, take_notes
from cnnexp.report.read.runs import UNFINISHED, Run, read_run
from cnnexp.report.read.study import Arm, LeftOut, Schedule, Study, set_labels
from cnnexp.report.read.unfinished import add_unfinished
from cnnexp.text import plain

DEFAULT_BASELINE = "baseline"  # of runs without a study.json


def find_groups(folder: Path) -> list[tuple[Path, list[RunRecord]]]:
    """Return (folder, its runs) for every folder at or below `folder` that holds runs or a study.json.

    Raises UserError if there is none.
    """
    if (folder / "run.json").exists():
        return [(folder, [RunRecord.read(folder)])]
    groups: dict[Path, list[RunRecord]] = {}
    for run in find_runs(folder):
        groups.setdefault(run.folder.parent, []).append(run)
    for path in sorted(folder.rglob("study.json")):
        groups.setdefault(path.parent, [])
    if not groups:
        raise UserError(f"{folder}: holds no runs; runs are made with `cnnexp train`")
    return sorted(groups.items())


def without_reruns(groups: list[tuple[Path, list[RunRecord]]]) -> list[tuple[Path, list[RunRecord]]]:
    """Return groups but for those that `cnnexp rerun` made, to repeat runs of others; these if there are no others."""
    return [group for group in groups if not group[1] or not all(run.is_rerun for run in group[1])] or groups


def collect(folder: Path, records: list[RunRecord], baseline: str | None = None) -> Study:
    """Sort the runs of one group into arms and those left out.

    baseline: an arm's name, label or fingerprint; None takes the study's own. Raises UserError if there is no such arm.
    """
    try:
        study = read_study(folder) or {}
    except UserError:  # _plan_notes reports it
        study = {}
    runs = [read_run(r) for r in records]
    planned, order = study.get("runs", []), study.get("arms", [])
    present: dict[str, set[str]] = {}  # the fingerprints that each arm of study.json has now
    for entry in planned:
        present.setdefault(entry["arm"], set()).add(entry["fingerprint"])
    arms, left_out = _group(runs, present)
    arms.sort(key=lambda a: (order.index(a.name) if a.name in order else len(order), a.name, a.fingerprint))
    under_way = add_unfinished(arms, runs, present)
    set_labels([*arms, *under_way])
    left_out += [_diverged(run, arm.label) for arm in arms for run in arm.diverged]
    left_out += _not_run(planned, {r.folder.name for r in runs})
    used = [(arm.label, run) for arm in arms for run in arm.runs]
    notes = take_notes(used)
    notes += [f"{plain(sentence)}." for sentence in sentences([(label, run.record) for label, run in used])]
    notes += _plan_notes(arms, folder, bool(study), order if study.get("question") else [])
    chosen = _baseline(arms, baseline, study, notes)
    own = not (baseline and study.get("baseline")) or chosen is _baseline(arms, None, study, [])
    if chosen and not own and chosen.name != study["baseline"]:  # else one of its several configs
        notes.append(
            f"The study's own baseline is {plain(study['baseline'])}; {chosen.label} was chosen for this report. Its "
            "verdicts are right in 95 % of studies only if that choice does not follow from these results."
        )
    if chosen:
        arms.sort(key=lambda a: a is not chosen)
        apart = not_compared(arms, chosen)
        barred = {arm.label for of_reason in apart.values() for arm in of_reason}
        firsts = [(a.label, a.runs[0]) for a in arms if a.runs and a.label not in barred]
        notes += compare_notes(firsts, firsts[0]) if chosen.runs else []
        notes += [_not_compared(apart, chosen)] if apart else []
    return Study(
        folder=folder,
        name=plain(study.get("name") or next((name for r in runs if (name := r.text("study"))), folder.name)),
        question=plain(study.get("question") or ""),
        command=plain(study.get("command") or ""),
        arms=arms,
        baseline=chosen,
        runs=runs,
        left_out=left_out,
        notes=notes,
        reported=_reported(study.get("reported"), notes),
        source=plain(study.get("source") or ""),
        claims=_claims(study.get("claims"), notes),
        is_choice=chosen is None and is_choice(study, [arm.name for arm in (*arms, *under_way)]),
        under_way=under_way,
        schedule=_schedule(study, runs),
        has_own_baseline=own,
    )


def _schedule(study: dict[str, Any], runs: list[Run]) -> Schedule:
    """Return the planned seeds of a study and the looks at it."""
    plan, ended = read_plan(study), {run.folder.name: run.status for run in runs if run.status not in UNFINISHED}
    if plan is None:
        return Schedule()
    listed: dict[str, dict[int, bool]] = {}
    lost = list[int]()
    for entry in study["runs"]:
        if type(entry.get("seed")) is int:
            of_arm, status = listed.setdefault(entry["arm"], {}), ended.get(Path(entry["folder"]).name)
            of_arm[entry["seed"]] = of_arm.get(entry["seed"], True) and status is not None  # in every fold
            if status not in (None, "done"):
                lost.append(entry["seed"])
    awaited = () if plan.ended else plan.seeds
    return Schedule(
        plan,
        {arm: frozenset(seeds) for arm, seeds in listed.items()},
        {arm: frozenset(s for s in {*awaited, *seeds} if not seeds.get(s)) for arm, seeds in listed.items()},
        tuple(max(map(_count, look["seeds"].values()), default=0) for look in read_looks(study)),
        read_crossings(study),
        read_tested(study),
        tuple(look["tests"] for look in read_looks(study) if isinstance(look.get("tests"), list)),
        tuple(lost),
    )


def _count(seeds: Any) -> int:
    return len(seeds) if isinstance(seeds, list) else 0


def _reported(node: Any, notes: list[str]) -> dict[str, dict[str, float]]:
    """Read the reported numbers of study.json; a note says if they cannot be read."""
    try:
        return read_reported(node)
    except UserError as error:
        notes.append(f"study.json: {plain(error)}")
        return {}


def _claims(node: Any, notes: list[str]) -> list[str]:
    """Read the claims of study.json as they can be shown; the verdict says if one cannot be parsed."""
    if node is None or (isinstance(node, list) and all(isinstance(claim, str) for claim in node)):
        return [plain(claim) for claim in node or []]
    notes.append("study.json: study.claims is not a list of texts.")
    return []


def _group(runs: list[Run], present: Mapping[str, set[str]]) -> tuple[list[Arm], list[LeftOut]]:
    """Group usable runs. Those that the present configs no longer produce, and copies, are left out too."""
    left_out = [_left_out(run, run.status, run.reason) for run in runs if run.reason]
    arms: dict[tuple[str, str], Arm] = {}
    seen: dict[tuple[str, str, int], str] = {}  # by unit: runs of several folds are one arm
    for run in sorted((run for run in runs if not run.reason), key=lambda r: (r.unit, r.folder.name)):
        identity = (run.arm, run.fingerprint, run.unit)
        if run.arm in present and run.text("fingerprint") not in present[run.arm]:
            left_out.append(_left_out(run, "superseded", _why_superseded(run, runs, present[run.arm])))
        elif identity in seen:
            left_out.append(_left_out(run, "copy", f"the same arm, config and seed as {seen[identity]}"))
        else:
            seen[identity] = run.folder.name
            arm = arms.setdefault(identity[:2], Arm(run.arm, run.fingerprint))
            (arm.diverged if run.status == "diverged" else arm.runs).append(run)
    return list(arms.values()), left_out


def _why_superseded(run: Run, runs: list[Run], present: set[str]) -> str:
    """Say what the runs of an arm's present config have otherwise. present: their fingerprints."""
    newer = (r for r in runs if r.arm == run.arm and r.text("fingerprint") in present)
    if changed := next((words for other in newer if (words := now_other(run, other))), ""):
        return f"made with other settings than its arm has now: {changed}"
    return f"its config, data or user code is not the arm's present one (fingerprint {', '.join(sorted(present))})"


def _left_out(run: Run, status: str, reason: str) -> LeftOut:
    return LeftOut(run.name, run.label, run.text("seed"), status, plain(reason))


def _diverged(run: Run, label: str) -> LeftOut:
    reason = run.text("error", "message") or "the loss stopped being finite"
    return LeftOut(run.name, label, run.text("seed"), "diverged", f"{reason} (counted in the table, not in the mean)")


def _not_run(planned: list[dict[str, Any]], present: set[str]) -> list[LeftOut]:
    """List the runs of study.json that have no folder."""
    return [
        LeftOut(plain(folder), plain(entry["arm"]), plain(entry.get("seed", "")), "not run", "not started yet")
        for entry in planned
        if (folder := Path(entry["folder"]).name) not in present
    ]


def _plan_notes(arms: list[Arm], folder: Path, planned: bool, order: list[str]) -> list[str]:
    """Return notes on where the runs and study.json disagree."""
    if (folder / "study.json").exists() and not planned:
        return ["study.json cannot be read: arms are in alphabetical order and nothing is shown as superseded."]
    extra = sorted({plain(a.name) for a in arms} - {plain(name) for name in order}) if order else []
    return [f"Not among the arms that study.json names, and kept in the table: {', '.join(extra)}."] if extra else []


def _baseline(arms: list[Arm], asked: str | None, study: dict[str, Any], notes: list[str]) -> Arm | None:
    """Choose the arm that the others are compared with, and note why there is none."""
    name = asked or (study.get("baseline") if study else DEFAULT_BASELINE)
    if not name:
        return None
    found = [a for a in arms if name in (a.name, a.label)] or [a for a in arms if name == a.fingerprint]
    found = found or [a for a in arms if same_numbers(str(name)) in _names(a)]
    if len(found) == 1:
        return found[0]
    if asked and not found:
        raise unknown("--baseline", "arm", plain(asked), [a.label for a in arms] or ["(no arm has a finished run)"])
    if asked:
        raise UserError(f"--baseline: '{plain(asked)}' has several configs; choose one of {_listed(found)}")
    if found:
        notes.append(f"No comparison: the baseline has several configs ({_listed(found)}); choose with --baseline.")
    elif study:
        notes.append(f"No comparison: the baseline '{plain(name)}' has no finished run.")
    return None


def _not_compared(apart: Mapping[str, list[Arm]], baseline: Arm) -> str:
    """Say which arms are not compared with the baseline, by reason, and why not."""
    each = "; ".join(f"{_listed(arms)} ({reason})" for reason, arms in apart.items())
    return (
        f"Not compared with {baseline.label}: {each}. No arm sets what differs here, so a difference would be one of "
        "these settings too: runs of before and after a change of the study."
    )


def _names(arm: Arm) -> set[str]:
    """Return what an arm can be called, with its numbers as Python writes them: its name, label and folder."""
    return {same_numbers(name) for name in (arm.name, arm.label, arm_folder(arm.name))}


def _listed(arms: list[Arm]) -> str:
    return ", ".join(a.label for a in arms)
