"""One run, by what a person types: its folder, its name, study/arm/seed, digits of its fingerprint, or `latest`.

Every command that takes a run uses `find_run`, and so do `model.weights` and `cnnexp.load`. Imports no torch.
"""

import difflib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnexp.errors import UserError, did_you_mean
from cnnexp.records.names import arm_folder, same_numbers, study_folder
from cnnexp.records.run_record import RunRecord, find_runs, one_run
from cnnexp.records.table import is_superseded
from cnnexp.text import at_home, listed, visible

OUTPUTS = Path("outputs")  # where runs are looked for
LATEST = "latest"
MIN_DIGITS = 4  # of a fingerprint; fewer could be a word
MAX_LISTED = 6


def find_run(given: str | os.PathLike[str], what: str = "run", done: bool = False) -> RunRecord:
    """Return the run that `given` names; see above. Names are looked up below outputs/, or below a folder before them.

    Runs that are superseded, or made by `cnnexp rerun`, are only meant if no other run has the name. Raises UserError,
    listing candidates, if there is none or several. what: may be named, for its message. done: `latest` is the latest
    run that is done; otherwise it is the latest one that was not skipped.
    """
    text = at_home(os.fspath(given))
    there = Path(text).exists()
    if there and (Path(text) / "run.json").exists():
        return one_run(Path(text))
    others: list[RunRecord] = []
    for place, name in _places(text):
        runs = find_runs(place)
        ended = [run for run in runs if (run.status == "done" if done else run.status != "skipped")]
        newest = _newest(_first_made(ended or ([] if done else runs)))
        found = newest if name == LATEST else _first_made([run for run in runs if _is_called(run, name)])
        if len(found) > 1:
            found = [run for run in found if not _superseded(run)] or found
        if len(found) > 1:
            names = list(typed_names(found).values())
            raise UserError(f"{text}: {len(found)} runs are called so; choose one of {_listed(names)}")
        if found:
            return one_run(found[0].folder)
        others += [run for run in runs if run.folder not in {other.folder for other in others}]
    if there:
        return one_run(Path(text))  # says why it is none
    if not others:
        raise UserError(f"{text}: no such {what}; there are no runs below {OUTPUTS}: they are made with `cnnexp train`")
    studies = [] if what == "run" else sorted({_with_place(run, "").rstrip("/") for run in others})
    names = [*studies, *typed_names(others).values()]
    near = difflib.get_close_matches(text, names, n=MAX_LISTED, cutoff=0.4)
    few = names if what == "run" and len(names) <= MAX_LISTED else studies
    near = list(dict.fromkeys([*near, *few])) or names
    named = "a run is named by its folder, its name=, study/arm/seed, the first digits of its fingerprint, or latest"
    here = ("the studies are" if len(near) > 1 else "the only study is") if set(near) <= set(studies) else "there are"
    raise UserError(f"{text}: no such {what}; {named}; {here} {_listed(near)}")


def find_place(given: str | os.PathLike[str]) -> Path:
    """Return a folder that exists, else that of the study or the run that `given` names. Raises UserError if none."""
    text = at_home(os.fspath(given))
    for folder in (Path(text), study_folder(OUTPUTS, text)):
        if folder.exists():
            return folder
    return find_run(text, "folder, study or run").folder


def weights_path(given: Any) -> Path:
    """Return the file or the run's folder that `model.weights` names. Raises UserError if there is none."""
    if not isinstance(given, str):
        raise UserError(f"model.weights: {given!r} names a config; its run has to come first (cnnexp train does it)")
    try:
        return path if (path := Path(at_home(given))).exists() else find_run(given, done=True).folder
    except UserError as error:
        guess = did_you_mean(given, ("imagenet", "none"))
        raise UserError(f"model.weights: {error}; or give a checkpoint, imagenet or none{guess}") from error


def typed_names(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Return {folder: a name that finds the run}, as short as it can be where no other run is called so."""
    short = {str(run.folder): _with_place(run, re.sub(r"-s(\d+)-[0-9a-f]+$", r"/\1", run.name)) for run in runs}
    count = Counter(short.values())
    return {
        str(run.folder): name if count[name := short[str(run.folder)]] == 1 else _with_place(run, run.name)
        for run in runs
    }


def _with_place(run: RunRecord, name: str) -> str:
    study = run.folder.parent
    return f"{study.name}/{name}" if study.parent == OUTPUTS else str(study / name)


def _places(text: str) -> list[tuple[Path, str]]:
    """Return (folder, name in it): outputs/ with the complete text, and the longest folder that the text begins with.

    Folders that do not exist are left out.
    """
    found = [(OUTPUTS, text)] if OUTPUTS.is_dir() else []
    parent = next((folder for folder in Path(text).parents if folder != Path() and folder.is_dir()), None)
    return found if parent is None else [*found, (parent, str(Path(text).relative_to(parent)))]


def _is_called(run: RunRecord, name: str) -> bool:
    info, folder = run.info, run.folder
    digits = re.fullmatch(rf"([0-9a-f]{{{MIN_DIGITS},}})(?:-s(\d+))?", name)
    if digits and str(info.get("fingerprint")).startswith(digits[1]) and digits[2] in (None, str(info.get("seed"))):
        return True
    place, _, last = name.rpartition("/")
    if re.fullmatch(r".+-s\d+(-[0-9a-f]*)?", last) and f"{folder.name}-".startswith(f"{last}"):
        return place in ("", folder.parent.name, info.get("study"))
    arms = {str(info.get("arm")), arm_folder(str(info.get("arm"))), re.sub(r"-s\d+-[0-9a-f]+$", "", folder.name)}
    known = {same_numbers(arm) for arm in arms}
    if not place:
        return same_numbers(name) in known
    if last.removeprefix("s") != str(info.get("seed")):
        return False
    known |= {f"{study}/{arm}" for study in (info.get("study"), folder.parent.name) for arm in known}
    return same_numbers(place) in known


def _first_made(runs: list[RunRecord]) -> list[RunRecord]:
    """Return the runs but for those that repeat another one; these if there are no others."""
    return [run for run in runs if not run.is_rerun] or runs


def _newest(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the run that was started last, as a list; [] without runs."""
    started = [(str(run.info["started"]), _modified(run), run) for run in runs if "started" in run.info]
    return [max(started, key=lambda entry: entry[:2])[2]] if started else []


def _modified(run: RunRecord) -> float:
    try:
        return (run.folder / "run.json").stat().st_mtime
    except OSError:
        return 0.0


def _superseded(run: RunRecord) -> bool:
    try:
        return is_superseded(run)
    except UserError:  # study.json cannot be read
        return False


def _listed(names: Sequence[str]) -> str:
    return visible(listed(names, MAX_LISTED))
