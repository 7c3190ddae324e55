"""Event files for TensorBoard: STUDY/RUN for each run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnexp.records.fields import FINAL
from cnnexp.records.run_record import RunRecord
from cnnexp.trackers import Sent, place_of, plain, results

FIRST_FILE = 100_000  # the number in the name of the first file that a process writes


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
        """Write the settings of a run, once; return how many of its rows were written.

        Without a summary of all runs: TensorBoard would show those settings and results only that the first one lists.
        """
        from torch.utils.tensorboard.summary import hparams

        sent = self.sent.of(place_of(run))
        if not sent.get("settings"):
            _, settings, _ = hparams({key: plain(value) for key, value in config.items()}, {})
            with self._writer(place_of(run)) as writer:
                writer.file_writer.add_summary(settings)
            self.sent.set(place_of(run), settings=True)
        return int(sent.get("rows", 0))

    def rows(self, run: RunRecord, rows: list[tuple[dict[str, float], int, float]], count: int) -> None:
        """Write rows."""
        with self._writer(place_of(run), rows[0][1]) as writer:
            for metrics, step, at in rows:
                for name, value in metrics.items():
                    writer.add_scalar(name, value, step, walltime=at)
        self.sent.set(place_of(run), rows=count)

    def end(self, run: RunRecord) -> None:
        """Write the status of a run and its result, once. Of several session ends TensorBoard reads the first."""
        sent = self.sent.of(place_of(run))
        if sent.get("status") == (status := run.status):
            return
        with self._writer(place_of(run)) as writer:
            writer.add_text("status", status, sent.get("rows", 0))
            for name, value in results(run).items():
                writer.add_scalar(f"result/{name}", value)
            if status in FINAL:
                writer.file_writer.add_summary(session_end("SUCCESS" if status == "done" else "FAILURE"))
        self.sent.set(place_of(run), status=status)

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
        from tensorboard.summary.writer import event_file_writer
        from torch.utils.tensorboard import SummaryWriter

        # TensorBoard reads the files of a run in the order of their names, which end with this number: with as many
        # digits for all, a file of the same second that was written later is read later ("10" is before "9").
        while event_file_writer._global_uid.get() < FIRST_FILE:
            pass
        return SummaryWriter(str(self.folder / name), purge_step=first_step)


def session_end(status: str) -> Any:
    """Return a summary for HPARAMS with the status of a run that has ended: SUCCESS or FAILURE."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

    end = SessionEndInfo(status=api_pb2.Status.Value(f"STATUS_{status}"))
    described = metadata.create_summary_metadata(HParamsPluginData(session_end_info=end))
    return Summary(value=[Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=described)])
