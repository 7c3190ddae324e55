"""The tables of a report, computed a second time: {file: rows of {column: value}}.

Verdicts too; remarks and formulas, which are sentences, are left out.
"""

import math
from collections.abc import Mapping
from typing import Any

from cnnexp.claims.grammar import STD
from cnnexp.claims.metrics import metric as metric_of
from cnnexp.report.read.study import Arm
from cnnexp.text import plain
from recomputed.arithmetic import Spread, smallest_found, spread
from recomputed.of_answers import Answered
from recomputed.of_calibration import class_names
from recomputed.of_effects import BETTER
from recomputed.of_tests import DECIDED, Table, compared, decided, limits, verdict_of

IN_EVERY_REPORT = ("comparison.csv", "runs.csv")
KNOWN = (  # every table that a report may have
    *IN_EVERY_REPORT,
    *("scores.csv", "per_class.csv", "reported.csv", "claims.csv", "effects.csv"),
    *("calibration.csv", "calibration_bins.csv"),
    *("confusions.csv", "mistakes.csv", "disagreement.csv", "never_agreed.csv", "per_class_difference.csv"),
)


class Tables(Answered):
    """The tables of one study."""

    def all(self) -> dict[str, Table]:
        """Return every table that a report of it has; some may hold no rows."""
        tables = {
            "comparison.csv": self.comparison(),
            "runs.csv": self.every_run(),
            "scores.csv": self.scores(),
            "per_class.csv": self.per_class(),
            "reported.csv": self.beside_reported(),
            "claims.csv": self.claims(),
            "effects.csv": self.effects(),
        }
        tables = {name: rows for name, rows in tables.items() if rows or name in IN_EVERY_REPORT}
        return tables | self.answers()

    def comparison(self) -> Table:
        """Return what comparison.csv should hold."""
        corrected = self.family()
        return [self.arm_row(arm, corrected) for arm in self.study.arms]

    def arm_row(self, arm: Arm, corrected: Mapping[Any, float]) -> dict[str, Any]:
        """Return an arm's line."""
        base = self.study.baseline

        def mean(group: str, name: str) -> float:
            return spread({key: run.number(group, name) for key, run in self.of(arm).items()})["mean"]

        test = self.percent(arm, "test_accuracy")
        found = self.against_baseline(arm, base) if base and arm is not base else spread({})
        return {
            "arm": arm.label,
            "fingerprint": arm.fingerprint,
            "is_baseline": int(arm is base),
            "seeds": " ".join(str(seed) for seed in sorted({run.seed for run in arm.runs})),
            "n": test["n"],
            "diverged": len(arm.diverged),
            **{f"test_accuracy_{k}{limits(k)}_percent": test[k] for k in ("mean", "std", "low", "high")},
            "pairs": found["n"],
            **{f"difference_{k}{limits(k)}_points": found[k] for k in ("mean", "low", "high")},
            "p_paired_t": found["p"],
            **decided(found, limit := corrected.get(compared(arm, base), math.nan) if base else math.nan),
            "detectable_points": math.nan
            if self.verdict(arm, found, limit) in DECIDED
            else smallest_found(found, limit),
            "p_mcnemar_exact": self.mcnemar(arm, base) if base and found["n"] == 1 and not found["of"] else math.nan,
            "verdict": self.verdict(arm, found, limit),
            "best_epoch_mean": mean("result", "best_epoch"),
            "epochs_to_plateau_mean": spread({key: r.epochs_to_plateau for key, r in self.of(arm).items()})["mean"],
            **{
                f"{split}_accuracy_{part}_percent": self.percent(arm, f"{split}_accuracy")[part]
                for split in ("val", "train")
                for part in ("mean", "std")
            },
            "train_seconds_mean": mean("seconds", "train"),
            "images_per_second_mean": mean("result", "images_per_second"),
            "peak_memory_mib_mean": mean("result", "peak_memory_mib"),
            **{name: arm.first.number("model", name) for name in ("parameters", "trainable_parameters", "macs")},
        }

    def percent(self, arm: Arm, name: str) -> Spread:
        """Return the spread of a result over an arm's runs, in percent."""
        return spread({key: 100 * run.number("result", name) for key, run in self.of(arm).items()})

    def verdict(self, arm: Arm, found: Spread, limit: float) -> str:
        """Return the verdict on an arm; none on the baseline."""
        base = self.study.baseline
        if base is None or arm is base:
            return ""
        if apart := self.apart(arm, base):
            return f"not comparable: {apart}"
        return (
            verdict_of(found, limit, len(arm.diverged), len(base.diverged), BETTER) if arm.runs else "all runs diverged"
        )

    def every_run(self) -> Table:
        """Return what runs.csv should hold."""
        parts = ("prepare", "features", "compile", "train", "evaluate", "checkpoint", "total")
        plain = ("val_loss", "test_loss", "train_loss", "best_epoch", "epochs", "images_per_second", "peak_memory_mib")
        lines = []
        folded = any(run.get("fold") for run in self.study.runs)
        for run in self.study.runs:
            own = self.runs[id(run)]
            accuracies = ("val_accuracy", "test_accuracy", "train_accuracy", "shift_consistency")
            lines.append(
                {"run": run.name, "arm": run.text("arm"), "seed": run.seed, "fingerprint": run.text("fingerprint")}
                | ({"fold": (run.get("fold") or {}).get("fold", math.nan)} if folded else {})
                | {"status": run.status, "repeat": run.text("repeat")}
                | {f"{name}_percent": 100 * own.number("result", name) for name in accuracies}
                | {name: own.number("result", name) for name in plain}
                | {f"{part}_seconds": run.number("seconds", part) for part in parts}
            )
            if run.status != "done":
                lines[-1] = {
                    name: value for name, value in lines[-1].items() if isinstance(value, str) or name == "seed"
                }
        return lines

    def scores(self) -> Table:
        """Return what scores.csv should hold."""
        arms = [arm for arm in self.study.arms if any(r.answers for r in self.of(arm).values())]
        most = max((run.answers[0].shape[1] for arm in arms for run in self.of(arm).values() if run.answers), default=0)
        names = ("balanced_accuracy", "precision", "recall", "f1", *(("top5",) if most > 5 else ()))
        lines = []
        for arm in arms:
            found = {name: spread(self.metric(arm, f"test_{name}")) for name in names}
            numbers = {f"test_{n}_{part}_percent": s[part] for n, s in found.items() for part in ("mean", "std")}
            lines.append({"arm": arm.label, **numbers})
        return lines

    def per_class(self) -> Table:
        """Return what per_class.csv should hold; nothing unless all arms with logits have the same classes."""
        arms = [arm for arm in self.study.arms if any(r.answers for r in self.of(arm).values())]
        if any(class_names(arm) != class_names(arms[0]) for arm in arms) or not arms:
            return []
        return [line for arm in self.study.arms for line in self.classes_of(arm)]

    def classes_of(self, arm: Arm) -> Table:
        """Return an arm's accuracy by class, over its seeds."""
        lines = []
        for label, name in enumerate(class_names(arm)):
            shares = {}
            for key, run in self.of(arm).items():
                if run.answers is not None and (run.answers[1] == label).any():
                    logits, labels, _ = run.answers
                    shares[key] = 100 * float((logits[labels == label].argmax(axis=1) == label).mean())
            found = spread(shares)
            numbers = {f"accuracy_{k}{limits(k)}_percent": found[k] for k in ("mean", "std", "low", "high")}
            for score in ("precision", "f1"):
                values = {
                    k: 100 * run.score(score, label) for k, run in self.of(arm).items() if run.answers is not None
                }
                numbers[f"{score}_mean_percent"] = spread(values)["mean"]
            lines.append({"arm": arm.label, "class": name, "n": found["n"], **numbers})
        return lines

    def beside_reported(self) -> Table:
        """Return what reported.csv should hold."""
        lines = []
        for name, given in self.study.reported.items():
            arms = self.study.named(name)
            for metric in given:
                if metric == STD:
                    continue
                found = spread(self.metric(arms[0], metric) if len(arms) == 1 else {})
                std = given.get(STD, math.nan) if metric == "test_accuracy" else math.nan
                line = {"arm": plain(name), "metric": metric, "unit": metric_of(metric).level}
                line["reported"] = given[metric]
                line |= {f"{k}{limits(k)}": found[k] for k in ("mean", "std", "low", "high", "n")}
                lines.append({**line, "reported_std": std, "difference": found["mean"] - given[metric]})
        return lines
