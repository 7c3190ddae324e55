"""W&B without its package: a server, online, that drops what W&B's drops."""

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


@dataclass
class Kept:
    """What the server has of a run. history: {step of W&B: metrics}. axes: {metric or glob: its x-axis}."""

    history: dict[int, dict[str, float]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, str | None] = field(default_factory=dict)

    def points(self, name: str) -> list[tuple[float, float]]:
        """Return (x, y) of a metric's chart, as W&B draws it."""
        axis = self.axes.get("*")
        return [(entry[axis] if axis else step, entry[name]) for step, entry in self.history.items() if name in entry]


@dataclass
class Server:
    """Runs by their identity. dropped: what was logged in vain."""

    runs: dict[str, Kept] = field(default_factory=dict)
    dropped: list[dict[str, float]] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make `import wandb` give this server."""
        package = ModuleType("wandb")
        vars(package).update(init=self.init, Settings=SimpleNamespace)
        monkeypatch.setitem(sys.modules, "wandb", package)

    def init(self, id: str, resume: str, **_: Any) -> "Session":
        """Open a run. A resumed one begins at the step after its last; at 1 if it has logged nothing."""
        assert resume == "allow"
        start = max(self.runs[id].history, default=0) + 1 if id in self.runs else 0
        return Session(self, self.runs.setdefault(id, Kept()), start)

    def only_run(self) -> Kept:
        """Return the one run."""
        (run,) = self.runs.values()
        return run


@dataclass
class Session:
    """A run as `wandb.init` returns it. step: the one whose entry is not yet complete."""

    server: Server
    kept: Kept
    step: int
    entry: dict[str, float] = field(default_factory=dict)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    @property
    def summary(self) -> dict[str, Any]:
        return self.kept.summary

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.kept.axes[name] = step_metric

    def log(self, data: dict[str, float], step: int) -> None:
        """Add to the entry of a step. A lower step than the present one is ignored, with a warning only."""
        if step < self.step:
            self.server.dropped.append(data)
            return
        if step > self.step:
            self.finish()
            self.step = step
        self.entry.update(data)

    def finish(self, exit_code: int = 0) -> None:
        if self.entry:
            self.kept.history[self.step], self.entry = self.entry, {}
