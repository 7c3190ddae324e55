"""Going on: a run that differs from a finished one only in having more epochs starts from its final state.

Every number is that of a run that was made from the start: nothing that a step computes depends on the number of steps
that follow, unless the schedule does. So the fingerprint says nothing of it; run.json does, under `upstream`.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnnexp import storage
from cnnexp.config import checks
from cnnexp.config.fingerprint import fingerprint_of
from cnnexp.config.signature import parameters_of
from cnnexp.errors import UserError, warn_once
from cnnexp.records import provenance
from cnnexp.records.fields import FINAL, FINAL_STATE, HASH_CHAIN, LAST, PROBES
from cnnexp.records.run_record import RunRecord
from cnnexp.storage.untrusted import checked_file, checked_folder
from cnnexp.training import checkpoint


def has_open_end(config: dict[str, Any]) -> bool:
    """Tell whether the schedule does not depend on the number of epochs, so that more can follow."""
    return "total_steps" not in parameters_of(checks.target("scheduler", config["scheduler"]))


def keeps_final_state(config: dict[str, Any]) -> bool:
    """Tell whether the state at the end of a run is kept, so that a longer one can go on from it."""
    return bool(config["checkpoint"].get("final", True)) and has_open_end(config)


def shorter_run(
    config: dict[str, Any], facts: dict[str, Any], folder: Path, total_steps: int, steps_per_epoch: int
) -> str | None:
    """Return the finished run of this study that differs only in fewer epochs, by its folder; None without one.

    It is the longest that the run of `folder`, which is not begun, can go on from. If none allows that, says why.
    """
    if config.get("search"):  # a trial is made from the start
        return None
    own = RunRecord.read(folder)
    if own.info.get("status") in FINAL or own.resumes:
        return None
    refused: list[tuple[RunRecord, str]] = []
    for shorter in _shorter(config, facts, folder.parent, total_steps):
        if not (reason := _why_not(config, facts, shorter, steps_per_epoch)):
            return shorter.folder.name
        refused.append((shorter, reason))
    if refused:
        shorter, reason = refused[0]
        epochs = shorter.info["schedule"]["epochs"]
        warn_once(
            f"{folder.parent} {reason}",
            f"cnnexp: starts anew, although {shorter.folder} has made {epochs} epochs: {reason}",
        )
    return None


def _shorter(config: dict[str, Any], facts: dict[str, Any], study: Path, total_steps: int) -> Iterator[RunRecord]:
    """Yield the finished runs that differ only in fewer epochs, the longest first."""
    if not study.is_dir():
        return
    lengths = _lengths(study, study.stat().st_mtime_ns)
    for steps, epochs in sorted((length for length in lengths if length[0] < total_steps), reverse=True):
        for span in (f"{epochs}ep", f"{steps}st"):
            fingerprint = fingerprint_of({**config, "epochs": span}, facts)
            for found in sorted(study.glob(f"*-s{config['seed']}-{fingerprint}")):
                record = RunRecord.read(found)
                pruned = (record.info.get("result") or {}).get("stopped") == "pruned"
                if record.info.get("status") == "done" and not pruned and not found.is_symlink():
                    yield record


@functools.lru_cache(maxsize=8)
def _lengths(study: Path, modified: int) -> set[tuple[int, int]]:
    """Return (steps, epochs) of the runs of a study."""
    schedules = [RunRecord.read(folder).info.get("schedule") for folder in study.glob("*-s*-*")]
    found = [(s.get("total_steps"), s.get("epochs")) for s in schedules if isinstance(s, dict)]
    return {(steps, epochs) for steps, epochs in found if type(steps) is int and type(epochs) is int}


def _why_not(config: dict[str, Any], facts: dict[str, Any], shorter: RunRecord, steps_per_epoch: int) -> str:
    """Return why a run cannot go on from a shorter one, "" if it can."""
    if not has_open_end(config):
        name = config["scheduler"]["_target_"].rpartition(".")[2]
        return f"the schedule {name} depends on the number of epochs (constant, step and plateau do not)"
    if (shorter.info.get("data") or {}).get("validation") != facts.get("validation"):
        return "its validation images are others, because files were renamed since"
    if shorter.info["schedule"]["total_steps"] % steps_per_epoch:
        return "it ended in the middle of an epoch"
    before = shorter.config()
    if different := [name for name in ("log", "probes") if before.get(name) != config[name]]:
        return f"{different[0]} is set differently, so its rows are others"
    if not (shorter.folder / "checkpoints" / FINAL_STATE).exists():
        return f"its checkpoints/{FINAL_STATE} was not kept (checkpoint.final=false, or deleted by cnnexp gc)"
    return ""


def go_on(name: str | None, identity: str, record: RunRecord) -> bool:
    """Copy the rows and the final state of a shorter run, if there is one, into a new run, which then restores them.

    name: of the shorter run's folder. identity: of the new run. Returns False, and says so, if the shorter run is
    damaged or was deleted since.
    """
    if record.info.pop("upstream", None):  # a kill came before the state was there
        record.info.pop("device", None)
    if name is None:
        return False
    shorter = record.folder.parent / Path(name).name
    before = RunRecord.read(shorter)
    own = record.folder / "checkpoints"
    try:
        checkpoints = checked_folder(shorter, "checkpoints")
        state = checkpoint.read(checked_file(checkpoints, FINAL_STATE), before.identity)
        best = checkpoint.read(checked_file(checkpoints, "best.pt"), before.identity)
        if before.digest(state["rows"]) != state["rows_digest"] or best["epoch"] != state["best"]["epoch"]:
            raise storage.Damaged(f"{before.metrics}: its rows are not those of {FINAL_STATE}")
        if type(best["epoch"]) is not int:  # it is a part of a file's name
            raise storage.Damaged(f"{checkpoints / 'best.pt'}: its epoch is {best['epoch']!r}")
        made_by = {name: before.info[name] for name in ("code", "environment")}
        device, epochs = before.info["device"], before.info["schedule"]["epochs"]
        rows = {name: checked_file(shorter, name) for name in ("metrics.jsonl", HASH_CHAIN, PROBES)}
        contents = {name: file.read_bytes() for name, file in rows.items() if file.exists()}
    except (KeyError, TypeError, OSError, UserError) as error:
        line = f"starts anew: cannot go on from {shorter} ({error})"
        warn_once(line, f"cnnexp: {line}")
        record.log(line)
        return False
    for file_name, written in contents.items():
        storage.write_bytes(record.folder / file_name, written)
    made = [*before.info.get("earlier", []), made_by]
    record.update(
        upstream={"run": before.identity, "folder": shorter.name, "epochs": epochs},
        earlier=[versions for versions in made if versions != provenance.made_by()],
        device=device,  # which layers stay in fp32
    )
    for file_name, content in ((f"best-{best['epoch']}.pt", best), (LAST, state)):  # last.pt names the other
        storage.publish(checkpoint.draft(own / file_name, {**content, "run": identity}), own / file_name)
    record.log(f"goes on from {shorter}, after step {state['step']}")
    return True
