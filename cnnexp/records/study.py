"""study.json: the arms and runs that a study's present configs call for, its planned seeds, and looks at it. No torch.

A report is a look. It is recorded, because verdicts that may fall at several looks need stricter limits, and a verdict
that was once seen must stay true.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.records.run_record import now
from cnnexp.storage.untrusted import checked_file

ADVICE = (
    "Choose settings by validation accuracy, not by test accuracy: the best of several test accuracies is too high."
)
ENTRY_KEYS = ("folder", "arm", "fingerprint")  # what every entry of `runs` has


@dataclass(frozen=True)
class Plan:
    """The seeds that a study planned before it was first looked at.

    every_seed: verdicts may fall at each number of seeds from three on. Otherwise they fall when all seeds are done.
    ended: no more of these seeds will be made than the study has runs of, because the rest would decide nothing.
    """

    seeds: tuple[int, ...]
    every_seed: bool = False
    ended: bool = False


@dataclass(frozen=True)
class Crossing:
    """A test that was decided at a look: it stays decided. side: 1 or -1, of the difference from what was tested.

    p was below `limit` by `rule`, with these shared seeds.
    """

    side: int
    p: float
    limit: float
    rule: str
    seeds: tuple[int, ...]


def write_study(folder: Path, study: dict[str, Any]) -> None:
    """Write study.json: {name, question, baseline, reported, source, claims, command, written, arms, runs, plan, ...}.

    runs: [{folder, arm, seed, fingerprint}], with folds also group, as in run.json. reported, source, claims: as in the
    config, null without. plan: of Plan.
    looks: [{made, seeds: {arm@fingerprint: seeds}, tests: how many of each family}]. decided: {hypothesis: Crossing}.
    tested: {hypothesis: how many runs of each side were compared when the planned seeds were tested}.
    """
    storage.make_folder(folder)
    storage.write_json(folder / "study.json", study)


def read_study(folder: Path) -> dict[str, Any] | None:
    """Read study.json; None if there is none, or if it is not a study. Raises UserError if it cannot be read."""
    if not (folder / "study.json").exists():
        return None
    try:
        study = storage.read_json(checked_file(folder, "study.json"))
    except UserError as error:
        raise UserError(f"{error}; put a copy back, or delete it: the study's commands write it again") from error
    if not isinstance(study, dict) or not isinstance(study.get("runs"), list):
        return None
    runs = [r for r in study["runs"] if isinstance(r, dict) and all(isinstance(r.get(k), str) for k in ENTRY_KEYS)]
    arms = study.get("arms")
    return {**study, "runs": runs, "arms": [a for a in arms if isinstance(a, str)] if isinstance(arms, list) else []}


def identity(arm: str, fingerprint: str) -> str:
    """Return how looks name an arm: with its config, because another config is another experiment."""
    return f"{arm}@{fingerprint}"


def read_plan(study: Mapping[str, Any]) -> Plan | None:
    """Return the plan of study.json's content; None if there is none."""
    plan = study.get("plan")
    if not isinstance(plan, dict):
        return None
    seeds = plan.get("seeds")
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        return None
    return Plan(tuple(dict.fromkeys(seeds)), plan.get("every_seed") is True, plan.get("ended") is True)


