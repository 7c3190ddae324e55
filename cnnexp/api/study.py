"""The runs of a study in Python: each of them, all as a table, and their report."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cnnexp.api.run import InFolder, Run
from cnnexp.records.find import find_place

if TYPE_CHECKING:
    from pandas import DataFrame

    from cnnexp.report import Report

SHOWN = ("arm", "seed", "status", "val_accuracy", "test_accuracy", "best_epoch", "train_seconds")


class Study(InFolder):
    """A folder of runs, such as outputs/ablation: `for run in study`, `study.table`, `study.report()`."""

    def __init__(self, folder: str | os.PathLike[str]):
        """folder: a folder of runs, or the name of a study below outputs/. Raises UserError if there is none."""
        super().__init__(find_place(folder))

    @property
    def runs(self) -> list[Run]:
        """Return the runs of the table, without malformed ones."""
        table = self.table
        return [Run(folder) for folder in table["folder"][table["status"] != "malformed"]]

    @property
    def table(self) -> "DataFrame":
        """Return a row for each run that is not superseded, with a column for each setting: see `cnnexp.runs`."""
        from cnnexp.records.table import runs

        return runs(self.folder)

    def report(self, baseline: str | None = None) -> "Report":
        """Compare the runs: see `cnnexp.report`."""
        from cnnexp.api.calls import report

        return report(self.folder, baseline=baseline)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def __repr__(self) -> str:
        counts = self.table["status"].value_counts()
        return f"Study: {', '.join(f'{count} {status}' for status, count in counts.items())}, folder {self.folder}"

    def _repr_html_(self) -> str:
        """Show a notebook the main columns."""
        return str(self.table[list(SHOWN)].to_html(index=False, na_rep="", float_format="{:.4g}".format))
