"""A run's numbers, from its logits and metric rows: what run.json and the tables should say."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnexp.claims.metrics import metric as metric_of
from cnnexp.errors import UserError
from cnnexp.report.read.runs import PLATEAU_MARGIN, Run
from recomputed.arithmetic import accuracy_and_loss

CLOSE = 1e-9  # of the larger of the two: sums in another order round otherwise; what was changed is farther off
DRAWN_BY = ("split_seed", "val_fraction", "group", "columns")  # the settings that choose validation images
TINY = 1e-12  # below it both are 0, but for rounding


@dataclass(frozen=True)
class Number:
    """A number as it was written down, and as it comes out; words too. where: which file, and what in it."""

    where: str
    name: str
    given: Any
    found: Any

    @property
    def agrees(self) -> bool:
        """Tell whether the two are the same number (to rounding), the same words, or both missing."""
        if isinstance(self.given, str) or isinstance(self.found, str):
            return bool(self.given == self.found)
        given, found = (math.nan if value is None else float(value) for value in (self.given, self.found))
        if math.isnan(given) or math.isnan(found):
            return math.isnan(given) and math.isnan(found)
        return math.isclose(given, found, rel_tol=CLOSE) or max(abs(given), abs(found)) < TINY

    def __str__(self) -> str:
        return f"{self.where}, {self.name}: given {_text(self.given)}, recomputed {_text(self.found)}"


def _text(value: Any) -> str:
    return "nothing" if value is None or value != value else str(value)


class Recomputed:
    """One done run's numbers: recomputed where logits and rows allow it, else as run.json has them."""

    def __init__(self, run: Run):
        self.run = run

    @cached_property
    def rows(self) -> dict[str, dict[int, dict[str, Any]]]:
        """Return the metric rows of epochs: {split: {epoch: row}}."""
        return {"train": {}, "val": {}, **self.run.rows}

    @cached_property
    def answers(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None:
        """Return logits (N, K), labels (N,) and ids (N,) of the test images; None if they are not to be used."""
        if self.run.predictions is None:
            return None
        stored = self.run.record.predictions()
        return stored["logits"], stored["labels"], stored["ids"]

    @cached_property
    def result(self) -> dict[str, float]:
        """Return what can be recomputed of run.json's `result`: {test_accuracy, test_loss, val_accuracy, ...}."""
        found: dict[str, float] = {}
        if self.answers is not None:
            found["test_accuracy"], found["test_loss"] = accuracy_and_loss(*self.answers[:2])
        if not self.rows["train"]:
            return found
        curve, losses, last = self.curve("val", "accuracy"), self.curve("val", "loss"), max(self.rows["train"])
        watched = self.curve("val", monitor := self.run.monitor)
        top = (min if monitor == "loss" else max)(watched.values(), default=math.nan)
        highest = [epoch for epoch in watched if watched[epoch] == top]
        lowest = min((losses.get(epoch, math.inf) for epoch in highest), default=math.inf)
        best = min((epoch for epoch in highest if losses.get(epoch, math.inf) == lowest), default=last)
        if self.run.text("protocol", "keep_epoch") == "last":
            best = last
        found |= {"epochs": last, "best_epoch": best, "val_accuracy": curve.get(best, math.nan)}
        return found | {"val_loss": losses.get(best, math.nan)}

    def number(self, group: str, name: str) -> float:
        """Return a number of `result` or `seconds`: recomputed, or as run.json has it."""
        if group == "result" and name in self.result:
            return self.result[name]
        return self.run.number(group, name)

    def metric(self, name: str) -> float:
        """Return one of METRICS in its unit."""
        if name == "epochs_to_plateau":
            return self.epochs_to_plateau
        if name.startswith("test_") and name not in ("test_accuracy", "test_loss"):
            score, _, of_class = name.removeprefix("test_").rstrip("]").partition("[")
            return 100 * self.score(score, self.run.get("data", "classes").index(of_class) if of_class else None)
        where = ("seconds", "train") if name == "train_seconds" else ("result", name)
        return metric_of(name).scale * self.number(*where)

    def score(self, name: str, label: int | None = None) -> float:
        """Return a score of one class, or of all if None; a fraction, nan without logits."""
        if self.answers is None:
            return math.nan
        logits, labels, _ = self.answers
        if name == "top5":
            best = np.argsort(-logits, axis=1, kind="stable")[:, :5]
            return sum(own in row for own, row in zip(labels, best, strict=True)) / len(labels)
        if label is None:
            values = [self.score("recall" if name == "balanced_accuracy" else name, k) for k in range(logits.shape[1])]
            kept = [v for k, v in enumerate(values) if (labels == k).any() or name != "balanced_accuracy"]
            kept = [v for v in kept if math.isfinite(v)]
            return math.fsum(kept) / len(kept)
        told = logits.argmax(axis=1)
        right = sum(1 for a, b in zip(told, labels, strict=True) if a == b == label)
        missed = sum(1 for a, b in zip(told, labels, strict=True) if b == label != a)
        wrongly = sum(1 for a, b in zip(told, labels, strict=True) if a == label != b)
        if not right + missed + wrongly:
            return math.nan
        below = {"precision": right + wrongly, "recall": right + missed, "f1": right + (missed + wrongly) / 2}[name]
        return right / below if below else 0.0

    @property
    def epochs_to_plateau(self) -> float:
        """Return the first epoch whose validation accuracy is within a point of the best."""
        curve = self.curve("val", "accuracy")
        return float(
            min((e for e in curve if curve[e] + PLATEAU_MARGIN + 1e-9 >= max(curve.values())), default=math.nan)
        )

    def curve(self, split: str, column: str) -> dict[int, float]:
        """Return {epoch: value} of the rows of a split, where it is finite."""
        values = {epoch: row.get(column) for epoch, row in self.rows[split].items()}
        return {epoch: v for epoch, v in values.items() if isinstance(v, (int, float)) and math.isfinite(v)}

    def numbers(self) -> Iterator[Number]:
        """Yield every number of run.json that can be recomputed."""
        where = f"{self.run.name}/run.json"
        for file, there in (("predictions.npz", self.answers), ("metrics.jsonl", self.rows["train"])):
            if not there:
                yield Number(f"{self.run.name}/{file}", "content", "nothing that can be used", "what the run wrote")
        for name, value in self.result.items():
            yield Number(where, f"result.{name}", self.run.get("result", name), value)
        if self.answers is not None:
            yield Number(where, "data.test", self.run.get("data", "test"), len(self.answers[1]))
        spent = self.run.get("seconds")
        if isinstance(spent, dict) and "total" in spent:
            yield Number(where, "seconds.total", spent["total"], sum(v for k, v in spent.items() if k != "total"))
        yield from self.throughput(where)

    def throughput(self, where: str) -> Iterator[Number]:
        """Yield the images per second: steps times batch size, by the seconds of training."""
        steps = max((row.get("step", 0) for row in self.rows["train"].values()), default=0)
        try:
            batch_size = self.run.record.config().get("batch_size")
        except UserError:
            return
        seconds = self.run.number("seconds", "train")
        if steps and isinstance(batch_size, int) and seconds > 0:
            given = self.run.get("result", "images_per_second")
            yield Number(where, "result.images_per_second", given, steps * batch_size / seconds)

    def images(self) -> list[tuple[str, int]] | None:
        """Return (id, label) of every test image, in the order of the ids; None without logits."""
        if self.answers is None:
            return None
        _, labels, ids = self.answers
        order = ids.argsort(kind="stable")
        return list(zip(ids[order].tolist(), labels[order].tolist(), strict=True))

    def right(self) -> NDArray[np.bool_]:
        """Return which test images are named right, in the order of their ids."""
        assert self.answers is not None
        logits, labels, ids = self.answers
        return np.asarray((logits.argmax(axis=1) == labels)[ids.argsort(kind="stable")])

    def leaves(self) -> dict[str, Any]:
        """Return {"model.norm": "none", ...}: the values of the config by dotted key."""
        found: dict[str, Any] = {}
        left: list[tuple[str, Any]] = [("", self.run.record.config())]
        for where, value in left:
            if isinstance(value, dict) and value:
                left += [(f"{where}.{key}".lstrip("."), below) for key, below in value.items()]
            else:
                found[where] = value
        return found

    def sets(self, key: str) -> bool:
        """Tell whether the run's arm sets a key, or something above or below it, by its recorded changes."""
        own = [change.split("=")[0].lstrip("+~") for change in self.run.get("changes") or []]
        return any(f"{key}.".startswith(f"{one}.") or f"{one}.".startswith(f"{key}.") for one in own)

    def drew_apart(self, other: "Recomputed") -> bool:
        """Tell whether two runs were validated on different images, by their number, settings and digest."""
        mine, theirs = ({**(run.run.record.info.get("data") or {})} for run in (self, other))
        protocols = [(run.run.record.info.get("protocol") or {}).get("validate_on") for run in (self, other)]
        if "test" in protocols:
            images = [run.images() for run in (self, other)]
            return len(set(protocols)) > 1 or (None not in images and images[0] != images[1])
        settings = [run.run.record.config().get("data") or {} for run in (self, other)]
        first, second = ([node.get(key) for key in DRAWN_BY] for node in settings)
        if first != second:
            return True
        keys = ["name", "val"]
        if (mine.get("train"), mine.get("test")) == (theirs.get("train"), theirs.get("test")):
            keys += ["split", "validation"]
        return any(mine.get(key) != theirs.get(key) for key in keys)
