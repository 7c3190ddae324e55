"""The ablation of the embedded data: one sweep against its runs started one after another, on both sides."""

from dataclasses import dataclass, field
from typing import Any

from bench.lab import CNNEXP, Lab, tell
from bench.result import Case, Check, Numbers, Result, compare
from bench.runs import Trained, prepare, rival_command, tell_one_line, train
from bench.trees import shapes

ARMS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "batchnorm": {"norm": True},
    "dropout": {"dropout": 0.3},
    "augmentation": {"augmentation": "full"},
    "combined": {"norm": True, "dropout": 0.3, "augmentation": "full"},
}
PLAIN = {"norm": False, "dropout": 0.0, "augmentation": "none", "size": 32, "batch_size": 32}


@dataclass
class Study:
    """The ablation, made in three ways. accuracies: of every run, by arm and side."""

    lab: Lab
    arms: list[str]
    seeds: list[int]
    epochs: int
    accuracies: dict[str, list[float]] = field(default_factory=dict)

    def sweep_words(self) -> list[str]:
        """Return the overrides of the sweep."""
        seeds = ",".join(map(str, self.seeds))
        return ["+study=ablation", f"+arm={','.join(self.arms)}", f"seed={seeds}", *self.single_words()]

    def single_words(self) -> list[str]:
        """Return the overrides that every run has."""
        return ["device=cpu", f"epochs={self.epochs}ep"]

    def sweep(self, repeat: int) -> Numbers:
        """Make all runs with one command of cnnexp."""
        made = train(self.lab, self.sweep_words())
        for info in made.records:
            self.accuracies.setdefault(f"{info['arm']}, cnnexp", []).append(info["result"]["test_accuracy"])
        return added([made])

    def one_by_one(self, repeat: int) -> Numbers:
        """Make each run with a command of its own."""
        pairs = [(arm, seed) for arm in self.arms for seed in self.seeds]
        words = ["+study=ablation", "hydra.mode=RUN", *self.single_words()]
        return added([train(self.lab, [*words, f"+arm={arm}", f"seed={seed}"]) for arm, seed in pairs])

    def settings(self) -> dict[str, Any]:
        """Return the settings of the plain loop."""
        return {"root": str(shapes(self.lab)), "epochs": self.epochs, **PLAIN}

    def plain(self, repeat: int) -> Numbers:
        """Make each run with the plain loop."""
        total = {"wall_seconds": 0.0, "start_seconds": 0.0, "recorded_seconds": 0.0, "train_seconds": 0.0}
        accuracies = []
        for arm in self.arms:
            for seed in self.seeds:
                settings = self.settings() | ARMS[arm] | {"seed": seed}
                told, finished = tell_one_line(self.lab, rival_command("plain.py", settings))
                total["wall_seconds"] += finished.seconds
                total["start_seconds"] += finished.seconds - told["seconds"]
                total["recorded_seconds"] += told["seconds"]
                total["train_seconds"] += told["train_seconds"]
                accuracies.append(told["test_accuracy"])
                self.accuracies.setdefault(f"{arm}, plain", []).append(told["test_accuracy"])
        return {**total, "test_accuracy": sum(accuracies) / len(accuracies)}

    def cases(self) -> list[Case]:
        """Return the three ways."""
        number = len(self.arms) * len(self.seeds)
        single = self.lab.readable(
            [*CNNEXP, "train", "+study=ablation", "hydra.mode=RUN", *self.single_words(), "+arm=ARM", "seed=SEED"]
        )
        loop = self.lab.readable(rival_command("plain.py", self.settings()))
        return [
            Case("cnnexp, one sweep", self.lab.readable([*CNNEXP, "train", *self.sweep_words()]), self.sweep),
            Case("cnnexp, run by run", f"{single}     # {number} times", self.one_by_one),
            Case("plain, run by run", f"{loop}     # {number} times, with the settings of each arm", self.plain),
        ]


def added(parts: list[Trained]) -> Numbers:
    """Return the numbers of several commands of cnnexp, added up."""
    return {
        "wall_seconds": sum(part.seconds for part in parts),
        "start_seconds": sum(part.overhead_seconds() for part in parts),
        "recorded_seconds": sum(part.recorded_seconds() for part in parts),
        "train_seconds": sum(info["seconds"]["train"] for part in parts for info in part.records),
        "test_accuracy": sum(part.mean("test_accuracy") for part in parts) / len(parts),
    }


def ablation(lab: Lab) -> Result:
    """C7: five arms, three seeds."""
    study = Study(lab, list(ARMS)[: lab.pick(5, 2)], list(range(lab.pick(3, 1))), lab.trained(10))
    prepare(lab, ["data=shapes"])
    sweep, single, plain = cases = study.cases()
    number = len(study.arms) * len(study.seeds)
    wall = "wall_seconds"
    checks = [
        Check(f"{number} runs, against plain loops one after another", "seconds", 4.0, wall, sweep.name, plain.name),
        Check(f"{number} runs, against cnnexp run by run", "seconds", 1.5, wall, sweep.name, single.name),
    ]
    result = compare(cases, lab.repeated(3), checks, tell, {"runs": number, "epochs": study.epochs})
    for case in (single, plain):
        if numbers := result.series.get(case.name):
            start, trained = (sum(numbers[m]) / len(numbers[m]) / number for m in ("start_seconds", "train_seconds"))
            result.facts[f"one process, {case.name}"] = f"{start:.2f} s to start and end, {trained:.2f} s of training"
    for name, values in sorted(study.accuracies.items()):
        result.facts[f"mean test accuracy, {name}"] = round(sum(values) / len(values), 4)
    return result
