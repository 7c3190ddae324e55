"""Whether a trial is worth going on with: asked by its run, after each epoch, of the records of the other trials.

So pruning needs no message from whoever started the run, and is the same on every engine.
"""

import math
from collections.abc import Mapping
from typing import Any

from cnnexp.errors import UserError
from cnnexp.records.run_record import RunRecord
from cnnexp.search.optuna_study import is_worth_pruning
from cnnexp.search.trials import Trials, read_search

SHARE, FEWEST = 0.25, 2  # of its epochs, and how many, that a trial makes before it is pruned: min_epochs: auto


class PrunedBefore:
    """Ends the rerun of a pruned trial where the trial ended, without its search. epoch: 1-based."""

    def __init__(self, record: RunRecord, epoch: int):
        self.record, self.epoch = record, epoch

    def stops(self) -> bool:
        """Tell whether the run is to stop after the epoch whose row was written last."""
        return bool(self.record.rows(split="val")[-1]["epoch"] >= self.epoch)


class Pruner:
    """Asks Optuna about the run of a trial. node: what its config says under `search`: min_epochs."""

    def __init__(self, record: RunRecord, epochs: int, node: Mapping[str, Any]):
        search = read_search(record.folder.parent)
        if search is None:
            raise UserError(f"{record.folder.parent}: has no search.json, which its trials need")
        self.trials, self.record = Trials(search), record
        given = node["min_epochs"]
        self.min_epochs = max(math.ceil(SHARE * epochs), FEWEST) if given == "auto" else int(given)

    def stops(self) -> bool:
        """Tell whether the run is to stop after the epoch whose row was written last."""
        search = self.trials.search
        curve = {row["epoch"]: row[search.monitor] for row in self.record.rows(split="val")}
        return len(curve) >= self.min_epochs and is_worth_pruning(search, self.trials.read(), curve, self.min_epochs)


def pruner_of(record: RunRecord, epochs: int, node: Mapping[str, Any]) -> Pruner | PrunedBefore:
    """Return what prunes a run. node: what its config says under `search`: min_epochs, or for a rerun pruned_after."""
    if "pruned_after" in node:
        return PrunedBefore(record, node["pruned_after"])
    return Pruner(record, epochs, node)
