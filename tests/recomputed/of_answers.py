"""The tables of single test images and of classes, computed a second time from the logits.

Shapes: N images, K classes, S seeds.
"""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnexp.report.read.study import Arm
from cnnexp.text import plain
from recomputed.arithmetic import Key, log_softmax, spread
from recomputed.of_calibration import MOST_CLASSES, Calibrated, answers_of, class_names
from recomputed.of_runs import Recomputed
from recomputed.of_tests import Table

CONFUSIONS, ARMS, MISTAKES, AGAINST = 20, 12, 12, 6  # rows of an arm; arms looked at; rows of an arm, of a side
Array = NDArray[Any]


@dataclass
class Seen:
    """What an arm's seeds answered to the same images, in the order of the first: ids and labels (N,)."""

    arm: Arm
    seeds: dict[Key, Recomputed]
    ids: Array
    labels: Array
    rows: list[Array]  # of each seed's own order

    @cached_property
    def predicted(self) -> Array:
        """Return (S, N): the classes answered."""
        return np.array(
            [answers_of(run)[0].argmax(1)[at] for run, at in zip(self.seeds.values(), self.rows, strict=True)]
        )

    @cached_property
    def probabilities(self) -> Array:
        """Return (N, K): the mean over the seeds."""
        each = [
            np.exp(log_softmax(answers_of(run)[0]))[at] for run, at in zip(self.seeds.values(), self.rows, strict=True)
        ]
        return np.asarray(sum(each, np.zeros_like(each[0])) / len(each))

    @property
    def right(self) -> Array:
        """Return (S, N): which images each seed has right."""
        return np.asarray(self.predicted == self.labels)

    def example(self, row: int) -> dict[str, Any]:
        """Return what is shown of an image: its class, the likeliest of the others, and how sure the arm is of that."""
        names, label = class_names(self.arm), int(self.labels[row])
        order = [k for k in range(self.probabilities.shape[1]) if k != label]
        other = max(order, key=lambda k: self.probabilities[row, k])
        return {
            "image": plain(self.ids[row]),
            "true_class": names[label],
            "answered": names[other],
            "confidence_percent": 100 * float(self.probabilities[row, other]),
            "seeds_wrong": int((self.predicted[:, row] != label).sum()),
        }