def read_looks(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the recorded looks of study.json's content: {made, seeds: {arm@fingerprint: seeds}, tests: counts}."""
    looks = study.get("looks")
    found = [look for look in looks if isinstance(look, dict)] if isinstance(looks, list) else []
    return [look for look in found if isinstance(look.get("seeds"), dict)]


def read_crossings(study: Mapping[str, Any]) -> dict[str, Crossing]:
    """Return {hypothesis: its crossing} of study.json's content."""
    found, decided = {}, study.get("decided")
    for name, given in decided.items() if isinstance(decided, dict) else ():
        if isinstance(given, dict) and given.get("side") in (1, -1) and isinstance(given.get("seeds"), list):
            p, limit = given.get("p"), given.get("limit")
            if isinstance(p, float) and isinstance(limit, float) and 0 <= p < limit < 1:
                seeds = tuple(seed for seed in given["seeds"] if type(seed) is int)
                found[name] = Crossing(given["side"], p, limit, str(given.get("rule")), seeds)
    return found


def read_tested(study: Mapping[str, Any]) -> dict[str, int]:
    """Return {hypothesis: how many runs of each side its planned test had} of study.json's content."""
    tested = study.get("tested")
    return {name: n for name, n in tested.items() if type(n) is int} if isinstance(tested, dict) else {}


def plan_seeds(old: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], asked: Plan) -> Plan:
    """Return a study's plan: the first one, once its present arms were looked at; before that, what is asked for now.

    A look at one seed of each arm leaves the plan free, because it cannot be tested. old: study.json's content so far.
    runs: its entries from now on; their seeds are planned too. The order of the seeds stays. A plan that has ended goes
    on with an arm, or a config of one, that was never looked at.
    """
    present = {identity(run["arm"], run.get("group") or run["fingerprint"]) for run in runs}
    first = read_plan(old)
    seen = [(arm, seeds) for look in read_looks(old) for arm, seeds in look["seeds"].items() if arm in present]
    if first and any(isinstance(seeds, list) and len(seeds) > 1 for _, seeds in seen):
        return replace(first, ended=first.ended and not asked.every_seed and present == {arm for arm, _ in seen})
    seeds = sorted(seed for run in runs if type(seed := run.get("seed")) is int)
    return Plan(tuple(dict.fromkeys([*asked.seeds, *seeds])), asked.every_seed)


def end_plan(folder: Path) -> None:
    """Record that no more of a study's planned seeds will be made: what is undecided now is not provisional."""
    with storage.lock(folder / ".lock", wait=True):
        study = storage.read_json(checked_file(folder, "study.json"))
        study["plan"]["ended"] = True
        write_study(folder, study)


@dataclass(frozen=True)
class Look:
    """What a look records. seeds: of every arm, by `identity`. tests: how many each family has, [] while planned runs
    are not done.

    decided: tests that are decided now. tested: of tests of the planned seeds, how many runs each side has.
    """

    seeds: Mapping[str, Sequence[int]]
    tests: Sequence[int] = ()
    decided: Mapping[str, Crossing] = field(default_factory=dict)
    tested: Mapping[str, int] = field(default_factory=dict)


def record_look(folder: Path, look: Look) -> str:
    """Add a look to study.json, unless it has it. Returns why it cannot be, "" if it is.

    What was decided or tested at an earlier look stays as it is.
    """
    try:
        if read_study(folder) is None:
            return ""
        with storage.lock(folder / ".lock", wait=True):
            study = storage.read_json(checked_file(folder, "study.json"))
            before, tests = dict(study), list(look.tests)
            looks, seeds = read_looks(study), {arm: list(of_arm) for arm, of_arm in look.seeds.items()}
            same = [old for old in looks if old["seeds"] == seeds]
            if not same or (tests and all(old.get("tests") not in ([], tests) for old in same)):
                study["looks"] = [*looks, {"made": now(), "seeds": seeds, "tests": tests}]
            elif tests:  # the planned runs are done by now
                filled = {"tests": tests}
                study["looks"] = [old | filled if old in same and not old.get("tests") else old for old in looks]
            decided = dict(look.decided) | read_crossings(study)
            study["decided"] = {name: asdict(one) | {"seeds": list(one.seeds)} for name, one in decided.items()}
            study["tested"] = dict(look.tested) | read_tested(study)
            if study != before:
                write_study(folder, study)
    except (OSError, UserError) as error:
        return str(error)
    return ""


def is_choice(study: Mapping[str, Any] | None, arms: Collection[str]) -> bool:
    """Return whether these are several arms without a baseline and claims. study: study.json, None without one."""
    planned = study is not None and (study.get("baseline") or study.get("claims"))
    return len(set(arms)) > 1 and not planned and "baseline" not in arms
