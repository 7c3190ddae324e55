"""study.json: the arms and runs that a study's present configs call for. Imports no torch."""

from pathlib import Path
from typing import Any

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.storage.untrusted import checked_file

ENTRY_KEYS = ("folder", "arm", "fingerprint")  # what every entry of `runs` has


def write_study(folder: Path, study: dict[str, Any]) -> None:
    """Write study.json: {name, question, baseline, reported, source, claims, command, written, arms, runs}.

    runs: [{folder, arm, seed, fingerprint}]. reported, source, claims: as in the config, null without.
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