def rows_of(ids: Array, given: Array) -> Array | None:
    """Return where in `given` the ids are, in their order; None unless both hold the same."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(given.tolist()):
        places[name].append(place)
    found = [places[name].pop(0) for name in ids.tolist() if places.get(name)]
    return np.array(found) if len(found) == len(ids) == len(given) else None


class Answered(Calibrated):
    """The tables of one study that are about its answers."""

    def answers(self) -> dict[str, Table]:
        """Return {file: rows} of those that a report of it has."""
        if not any(self.finite(arm) for arm in self.study.arms):
            return {}
        tables = {
            "calibration.csv": [self.calibration(arm) for arm in self.study.arms if self.finite(arm)],
            "calibration_bins.csv": [row for arm in self.study.arms if self.finite(arm) for row in self.bins(arm)],
            "confusions.csv": [row for arm in self.study.arms for row in self.confusions(arm)],
            "mistakes.csv": [row for arm in list(self.seen.values())[:ARMS] for row in self.mistakes(arm)],
        }
        if self.against_base:
            tables["disagreement.csv"] = [self.disagreement(seen) for seen in self.against_base]
            tables["never_agreed.csv"] = [row for seen in self.against_base for row in self.never_agreed(seen)]
            tables["per_class_difference.csv"] = [row for arm in self.study.arms for row in self.by_class(arm)]
        return tables

    @cached_property
    def seen(self) -> dict[str, Seen]:
        """Return {arm's key: its answers} to the images of its first run; runs with others are left out."""
        found: dict[str, Seen] = {}
        for arm in self.study.arms:
            for seed, run in self.finite(arm).items():
                logits, labels, ids = answers_of(run)
                mine = found.setdefault(arm.key, Seen(arm, {}, ids, labels, []))
                rows = rows_of(mine.ids, ids)
                classes = next((answers_of(other)[0].shape[1] for other in mine.seeds.values()), logits.shape[1])
                if rows is not None and (labels[rows] == mine.labels).all() and logits.shape[1] == classes:
                    mine.seeds[seed] = run
                    mine.rows.append(rows)
        return found

    def counted(self, arm: Arm) -> dict[Key, Recomputed]:
        """Return the arm's runs that count by class: as many classes as its first one."""
        runs = {seed: run for seed, run in self.of(arm).items() if run.answers is not None}
        runs = {seed: run for seed, run in runs.items() if answers_of(run)[0].shape[1] <= MOST_CLASSES}
        size = next((answers_of(run)[0].shape[1] for run in runs.values()), 0)
        return {seed: run for seed, run in runs.items() if answers_of(run)[0].shape[1] == size}

    def confusions(self, arm: Arm) -> Table:
        """Return an arm's lines of confusions.csv: which class is most often taken for which other."""
        names, pairs, totals = class_names(arm), Counter[tuple[int, int]](), Counter[int]()
        for run in self.counted(arm).values():
            logits, labels, _ = answers_of(run)
            totals.update(labels.tolist())
            pairs.update(zip(labels.tolist(), logits.argmax(1).tolist(), strict=True))
        wrong = sorted((-count, *pair) for pair, count in pairs.items() if pair[0] != pair[1])
        return [
            {"arm": arm.label, "true_class": names[true], "predicted_class": names[answered], "rank": rank}
            | {"count": -count, "share_of_true_class_percent": -100 * count / totals[true]}
            for rank, (count, true, answered) in enumerate(wrong[:CONFUSIONS], start=1)
        ]

    def mistakes(self, seen: Seen) -> Table:
        """Return an arm's lines of mistakes.csv: wrong answers, the most confident first."""
        sure, answered = seen.probabilities.max(1), seen.probabilities.argmax(1)
        rows = sorted(np.flatnonzero(answered != seen.labels).tolist(), key=lambda row: -sure[row])
        lines = []
        for rank, row in enumerate(rows[:MISTAKES], start=1):
            shown = seen.example(row)
            line = {"arm": seen.arm.label, "image": shown["image"], "rank": rank, "true_class": shown["true_class"]}
            line |= {"predicted_class": shown["answered"], "confidence_percent": shown["confidence_percent"]}
            lines.append(line | {"seeds_wrong": shown["seeds_wrong"], "seeds": len(seen.seeds)})
        return lines

    @cached_property
    def against_base(self) -> list[Seen]:
        """Return the arms that answered the baseline's images, with the baseline's classes."""
        base = self.base
        others = [s for s in self.seen.values() if base is not None and s.arm is not base.arm]
        near = [s for s in others if base is not None and not self.apart(s.arm, base.arm)]
        return [s for s in near if self.as_base(s) is not None]

    @property
    def base(self) -> Seen | None:
        """Return the baseline's answers."""
        return self.seen.get(self.study.baseline.key) if self.study.baseline else None

    def as_base(self, seen: Seen) -> Array | None:
        """Return an arm's rows in the order of the baseline's images; None if they are not the same."""
        assert self.base is not None
        rows = rows_of(self.base.ids, seen.ids)
        same = class_names(seen.arm) == class_names(self.base.arm)
        return rows if rows is not None and same and (seen.labels[rows] == self.base.labels).all() else None

    def disagreement(self, seen: Seen) -> dict[str, Any]:
        """Return an arm's line of disagreement.csv."""
        base, rows = self.base, self.as_base(seen)
        assert base is not None and rows is not None
        mine, theirs = (dict(zip(s.seeds, s.right, strict=True)) for s in (seen, base))
        shared = {seed: (mine[seed][rows], theirs[seed]) for seed in mine if seed in theirs}
        parts = {
            "both": {s: 100 * float((a & b).mean()) for s, (a, b) in shared.items()},
            "only_arm": {s: 100 * float((a & ~b).mean()) for s, (a, b) in shared.items()},
            "only_base": {s: 100 * float((b & ~a).mean()) for s, (a, b) in shared.items()},
            "neither": {s: 100 * float((~a & ~b).mean()) for s, (a, b) in shared.items()},
        }
        found = {name: spread(values) for name, values in parts.items()}
        line = {"arm": seen.arm.label, "baseline": base.arm.label, "images": len(base.ids), "n": found["both"]["n"]}
        line |= {f"{name}_{k}_percent": found[name][k] for name in parts for k in ("mean", "std")}
        line |= {"two_seeds_of_arm_percent": within(seen), "two_seeds_of_baseline_percent": within(base)}
        by_arm, by_base = self.always(seen)
        return line | {
            "only_arm_at_every_seed_images": len(by_arm),
            "only_baseline_at_every_seed_images": len(by_base),
        }

    def always(self, seen: Seen) -> tuple[list[int], list[int]]:
        """Return the baseline's rows that only the arm has right, and only the baseline, at every seed."""
        base, rows = self.base, self.as_base(seen)
        assert base is not None and rows is not None
        mine, theirs = seen.right[:, rows].sum(0), base.right.sum(0)
        by_arm = (mine == len(seen.seeds)) & (theirs == 0)
        by_base = (theirs == len(base.seeds)) & (mine == 0)
        return np.flatnonzero(by_arm).tolist(), np.flatnonzero(by_base).tolist()

    def never_agreed(self, seen: Seen) -> Table:
        """Return an arm's lines of never_agreed.csv: those of each side that it is surest of, the other the least."""
        base, rows = self.base, self.as_base(seen)
        assert base is not None and rows is not None
        if seen.arm.key not in list(self.seen)[:ARMS]:
            return []

        def lead(row: int) -> float:
            label = base.labels[row]
            return float(seen.probabilities[rows[row], label] - base.probabilities[row, label])

        by_arm, by_base = self.always(seen)
        sides = [(seen, base, sorted(by_arm, key=lambda row: -lead(row))), (base, seen, sorted(by_base, key=lead))]
        lines = []
        for right, other, chosen in sides:
            for rank, row in enumerate(chosen[:AGAINST], start=1):
                shown = other.example(row if other is base else int(rows[row]))
                line: dict[str, Any] = {
                    "arm": seen.arm.label,
                    "baseline": base.arm.label,
                    "right_at_every_seed": right.arm.label,
                }
                line |= {"rank": rank, "image": shown["image"], "true_class": shown["true_class"]}
                answered = {"predicted_by_the_other": shown["answered"]}
                lines.append({**line, **answered, "confidence_percent": shown["confidence_percent"]})
        return lines

    def by_class(self, arm: Arm) -> Table:
        """Return an arm's lines of per_class_difference.csv; none of the baseline, or of an arm with other classes."""
        base = self.study.baseline
        if base is None or arm is base or not class_names(base) or class_names(arm) != class_names(base):
            return []
        if self.apart(arm, base):
            return []
        lines = []
        for label, name in enumerate(class_names(base)):
            mine, theirs = self.shares(arm, label), self.shares(base, label)
            found = spread({s: 100 * (mine[s] - theirs[s]) for s in mine if s in theirs})
            numbers = {"difference_mean_points": found["mean"], "n": found["n"]}
            numbers |= {f"difference_{k}95_points": found[k] for k in ("low", "high")}
            lines.append({"arm": arm.label, "class": name, "baseline": base.label, **numbers})
        return lines

    def shares(self, arm: Arm, label: int) -> dict[Key, float]:
        """Return {seed: the share of a class's images that are named right}, of seeds that have any."""
        found = {}
        for seed, run in self.counted(arm).items():
            logits, labels, _ = answers_of(run)
            if (labels == label).any():
                found[seed] = float((logits[labels == label].argmax(axis=1) == label).mean())
        return found


def within(seen: Seen) -> float:
    """Return in percent on how many images one of two seeds is right and the other wrong, mean over all pairs."""
    right = seen.right
    pairs = [(i, j) for i in range(len(right)) for j in range(i)]
    return 100 * math.fsum(float((right[i] != right[j]).mean()) for i, j in pairs) / len(pairs) if pairs else math.nan
