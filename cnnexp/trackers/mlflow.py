"""MLflow: an experiment per study; a run per run, found again by a tag with its identity."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from posixpath import normpath
from typing import Any

from cnnexp import storage
from cnnexp.records.run_record import RunRecord
from cnnexp.trackers import plain, results, started

IDENTITY, ROWS = "cnnexp.identity", "cnnexp.rows"
MAX_METRICS = 999  # in a request: a server takes 1000 metrics, params and tags in all, and one may be a tag
MAX_PARAMS = 100  # in a request
MAX_KEY, MAX_VALUE = 250, 500  # characters of a param
REFUSED = re.compile(r"[^/\w.\- ]")  # characters in a name
ENDED = {"done": "FINISHED", "interrupted": "KILLED", "running": "RUNNING"}  # other ends are failures


class MLflow:
    """Writes params, metrics, results and the report's files. place: the tracking URI, or a folder for mlflow.db."""

    whole_steps = False

    def __init__(self, folder: Path, place: str | None):
        from mlflow.tracking import MlflowClient

        given, self.artifacts = place or os.environ.get("MLFLOW_TRACKING_URI"), None
        if given is None or not ("://" in given or given.startswith("databricks")):
            folder = (Path(given) if given else folder).resolve()
            storage.make_folder(folder)
            given, self.artifacts = f"sqlite:///{folder / 'mlflow.db'}", (folder / "mlflow").as_uri()
        self.place = given
        self.client = MlflowClient(tracking_uri=self.place)
        self.experiments: dict[str, str] = {}
        self.known: dict[str, Any] = {}

    def begin(self, run: RunRecord, config: Mapping[str, Any]) -> int:
        """Find or make a run, send the settings that the server lacks, and return how many of the rows it has."""
        from mlflow.entities import Param

        found = self._find(str(run.info.get("study")), run.identity)
        if found is None:
            tags = {IDENTITY: run.identity, "cnnexp.folder": str(run.folder.resolve()), "arm": str(run.info.get("arm"))}
            experiment, start = self._experiment(str(run.info.get("study"))), int(1000 * started(run))
            found = self.client.create_run(experiment, start_time=start, run_name=run.name, tags=tags)
        settings = zip(names(config), config.values(), strict=True)
        params = [Param(key, str(plain(value))[:MAX_VALUE]) for key, value in settings if key not in found.data.params]
        for batch in batches(params, MAX_PARAMS):
            self.client.log_batch(found.info.run_id, params=batch)
        self.known[run.identity] = found
        return int(found.data.tags.get(ROWS, "0"))

    def rows(self, run: RunRecord, rows: list[tuple[dict[str, float], int, float]], count: int) -> None:
        """Send rows, in batches; the number of rows goes with the last one."""
        from mlflow.entities import Metric, RunTag

        metrics = [
            Metric(name, value, int(1000 * at), step) for values, step, at in rows for name, value in values.items()
        ]
        sent = batches(metrics, MAX_METRICS) or [[]]
        for number, batch in enumerate(sent, 1):
            tags = [RunTag(ROWS, str(count))] if number == len(sent) else []
            self.client.log_batch(self.known[run.identity].info.run_id, metrics=batch, tags=tags)

    def end(self, run: RunRecord) -> None:
        """Send the status of a run and its result, once."""
        from mlflow.entities import Metric

        found, status = self.known[run.identity], ENDED.get(run.status, "FAILED")
        if found.info.status == status:
            return
        numbers = [Metric(f"result/{name}", value, int(1000 * started(run)), 0) for name, value in results(run).items()]
        if numbers:
            self.client.log_batch(found.info.run_id, metrics=numbers)
        if status == "RUNNING":
            self.client.update_run(found.info.run_id, status=status)
        else:
            self.client.set_terminated(found.info.run_id, status)

    def report(self, study: str, folder: Path, figures: list[Path]) -> None:
        """Send the page and the figures of a report, if they have changed."""
        files = [folder / "index.html", *figures]
        newest = str(max(file.stat().st_mtime_ns for file in files))
        found = self._find(study, "report")
        if found is None:
            found = self.client.create_run(self._experiment(study), run_name="report", tags={IDENTITY: "report"})
        if found.data.tags.get("cnnexp.newest") != newest:
            for file in files:
                self.client.log_artifact(found.info.run_id, str(file))
            self.client.set_tag(found.info.run_id, "cnnexp.newest", newest)
            self.client.set_terminated(found.info.run_id)

    def _experiment(self, study: str) -> str:
        if study not in self.experiments:
            found = self.client.get_experiment_by_name(study)
            made = found.experiment_id if found else self.client.create_experiment(study, self.artifacts)
            self.experiments[study] = made
        return self.experiments[study]

    def _find(self, study: str, identity: str) -> Any:
        query = f"tags.`{IDENTITY}` = '{identity}'"
        return next(iter(self.client.search_runs([self._experiment(study)], query)), None)


def batches(items: list[Any], size: int) -> list[list[Any]]:
    """Return the items in lists of at most `size`."""
    return [items[first : first + size] for first in range(0, len(items), size)]


def names(keys: Iterable[str]) -> list[str]:
    """Return each key as a name that MLflow takes; all differ.

    MLflow takes letters, digits and `_-. /` only, and no name that reads as another path, such as `a//b`. Other
    characters become `_`. Of keys that become equal, the later ones end in a number.
    """
    found: dict[str, None] = {}
    for key in keys:
        name, number = REFUSED.sub("_", key)[:MAX_KEY], 1
        if normpath(name) != name or name == "." or name.startswith(("..", "/")):
            name = f"_{name.replace('/', '_')}"[:MAX_KEY]
        different = name
        while different in found:
            number += 1
            different = f"{name[: MAX_KEY - len(str(number)) - 1]}_{number}"
        found[different] = None
    return list(found)
