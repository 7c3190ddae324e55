"""Weights & Biases: a project per study. Without a login it writes files for `wandb sync` (offline)."""

import errno
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnexp.records.run_record import RunRecord
from cnnexp.storage import make_folder
from cnnexp.trackers import Sent, place_of, plain, results

SPACE = 2**20  # bytes
STEP = "global_step"  # the optimiser step, the x-axis of charts


class WandB:
    """Writes settings, metrics, results and the report. Offline unless WANDB_MODE says online, after `wandb login`."""

    whole_steps = False

    def __init__(self, folder: Path, place: str | None):
        self.folder = Path(place) if place else folder / "wandb"
        make_folder(self.folder)
        self.place, self.sent = str(self.folder), Sent(self.folder / "sent.json")
        self.settings: dict[str, Any] = {}  # of the run that was begun

    def begin(self, run: RunRecord, config: Mapping[str, Any]) -> int:
        """Take the settings, which are written whenever the run is opened; return how many of its rows were written."""
        self.settings = {key: plain(value) for key, value in config.items()}
        return int(self.sent.of(place_of(run)).get("rows", 0))

    def rows(self, run: RunRecord, rows: list[tuple[dict[str, float], int, float]], count: int) -> None:
        """Write rows. W&B's own step is the row's number, from 1; the charts show metrics over STEP.

        W&B drops what is logged for a step below the one after the last of an earlier session. The rows of one
        optimiser step can come in two sessions. A row that was sent before is dropped, so it is there once.
        """
        with self._open(run) as opened:
            opened.define_metric(STEP)
            opened.define_metric("*", step_metric=STEP)
            for number, (metrics, step, _) in enumerate(rows, count - len(rows) + 1):
                opened.log({**metrics, STEP: step}, step=number)
        self._check_space()
        self.sent.set(place_of(run), rows=count)

    def end(self, run: RunRecord) -> None:
        """Write the status of a run and its result, once; W&B shows every end but `done` as failed."""
        if self.sent.of(place_of(run)).get("status") == (status := run.status):
            return
        with self._open(run) as opened:
            opened.summary.update(
                {"status": status, **{f"result/{name}": value for name, value in results(run).items()}}
            )
            opened.finish(exit_code=0 if status in ("done", "running") else 1)
        self._check_space()
        self.sent.set(place_of(run), status=status)

    def report(self, study: str, folder: Path, figures: list[Path]) -> None:
        """Write the figures of a report, if they have changed."""
        newest = max((figure.stat().st_mtime_ns for figure in figures), default=0)
        if figures and self.sent.of(f"{study}/report").get("newest") != newest:
            from wandb import Image

            with self._init(study, "report", "report", {}) as opened:
                opened.log({figure.stem: Image(str(figure)) for figure in figures})
            self.sent.set(f"{study}/report", newest=newest)

    def _check_space(self) -> None:
        """Raise OSError if the disk is full: what W&B's own process could not write, it has lost without an error."""
        if shutil.disk_usage(self.place).free < SPACE:
            raise OSError(errno.ENOSPC, "No space left on device", self.place)

    def _open(self, run: RunRecord) -> Any:
        return self._init(str(run.info.get("study")), run.identity, run.name, self.settings)

    def _init(self, project: str, identity: str, name: str, config: dict[str, Any]) -> Any:
        import wandb

        settings = wandb.Settings(silent=True, console="off", save_code=False, disable_git=True)
        return wandb.init(
            project=project, id=identity, name=name, config=config, settings=settings, dir=self.place, resume="allow"
        )
