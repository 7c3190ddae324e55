"""Event files for TensorBoard: STUDY/RUN for each run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnexp.records.run_record import RunRecord
from cnnexp.trackers import Sent, place_of, plain, results


class TensorBoard:
    """Writes scalars, settings with results (HPARAMS), and the figures of reports (IMAGES).

    A step that was written twice, because the process was killed in between, counts once: a new file of a run tells
    TensorBoard to drop what it has from its first step on (purge_step).
    """

    whole_steps = True

    def __init__(self, folder: Path, place: str | None):
        self.folder = Path(place) if place else folder / "tensorboard"
        self.place, self.sent = str(self.folder), Sent(self.folder / "sent.json")

    def begin(self, run: RunRecord, config: Mapping[str, Any]) -> int:
        """Return how many rows of a run were written."""
        return int(self.sent.of(place_of(run)).get("rows", 0))

    def rows(self, run: RunRecord, rows: list[tuple[dict[str, float], int, float]], count: int) -> None:
        """Write rows."""
        with self._writer(place_of(run), rows[0][1]) as writer:
            for metrics, step, at in rows:
                for name, value in metrics.items():
                    writer.add_scalar(name, value, step, walltime=at)
        self.sent.set(place_of(run), rows=count)

    def end(self, run: RunRecord, config: Mapping[str, Any]) -> None:
        """Write the settings and the result of a run that has ended, once."""
        if run.status == "done" and not self.sent.of(place_of(run)).get("ended"):
            with self._writer(place_of(run)) as writer:
                settings = {key: plain(value) for key, value in config.items()}
                numbers = {f"result/{name}": value for name, value in results(run).items()}
                writer.add_hparams(settings, numbers, run_name=".")
            self.sent.set(place_of(run), ended=True)

    def report(self, study: str, folder: Path, figures: list[Path]) -> None:
        """Write the figures of a report, if they have changed."""
        newest = max((figure.stat().st_mtime_ns for figure in figures), default=0)
        if figures and self.sent.of(f"{study}/report").get("newest") != newest:
            with self._writer(f"{study}/report") as writer:
                for figure in figures:
                    pixels = np.asarray(Image.open(figure).convert("RGB"))
                    writer.add_image(figure.stem, pixels, dataformats="HWC")
            self.sent.set(f"{study}/report", newest=newest)

    def _writer(self, name: str, first_step: int | None = None) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.folder / name), purge_step=first_step)
