"""The numbers of a run that a claim may name, and their units."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A number that runs record. scale: from the record to `level`, its unit; difference: the unit of a difference.

    better: 1 if more is better, -1 if less is. curve: the split and column of its curve over the epochs, the validation
    split for the test split, which is evaluated only once.
    """

    scale: float
    level: str
    difference: str
    better: int
    curve: tuple[str, str] | None = None


METRICS = {
    "test_accuracy": Metric(100, "%", "points", 1, ("val", "accuracy")),
    "val_accuracy": Metric(100, "%", "points", 1, ("val", "accuracy")),
    "train_accuracy": Metric(100, "%", "points", 1, ("train", "accuracy")),
    "test_loss": Metric(1, "nats", "nats", -1, ("val", "loss")),
    "val_loss": Metric(1, "nats", "nats", -1, ("val", "loss")),
    "train_loss": Metric(1, "nats", "nats", -1, ("train", "loss")),
    "shift_consistency": Metric(100, "%", "points", 1),
    "epochs_to_plateau": Metric(1, "epochs", "epochs", -1),
    "train_seconds": Metric(1, "seconds", "seconds", -1),
}
