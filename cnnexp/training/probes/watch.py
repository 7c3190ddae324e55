"""When probes look, and their rows in probes.jsonl. The run's state counts the rows."""

from cnnexp.config.signature import steps
from cnnexp.training.loop import TrainState
from cnnexp.training.probes import OF_A_PASS
from cnnexp.training.probes.passes import Pass
from cnnexp.training.probes.weights import Step
from cnnexp.training.ranks import ALONE
from cnnexp.training.setup import Setup


class Watch:
    """The probes of a run: actions of `fit` before and after the steps at which they look."""

    def __init__(self, setup: Setup):
        self.setup, self.settings, self.wanted = setup, setup.settings, setup.config["probes"]
        self.every = steps(self.wanted["every"], self.settings.steps_per_epoch)
        self.step: Step | None = None

    def due(self, step: int) -> bool:
        """Tell whether to look at the last of `step` steps: every `probes.every`, and at the end."""
        return step % self.every == 0 or step == self.settings.total_steps

    def prepare(self, state: TrainState) -> None:
        """Keep the weights before a step, to compare with."""
        state.wait_for_device(self.settings.device)
        with state.timed("probes", self.settings.device):
            scale = state.scaler.get_scale() if state.scaler else 1.0
            self.step = Step(state.model, self.wanted["gradients"], self.wanted["updates"], scale)

    def look(self, state: TrainState) -> None:
        """Write the rows of the last step, and of a pass over the validation split."""
        assert self.step is not None
        state.wait_for_device(self.settings.device)
        with state.timed("probes", self.settings.device):
            rows = self.step.rows(self.setup.ranks)
            self.step = None
            if any(self.wanted[name] for name in OF_A_PASS):
                with Pass(state.model, state.learner, self.wanted) as watched:
                    self.setup.evaluation.logits(state.model, self.setup.data.val, ALONE)
                rows += watched.rows()
            for row in rows:
                self.setup.record.append_probe(epoch=self.settings.epoch(state.step), step=state.step, **row)
            state.probe_rows += len(rows)
