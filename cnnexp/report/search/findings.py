"""What a search has found: its best trial, how far that can be trusted, and which settings matter."""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cnnexp.records.run_record import RunRecord
from cnnexp.records.study import read_study
from cnnexp.search.optuna_study import is_installed, shares
from cnnexp.search.space import as_words
from cnnexp.search.trials import (
    BEST_OF_MANY,
    RETRAINED,
    Search,
    Trial,
    Trials,
    counts,
    read_search,
    retrain_words,
    retrained_folder,
    winner,
)
from cnnexp.text import in_shell, plural

DRAWS = 200  # of the bootstrap
MIN_TRIALS = 10  # complete ones, to say which settings matter
Z = 1.96


@dataclass(frozen=True)
class Importance:
    """The share of a setting in how good trials differ from all, with the 95 % interval of a bootstrap over trials."""

    key: str
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Retrained:
    """The best settings on new seeds. accuracies: of the test images, one for each seed. diverged: how many seeds."""

    accuracies: Sequence[float] = ()
    diverged: int = 0

    @property
    def count(self) -> int:
        """Return how many seeds have ended."""
        return len(self.accuracies) + self.diverged

    def sentence(self) -> str:
        """Return what a reader must know of these seeds; at least one has ended."""
        seeds, n = f"Retrained on {plural(self.count, 'new seed')}", len(self.accuracies)
        if not n:
            return f"{seeds}: {'all' if self.count > 1 else 'it'} diverged."
        spread = f" ± {100 * statistics.stdev(self.accuracies):.2f}" if n > 1 else ""
        accuracy = f"{100 * statistics.mean(self.accuracies):.2f}{spread} %"
        if self.diverged:
            return f"{seeds}, {self.diverged} of which diverged: test accuracy of the others {accuracy}."
        return f"{seeds}: test accuracy {accuracy}."


@dataclass(frozen=True)
class Found:
    """A search as a report shows it. images: of the validation split; 0: unknown. retrained: the best trial."""

    search: Search
    trials: list[Trial]
    images: int
    retrained: Retrained

    @cached_property
    def best(self) -> Trial | None:
        """Return the best complete trial."""
        return winner(self.search, self.trials)

    @cached_property
    def complete(self) -> list[Trial]:
        """Return the complete trials, the best first."""
        found = [trial for trial in self.trials if trial.value is not None]
        return sorted(found, key=lambda trial: -self.search.sign * (trial.value or 0.0))

    @property
    def command(self) -> str:
        """Return the command that trains the best settings on new seeds; "" if there are none."""
        return in_shell(["cnnexp", "train", *retrain_words(self.search, self.best)]) if self.best else ""

    @cached_property
    def error(self) -> float:
        """Return the standard error of the best validation accuracy as a share of images; nan for other metrics."""
        if self.search.monitor != "accuracy" or not self.images or self.best is None or self.best.value is None:
            return math.nan
        return math.sqrt(self.best.value * (1 - self.best.value) / self.images)

    @cached_property
    def importances(self) -> list[Importance]:
        """Return the importance of every setting, the largest first; [] if `why_no_importances` gives a reason."""
        return [] if self.why_no_importances else importances(self.search, self.complete)

    @property
    def why_no_importances(self) -> str:
        """Return why the importances are not known; "" if they are."""
        if len(self.complete) < MIN_TRIALS:
            return f"Importances need {MIN_TRIALS} complete trials."
        return "" if is_installed() else "Importances need Optuna: pip install 'cnnexp[search]'."

    def shown(self, value: float | None) -> str:
        """Return a value as a reader sees it."""
        return "-" if value is None else self.search.shown(value)

    def sentences(self) -> list[str]:
        """Return what a reader must know: the result first."""
        if self.best is None:
            return [f"No trial is complete yet: {counts(self.trials)}."]
        settings = " ".join(as_words(self.best.params))
        value = f"{self.search.metric} {self.shown(self.best.value)}"
        found = [f"Best of {counts(self.trials)}: {settings}, {value} ({self.best.name})."]
        if self.retrained.count:
            found.append(self.retrained.sentence())
        else:
            found.append(f"{BEST_OF_MANY.capitalize()}; only new seeds and one test say how good it is.")
        if not math.isnan(self.error):
            near = sum(
                (self.best.value or 0.0) - (t.value or 0.0) <= Z * math.sqrt(2) * self.error for t in self.complete[1:]
            )
            others = plural(near, "other trial") if near else "no other trial"
            known = f"an accuracy is known to ± {100 * Z * self.error:.1f} points"
            found.append(
                f"With {self.images:,} validation images, {known}: {others} cannot be distinguished from the best."
            )
        return found


def read_found(folder: Path) -> Found:
    """Read a search and its trials; the caller has checked that the folder is one."""
    search = read_search(folder)
    assert search is not None
    trials = Trials(search).read()
    infos = (RunRecord.read(trial.folder).info for trial in trials)
    images = next((info["data"]["val"] for info in infos if isinstance(info.get("data"), dict)), 0)
    best = winner(search, trials)
    return Found(search, trials, images, read_retrained(search, best) if best else Retrained())


def read_retrained(search: Search, best: Trial) -> Retrained:
    """Read the runs of the best settings that study.json calls for: of one config, with one result for each seed.

    Several configs with these settings, such as of more epochs, are several experiments: the one asked for last counts.
    A seed of the trials is not a new one. Raises UserError if study.json cannot be read.
    """
    folder, words, config = retrained_folder(search.folder), {*as_words(best.params)}, ""
    found: dict[str, dict[int, list[RunRecord]]] = {}  # by config and seed: of every fold, made or not
    for entry in (read_study(folder) or {"runs": []})["runs"]:
        seed, run = entry.get("seed"), RunRecord.read(folder / Path(entry["folder"]).name)
        has_settings = words <= {*run.info.get("changes", ())}
        if entry["arm"] == RETRAINED and type(seed) is int and seed != search.seed and (has_settings or not run.info):
            of_entry = str(entry.get("group") or entry["fingerprint"])
            found.setdefault(of_entry, {}).setdefault(seed, []).append(run)
            config = of_entry if has_settings else config
    seeds = found.get(config, {}).values()
    done = [runs for runs in seeds if all(run.status == "done" and run.is_tested for run in runs)]
    accuracies = [statistics.mean(run.info["result"]["test_accuracy"] for run in runs) for runs in done]
    return Retrained(accuracies, sum(any(run.status == "diverged" for run in runs) for runs in seeds))


def importances(search: Search, complete: Sequence[Trial]) -> list[Importance]:
    """Return PED-ANOVA's importances (Watanabe et al. 2023), with intervals from trials drawn with replacement."""
    importances = shares(search, complete)
    draws: list[dict[str, float]] = []
    drawn = random.Random(0)
    for _ in range(DRAWS):
        sample = drawn.choices(complete, k=len(complete))
        draws.append(shares(search, sample))
    found = []
    for key, share in importances.items():
        values = sorted(draw[key] for draw in draws)
        low, high = values[int(0.025 * DRAWS)], values[int(0.975 * DRAWS) - 1]
        found.append(Importance(key, share, min(low, share), max(high, share)))
    return sorted(found, key=lambda importance: -importance.share)
