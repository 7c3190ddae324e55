"""The trials of a search, as its folder records them. They are all that is stored: Optuna's study is built from them.

outputs/<search>/search.json     what is searched: FIELDS
outputs/<search>/trials.jsonl    a row per trial as it is proposed: number, params, folder
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.records.fields import FINAL
from cnnexp.records.run_record import RunRecord
from cnnexp.search.space import Dimension, Params, as_words, read_space
from cnnexp.storage.untrusted import checked_file
from cnnexp.text import percent, plural

SEARCH, TRIALS = "search.json", "trials.jsonl"
FIELDS: dict[str, type] = {  # of search.json
    "sampler": str,
    "space": dict,
    "monitor": str,  # what trials are compared by, on validation images
    "keep_epoch": str,
    "trials": int,
    "seed": int,
    "command": str,
    "words": list,  # of the command, without those of the search
}
RETRAIN_SEEDS = 5
RETRAINED = "best"  # the arm of the winner, trained again
OF_RETRAINED = f"-{RETRAINED}"  # its study is named as the search, and this
BEST_OF_MANY = "its validation result was chosen as the best of many, so it is too good"
State = Literal["complete", "pruned", "unfit", "failed", "open"]


class Refused(UserError):
    """No run can have the proposed settings. An error of a disk, of the network or of a file is none of these."""


@dataclass(frozen=True)
class Search:
    """What search.json says; `space` is read."""

    folder: Path
    sampler: str
    space: dict[str, Dimension]
    monitor: str
    keep_epoch: str
    trials: int
    seed: int
    command: str = ""
    words: tuple[str, ...] = ()

    def write(self) -> None:
        """Write search.json, if it would change."""
        space = {key: dimension.as_node() for key, dimension in self.space.items()}
        content = {key: getattr(self, key) for key in FIELDS} | {"space": space, "words": list(self.words)}
        if not is_search(self.folder) or storage.read_json(self.folder / SEARCH) != content:
            storage.write_json(self.folder / SEARCH, content)

    @property
    def sign(self) -> int:
        """Return 1 if a higher value is better, -1 if a lower one is."""
        return -1 if self.monitor == "loss" else 1

    @property
    def metric(self) -> str:
        """Return what trials are compared by, as a reader sees it: "validation accuracy"."""
        return f"validation {self.monitor.replace('_', ' ')}"

    def shown(self, value: float) -> str:
        """Return a value as a reader sees it: a loss with 4 decimals, else per cent."""
        return f"{value:.4f}" if self.monitor == "loss" else percent(value)


@dataclass(frozen=True)
class Trial:
    """A trial, and how far it has come.

    state: complete; pruned; unfit (it diverged or ran out of memory: its settings are at fault); failed; or open.
    curve: the value after each epoch. value: what it is compared by; None unless it is complete.
    """

    number: int
    params: Params
    folder: Path
    state: State = "open"
    value: float | None = None
    curve: dict[int, float] = field(default_factory=dict)
    status: str = ""
    seconds: float = 0.0
    epochs: int = 0
    message: str = ""

    @property
    def name(self) -> str:
        """Return "trial-007"."""
        return trial_name(self.number)

    @property
    def shown_state(self) -> str:
        """Return the state as a reader sees it: of an unfit trial "diverged", "oom" or "refused"."""
        return self.status if self.state == "unfit" else self.state


def counts(trials: Sequence[Trial]) -> str:
    """Return "20 trials (14 complete, 5 pruned, 1 diverged)", in this order."""
    states = [trial.shown_state for trial in trials]
    order = ("complete", "pruned", "diverged", "oom", "refused", "failed", "open")
    listed = [f"{states.count(state)} {state}" for state in order if state in states]
    return f"{plural(len(states), 'trial')} ({', '.join(listed) or 'none made'})"


def trial_name(number: int) -> str:
    """Return the arm of a trial."""
    return f"trial-{number:03d}"


def is_search(folder: Path) -> bool:
    """Tell whether a folder is that of a search."""
    return (folder / SEARCH).is_file()


def read_search(folder: Path) -> Search | None:
    """Read search.json; None if there is none. Raises UserError if it has another form."""
    if not is_search(folder):
        return None
    content = storage.read_json(checked_file(folder, SEARCH))
    if not isinstance(content, dict) or any(not isinstance(content.get(key), kind) for key, kind in FIELDS.items()):
        raise UserError(f"{folder / SEARCH}: is not as a search writes it; put a copy back, or use another study.name")
    known = {key: content[key] for key in FIELDS if key not in ("space", "words")}
    return Search(folder, **known, space=read_space(content["space"]), words=tuple(map(str, content["words"])))


class Trials:
    """Reads the trials of a search, again and again; those that have ended are read once."""

    def __init__(self, search: Search):
        self.search, self.folder = search, search.folder
        self.ended: dict[int, Trial] = {}

    def read(self) -> list[Trial]:
        """Return all trials, by number."""
        found: dict[int, Trial] = {}
        for row in storage.read_rows(checked_file(self.folder, TRIALS)):
            number, params, name = row.get("number"), row.get("params"), row.get("folder")
            if type(number) is not int or not isinstance(params, dict) or set(params) != set(self.search.space):
                raise UserError(
                    f"{self.folder / TRIALS}: has a row that a search has not written; use another study.name"
                )
            if number in self.ended:
                trial = self.ended[number]
            elif error := row.get("error"):
                trial = Trial(number, params, self.folder, "unfit", status="refused", message=str(error))
            else:
                trial = read_trial(self.search, number, params, self.folder / Path(str(name)).name)
            if trial.state == "unfit" or trial.status in FINAL:
                self.ended[number] = trial
            found[number] = trial
        return [found[number] for number in sorted(found)]

    def add(self, number: int, params: Params, folder: Path | None = None, error: str = "") -> None:
        """Record a trial before it starts; or with the reason why it cannot start."""
        file = checked_file(self.folder, TRIALS)
        storage.keep_rows(file, len(storage.read_rows(file)))  # a crash may have left half a row
        end = {"folder": folder.name} if folder else {"error": error}
        storage.append_row(file, {"number": number, "params": params, **end})
        storage.sync_file(file)


def read_trial(search: Search, number: int, params: Params, folder: Path) -> Trial:
    """Read how a trial has gone, from its run."""
    run = RunRecord.read(folder)
    status, result = run.info.get("status", ""), run.info.get("result") or {}
    try:
        rows = run.rows(split="val") if run.info else []
    except UserError:  # damaged: it counts as a trial without a value
        return Trial(number, params, folder, "failed", status="damaged", message="its metric rows are damaged")
    curve = {int(row["epoch"]): float(row[search.monitor]) for row in rows if search.monitor in row}
    values = [search.sign * value for value in curve.values()]
    state: State = "open"
    if status == "done":
        state = "pruned" if result.get("stopped") == "pruned" else "complete" if values else "failed"
    elif status in ("diverged", "oom"):
        state = "unfit"
    elif status in ("failed", "skipped"):
        state = "failed"
    best = values[-1] if values and search.keep_epoch == "last" else max(values, default=None)
    value = search.sign * best if state == "complete" and best is not None else None
    seconds = (run.info.get("seconds") or {}).get("total") or 0.0
    message = (run.info.get("error") or {}).get("message", "")
    return Trial(number, params, folder, state, value, curve, status, seconds, max(curve, default=0), message)


def winner(search: Search, trials: Sequence[Trial]) -> Trial | None:
    """Return the complete trial with the best value, the first of equal ones; None without any."""
    complete = [trial for trial in trials if trial.value is not None]
    return max(complete, key=lambda trial: (search.sign * (trial.value or 0.0), -trial.number), default=None)


def retrain_words(search: Search, best: Trial, seeds: int = 0) -> list[str]:
    """Return the words of `cnnexp train` that train the best settings on new seeds, RETRAIN_SEEDS of them if 0."""
    new = [search.seed + 1 + index for index in range(seeds or RETRAIN_SEEDS)]
    study = retrained_folder(search.folder).name
    given = [f"seed={','.join(map(str, new))}", f"study.name={study}", f"name={RETRAINED}"]
    return ["-m", *search.words, *as_words(best.params), *given]


def retrained_folder(folder: Path) -> Path:
    """Return the folder of the study that the words of `retrain_words` make. folder: of the search."""
    named = folder.resolve() if folder.name in ("", "..") else folder
    return named.with_name(f"{named.name}{OF_RETRAINED}")


def searches_of(folders: Iterable[Path]) -> list[Path]:
    """Return the folders of the searches whose winners are trained again in these folders of studies."""
    names = {folder: folder.name.removesuffix(OF_RETRAINED) for folder in folders}
    found = [folder.with_name(name) for folder, name in names.items() if name not in ("", folder.name)]
    return [folder for folder in found if is_search(folder)]


def retrained(folder: Path) -> list[Path]:
    """Return the folders of the runs that the words of `retrain_words` have made, also of earlier winners."""
    return sorted(retrained_folder(folder).glob(f"{RETRAINED}-s*"))
