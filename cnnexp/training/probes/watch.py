"""When probes look, and what they write: rows in probes.jsonl, as many as the run's state says."""

from collections.abc import Callable, Mapping
from typing import Any

from cnnexp.config.signature import steps
from cnnexp.records.run_record import RunRecord
from cnnexp.training.loop import Action, Due, Settings, TrainState
from cnnexp.training.probes import OF_A_PASS, PROBES
from cnnexp.training.probes.passes import Pass
from cnnexp.training.probes.weights import Step


class Watch:
    """The probes of a run that has any: what `fit` is to do before and after the steps at which they look."""

    def __init__(
        self, wanted: Mapping[str, Any], record: RunRecord, settings: Settings, validate: Callable[[], object]
    ):
        """wanted: the `probes` node of a config. validate: sends the validation split through the network once."""
        self.wanted, self.record, self.settings, self.validate = wanted, record, settings, validate
        self.every = steps(wanted["every"], settings.steps_per_epoch)
        self.step: Step | None = None

    def due(self, step: int) -> bool:
        """Tell whether to look at the step that makes it `step` steps: every so many, and the last one."""
        return step % self.every == 0 or step == self.settings.total_steps

    @property
    def before(self) -> tuple[Due, Action]:
        """Return what is to be done before a step, and before which."""
        return self.due, self._prepare

    @property
    def after(self) -> tuple[Due, Action]:
        """Return what is to be done after a step, and after which."""
        return self.due, self._look

    def _prepare(self, state: TrainState) -> None:
        state.wait_for_device(self.settings.device)
        with state.timed("probes", self.settings.device):
            scale = state.scaler.get_scale() if state.scaler else 1.0
            self.step = Step(state.model, self.wanted["gradients"], self.wanted["updates"], scale)

    def _look(self, state: TrainState) -> None:
        assert self.step is not None
        state.wait_for_device(self.settings.device)
        with state.timed("probes", self.settings.device):
            rows = self.step.rows()
            self.step = None
            if any(self.wanted[name] for name in OF_A_PASS):
                with Pass(state.model, state.learner, self.wanted) as watched:
                    self.validate()
                rows += watched.rows()
            for row in rows:
                self.record.append_probe(epoch=self.settings.epoch(state.step), step=state.step, **row)
            state.probe_rows += len(rows)


def add_probes(
    config: Mapping[str, Any],
    actions: list[tuple[Due, Action]],
    record: RunRecord,
    settings: Settings,
    validate: Callable[[], object],
) -> list[tuple[Due, Action]]:
    """Put the probes that a config asks for before all other actions; return what is to be done before a step.

    Both stay as they are if it asks for none. validate: see Watch.
    """
    if not any(config["probes"][name] for name in PROBES):
        return []
    watch = Watch(config["probes"], record, settings, validate)
    actions.insert(0, watch.after)
    return [watch.before]
