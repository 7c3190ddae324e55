"""Which runs a report is about: read, judged one by one, and grouped by (arm, fingerprint).

No run is fatal: what cannot be used is kept beside the table, with the reason.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnexp.claims.study import read_reported
from cnnexp.config.keys import flatten, is_below
from cnnexp.errors import UserError, unknown
from cnnexp.records import run_record as record
from cnnexp.records import study as study_file
from cnnexp.records.identical import sentences
from cnnexp.report.read.notes import APART, compare_notes, take_notes
from cnnexp.report.read.runs import Run, read_run
from cnnexp.text import plain, shorten

MOST_SETTINGS = 3  # that an arm's label tells
DEFAULT_BASELINE = "baseline"  # of runs without a study.json


@dataclass
class Arm:
    """The runs of one arm with one fingerprint: the `done` ones, by seed, and the diverged ones."""

    name: str
    fingerprint: str
    runs: list[Run] = field(default_factory=list)
    diverged: list[Run] = field(default_factory=list)
    label: str = ""
    key: str = ""

    def values(self, *path: str) -> list[float]:
        """Return a number of run.json over the done runs, nan where it is missing."""
        return [run.number(*path) for run in self.runs]

    def accuracies(self) -> dict[int, float]:
        """Return {seed: test accuracy as a fraction} of the done runs."""
        return {run.seed: run.test_accuracy for run in self.runs}

    @property
    def first(self) -> Run:
        """Return a run to read what all of them share."""
        return (self.runs or self.diverged)[0]


@dataclass(frozen=True)
class LeftOut:
    """A run that is not in the table."""

    folder: str
    arm: str
    seed: str
    status: str
    reason: str


@dataclass
class Study:
    """What one report is about. `notes` are what a reader must know before believing the table.

    reported: {arm's name: {metric: number}}, as claims.study.read_reported gives it; source: where it is from.
    """

    folder: Path
    name: str
    question: str
    command: str
    arms: list[Arm]
    baseline: Arm | None
    runs: list[Run]
    left_out: list[LeftOut]
    notes: list[str]
    reported: dict[str, dict[str, float]] = field(default_factory=dict)
    source: str = ""
    claims: list[str] = field(default_factory=list)

    def named(self, name: str) -> list[Arm]:
        """Return the arms of a name: several if it has several configs."""
        return [arm for arm in self.arms if arm.name == name]


def find_groups(folder: Path) -> list[tuple[Path, list[record.RunRecord]]]:
    """Return (folder, its runs) for every folder at or below `folder` that holds runs or a study.json.

    Raises UserError if there is none.
    """
    if (folder / "run.json").exists():
        return [(folder, [record.RunRecord.read(folder)])]
    groups: dict[Path, list[record.RunRecord]] = {}
    for run in record.find_runs(folder):
        groups.setdefault(run.folder.parent, []).append(run)
    for path in sorted(folder.rglob("study.json")):
        groups.setdefault(path.parent, [])
    if not groups:
        raise UserError(f"{folder}: holds no runs; runs are made with `cnnexp train`")
    return sorted(groups.items())


def collect(folder: Path, records: list[record.RunRecord], baseline: str | None = None) -> Study:
    """Sort the runs of one group into arms and the rest.

    baseline: an arm's name, label or fingerprint; None takes the study's own. Raises UserError if there is no such arm.
    """
    try:
        study = study_file.read_study(folder) or {}
    except UserError:  # said by _plan_notes
        study = {}
    runs = [read_run(r) for r in records]
    planned = [r for r in study.get("runs", []) if isinstance(r, dict)]
    left_out = [LeftOut(plain(r.folder.name), r.label, r.seed_text, r.status, r.reason) for r in runs if r.reason]
    arms = _group([r for r in runs if not r.reason], planned, left_out)
    order = [str(a) for a in study.get("arms") or []]
    arms.sort(key=lambda a: (order.index(a.name) if a.name in order else len(order), a.name, a.fingerprint))
    _label(arms)
    left_out += [_diverged(arm, run) for arm in arms for run in arm.diverged]
    left_out += _not_run(planned, {r.folder.name for r in runs})
    notes = take_notes([(a.label, run) for a in arms for run in a.runs])
    same = sentences([(a.label, run.record) for a in arms for run in a.runs])
    notes += [f"{plain(sentence)}." for sentence in same]
    notes += _plan_notes(arms, folder, bool(study), order if study.get("question") else [])
    chosen = _baseline(arms, baseline, study, notes)
    if chosen:
        arms.sort(key=lambda a: a is not chosen)
        firsts = [(a.label, a.runs[0]) for a in arms if a.runs]
        notes += compare_notes(firsts, firsts[0]) if chosen.runs else []
    return Study(
        folder=folder,
        name=plain(study.get("name") or next((r.study for r in runs if r.study), folder.name)),
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
    )


def _reported(node: Any, notes: list[str]) -> dict[str, dict[str, float]]:
    """Read what study.json says is reported; note it if it cannot be read."""
    try:
        return read_reported(node)
    except UserError as error:
        notes.append(f"study.json: {plain(error)}")
        return {}


def _claims(node: Any, notes: list[str]) -> list[str]:
    """Read the claims of study.json, each as it can be shown; one that cannot be read is told beside its verdict."""
    if node is None or (isinstance(node, list) and all(isinstance(claim, str) for claim in node)):
        return [plain(claim) for claim in node or []]
    notes.append("study.json: study.claims is not a list of texts.")
    return []


def _group(runs: list[Run], planned: list[dict[str, Any]], left_out: list[LeftOut]) -> list[Arm]:
    """Group usable runs; what the present configs no longer call for, and copies, go to `left_out`."""
    present: dict[str, set[str]] = {}
    for entry in planned:
        present.setdefault(str(entry.get("arm")), set()).add(str(entry.get("fingerprint")))
    arms: dict[tuple[str, str], Arm] = {}
    seen: dict[tuple[str, str, int], str] = {}
    for run in sorted(runs, key=lambda r: (r.seed, r.folder.name)):
        identity = (run.arm, run.fingerprint, run.seed)
        reason = ""
        if run.arm in present and run.fingerprint not in present[run.arm]:
            fingerprints = ", ".join(sorted(present[run.arm]))
            reason = f"its config, data or own code is not the arm's present one (fingerprint {fingerprints})"
            status = "superseded"
        elif identity in seen:
            reason, status = f"the same arm, config and seed as {seen[identity]}", "copy"
        if reason:
            folder = plain(run.folder.name)
            left_out.append(LeftOut(folder, run.label, run.seed_text, status, plain(reason)))
            continue
        seen[identity] = run.folder.name
        arm = arms.setdefault(identity[:2], Arm(run.arm, run.fingerprint))
        (arm.diverged if run.status == "diverged" else arm.runs).append(run)
    return list(arms.values())


def _label(arms: list[Arm]) -> None:
    """Give each arm a label for people and a key for file names, both unique."""
    shorts = [plain(a.fingerprint)[:8] for a in arms]
    words = [settings or short for settings, short in zip(differing(arms), shorts, strict=True)]
    labels = _unique([plain(a.name) or "(no name)" for a in arms], [f" ({word})" for word in words])
    keys = _unique([record.slug(plain(a.name)) for a in arms], [f"-{record.slug(short)}" for short in shorts])
    for arm, label, key in zip(arms, labels, keys, strict=True):
        arm.label, arm.key = label, key


def differing(arms: list[Arm]) -> list[str]:
    """Return "epochs=1ep" of every arm that shares its name with others: the settings in which these differ.

    "" where there are none, or more than MOST_SETTINGS, or a config cannot be read.
    """
    same: dict[str, list[int]] = {}
    for index, arm in enumerate(arms):
        same.setdefault(plain(arm.name).lower(), []).append(index)
    told = [""] * len(arms)
    for group in (indices for indices in same.values() if len(indices) > 1):
        try:
            configs = [flatten(arms[index].first.record.config()) for index in group]
        except UserError:
            continue
        keys = [key for key in configs[0] if not is_below(key, APART) and len({str(c.get(key)) for c in configs}) > 1]
        if 0 < len(keys) <= MOST_SETTINGS:
            for index, config in zip(group, configs, strict=True):
                told[index] = shorten(plain(", ".join(f"{key}={config.get(key)}" for key in keys)), 60)
    return told


def _unique(names: list[str], endings: list[str]) -> list[str]:
    """Tell equal names apart by their endings, and if those are equal too, by a number."""
    counts = Counter(n.lower() for n in names)
    told = [n if counts[n.lower()] == 1 else n + e for n, e in zip(names, endings, strict=True)]
    seen: Counter[str] = Counter()
    for i, name in enumerate(told):
        seen[name.lower()] += 1
        if seen[name.lower()] > 1:
            told[i] = f"{name}-{seen[name.lower()]}"
    return told


def _diverged(arm: Arm, run: Run) -> LeftOut:
    reason = run.text("error", "message") or "the loss stopped being finite"
    return LeftOut(run.name, arm.label, run.seed_text, "diverged", f"{reason} (counted beside the mean, not in it)")


def _not_run(planned: list[dict[str, Any]], present: set[str]) -> list[LeftOut]:
    """List what study.json calls for and no folder holds."""
    missing = [p for p in planned if Path(str(p.get("folder"))).name not in present]
    return [
        LeftOut(
            plain(Path(str(p.get("folder"))).name),
            plain(p.get("arm", "")),
            plain(p.get("seed", "")),
            "not run",
            "called for by study.json, and not started",
        )
        for p in missing
    ]


def _plan_notes(arms: list[Arm], folder: Path, planned: bool, order: list[str]) -> list[str]:
    """Say where the runs and study.json do not agree."""
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


def _listed(arms: list[Arm]) -> str:
    return ", ".join(a.label for a in arms)
