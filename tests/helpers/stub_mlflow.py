"""MLflow without its package: a server that refuses what MLflow's refuses (mlflow/utils/validation.py)."""

import posixpath
import re
import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest

MAX_ENTITIES, MAX_METRICS, MAX_PARAMS, MAX_TAGS = 1000, 1000, 100, 100  # in a request
MAX_KEY, MAX_PARAM_VALUE = 250, 500


class Refused(Exception):
    """What the server raises as MlflowException."""


class Metric(NamedTuple):
    key: str
    value: float
    timestamp: int
    step: int


class Param(NamedTuple):
    key: str
    value: str


class RunTag(NamedTuple):
    key: str
    value: str


def check_name(name: str) -> None:
    """Raise Refused for a name that MLflow refuses."""
    norm = posixpath.normpath(name)
    if not re.match(r"^[/\w.\- ]*$", name) or len(name) > MAX_KEY:
        raise Refused(f"invalid name: {name!r}")
    if norm != name or norm == "." or norm.startswith(("..", "/")):
        raise Refused(f"resolves to another name: {name!r}")


@dataclass
class Server:
    """What was logged. fail_at: the numbers of the requests, from 1, that are lost on the way."""

    fail_at: set[int] = field(default_factory=set)
    experiments: list[str] = field(default_factory=list)
    runs: dict[str, Any] = field(default_factory=dict)
    history: dict[str, list[Metric]] = field(default_factory=dict)
    requests: int = 0

    def request(self) -> None:
        """Count a request. Raises ConnectionError if it is lost."""
        self.requests += 1
        if self.requests in self.fail_at:
            raise ConnectionError("the server cannot be reached")

    def only_run(self) -> Any:
        """Return the one run."""
        (run,) = self.runs.values()
        return run

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make `import mlflow` give this server."""
        package, tracking, entities = (ModuleType(f"mlflow{end}") for end in ("", ".tracking", ".entities"))
        vars(tracking)["MlflowClient"] = lambda tracking_uri: Client(self)
        vars(entities).update(Metric=Metric, Param=Param, RunTag=RunTag)
        for module in (package, tracking, entities):
            monkeypatch.setitem(sys.modules, module.__name__, module)


@dataclass
class Client:
    """MlflowClient of a server."""

    server: Server

    def get_experiment_by_name(self, name: str) -> Any:
        self.server.request()
        if name not in self.server.experiments:
            return None
        return SimpleNamespace(experiment_id=str(self.server.experiments.index(name)))

    def create_experiment(self, name: str, artifact_location: str | None = None) -> str:
        self.server.request()
        self.server.experiments.append(name)
        return str(len(self.server.experiments) - 1)

    def create_run(self, experiment: str, start_time: int = 0, run_name: str = "", tags: Any = None) -> Any:
        self.server.request()
        for key in tags or {}:
            check_name(key)
        info = SimpleNamespace(run_id=f"{len(self.server.runs):032x}", run_name=run_name, status="RUNNING")
        data = SimpleNamespace(params={}, metrics={}, tags=dict(tags or {}))
        self.server.runs[info.run_id] = SimpleNamespace(info=info, data=data, experiment=experiment)
        self.server.history[info.run_id] = []
        return copied(self.server.runs[info.run_id])

    def search_runs(self, experiments: list[str], query: str) -> list[Any]:
        self.server.request()
        key, value = re.fullmatch(r"tags\.`(.+)` = '(.+)'", query).groups()  # type: ignore[union-attr]
        runs = self.server.runs.values()
        return [copied(run) for run in runs if run.experiment in experiments and run.data.tags.get(key) == value]

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        self.server.request()
        if len(metrics) > MAX_METRICS or len(params) > MAX_PARAMS or len(tags) > MAX_TAGS:
            raise Refused("too many of a kind in a request")
        if len(metrics) + len(params) + len(tags) > MAX_ENTITIES:
            raise Refused(f"a batch can contain at most {MAX_ENTITIES} metrics, params, and tags")
        data = self.server.runs[run_id].data
        for entity in (*metrics, *params, *tags):
            check_name(entity.key)
        if len({param.key for param in params}) < len(params):
            raise Refused("duplicate parameter keys")
        for param in params:
            if len(param.value) > MAX_PARAM_VALUE or data.params.get(param.key, param.value) != param.value:
                raise Refused(f"param {param.key}: too long, or has another value already")
        assert all(type(metric.value) is float and metric.timestamp >= 0 for metric in metrics)
        self.server.history[run_id] += [metric for metric in metrics if metric not in self.server.history[run_id]]
        data.metrics |= {metric.key: metric.value for metric in metrics}
        data.params |= {param.key: param.value for param in params}
        data.tags |= {tag.key: tag.value for tag in tags}

    def update_run(self, run_id: str, status: str) -> None:
        self.server.request()
        self.server.runs[run_id].info.status = status

    def set_terminated(self, run_id: str, status: str = "FINISHED") -> None:
        self.update_run(run_id, status)


def copied(run: Any) -> Any:
    """Return a run as it is now: a client's copy does not change."""
    data = SimpleNamespace(**{name: dict(values) for name, values in vars(run.data).items()})
    return SimpleNamespace(info=SimpleNamespace(**vars(run.info)), data=data)
