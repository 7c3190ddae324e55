"""What a user sees while a run trains: bars on a terminal or in a notebook, elsewhere a plain line per epoch."""

from time import monotonic
from typing import TYPE_CHECKING, Any

from cnnexp.claims.metrics import SCORES
from cnnexp.process import bars
from cnnexp.text import visible

if TYPE_CHECKING:
    from cnnexp.training.loop import Settings, TrainState


def resumed_line(settings: "Settings", state: "TrainState") -> str:
    """Return "continues after epoch 3 of 15", or "... after step 46 of epoch 4 of 15"; "" of a run at its start."""
    if not state.step:
        return ""
    epochs, steps = divmod(state.step, settings.steps_per_epoch)
    if not steps:
        return f"continues after epoch {epochs} of {settings.epochs}"
    return f"continues after step {steps} of epoch {epochs + 1} of {settings.epochs}"


class Progress:
    """Receives the progress of a run and shows nothing; its subclasses show it."""

    def start(self, title: str, settings: "Settings", state: "TrainState") -> None:
        """Begin a run, or continue it from `state`."""

    def step(self, state: "TrainState") -> None:
        """Show a training step."""

    def epoch(self, line: str, state: "TrainState") -> None:
        """Show the end of an epoch. line: see epoch_line."""

    def close(self) -> None:
        """End the run, finished or not."""


def epoch_line(epochs: int, train: dict[str, Any], val: dict[str, Any] | None, best: bool) -> str:
    """Return "epoch 3/15  loss 1.234  accuracy 56.7 %  val loss 1.345  val accuracy 54.3 % *  246 images/s".

    train, val: the epoch's metric rows; another score that is watched is named too. best: it is the best epoch so far.
    """
    epoch = f"epoch {train['epoch']:>{len(str(epochs))}}/{epochs}"
    text = f"{epoch}  loss {train['loss']:.3f}  accuracy {train['accuracy']:6.1%}"
    if val:
        watched = "".join(f"  val {name} {val[name]:6.1%}" for name in SCORES if name in val)
        text += f"  val loss {val['loss']:.3f}  val accuracy {val['accuracy']:6.1%}{watched}{' *' if best else '  '}"
    return f"{text}  {train['images_per_second']:.0f} images/s"


class Lines(Progress):
    """A plain line per epoch, for logs and pipes."""

    def start(self, title: str, settings: "Settings", state: "TrainState") -> None:
        """Print the run's title, and where it continues."""
        print(visible(title), flush=True)
        if line := resumed_line(settings, state):
            print(line, flush=True)

    def epoch(self, line: str, state: "TrainState") -> None:
        """Print the epoch's line."""
        print(line, flush=True)


class Bars(Progress):
    """One bar for the steps of the epoch and one for the epochs, with loss, accuracy and images/s."""

    REFRESH_SECONDS = 0.5  # between looks at the loss: each makes the host wait for a GPU

    def start(self, title: str, settings: "Settings", state: "TrainState") -> None:
        """Open the bars."""
        self.settings, self.refreshed = settings, monotonic()
        print(visible(title))
        if line := resumed_line(settings, state):
            print(line)
        every = settings.steps_per_epoch
        self.epochs = bars.bar(total=settings.epochs, initial=state.step // every, unit="epoch", position=1)
        done = state.step % every
        self.steps = bars.bar(total=every, initial=done, unit="step", position=0, leave=False, mininterval=0.2)

    def step(self, state: "TrainState") -> None:
        """Advance the step bar; now and then show the last loss and the epoch's accuracy so far."""
        self.steps.update()
        if monotonic() - self.refreshed > self.REFRESH_SECONDS:
            self.refreshed = monotonic()
            state.wait_for_device(self.settings.device)
            steps = self.settings.step_in_epoch(state.step)
            images = steps * state.batch_size
            loss, accuracy = float(state.losses[steps - 1]), float(state.correct[:steps].sum()) / images
            rate = images / max(state.epoch_seconds, 1e-9)
            self.steps.set_postfix_str(f"loss {loss:.3f}, accuracy {accuracy:.1%}, {rate:.0f} images/s")

    def epoch(self, line: str, state: "TrainState") -> None:
        """Print the epoch's line above the bars and advance them."""
        self.epochs.write(line)
        self.epochs.update()
        self.steps.reset()

    def close(self) -> None:
        """Close the bars."""
        if hasattr(self, "steps"):
            self.steps.close()
            self.epochs.close()


def for_terminal() -> Progress:
    """Return bars where they are seen, else plain lines."""
    return Bars() if bars.shown() else Lines()
