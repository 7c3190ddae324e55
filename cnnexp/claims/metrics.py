"""The numbers of a run that a claim may name, and their units."""

from dataclasses import dataclass

from cnnexp.errors import UserError, did_you_mean


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


SCORES = ("balanced_accuracy", "precision", "recall", "f1", "top5")  # of the test images: cnnexp.metrics.class_scores
METRICS = {
    "test_accuracy": Metric(100, "%", "points", 1, ("val", "accuracy")),
    "val_accuracy": Metric(100, "%", "points", 1, ("val", "accuracy")),
    "train_accuracy": Metric(100, "%", "points", 1, ("train", "accuracy")),
    **{f"test_{name}": Metric(100, "%", "points", 1) for name in SCORES},
    "test_loss": Metric(1, "nats", "nats", -1, ("val", "loss")),
    "val_loss": Metric(1, "nats", "nats", -1, ("val", "loss")),
    "train_loss": Metric(1, "nats", "nats", -1, ("train", "loss")),
    "shift_consistency": Metric(100, "%", "points", 1),
    "epochs_to_plateau": Metric(1, "epochs", "epochs", -1),
    "train_seconds": Metric(1, "seconds", "seconds", -1),
}
OF_ONE_CLASS = ("test_precision", "test_recall", "test_f1")  # may name a class: recall[dog]


def metric(name: str) -> Metric:
    """Return a metric by the name that `full_name` gives it."""
    return METRICS[name.partition("[")[0]]


def full_name(given: str, of_class: str = "") -> str:
    """Return a metric's name as a claim has it: f1 is test_f1, and of one class test_f1[dog]. Raises UserError."""
    name = given if given in METRICS else f"test_{given}"
    if name not in METRICS:
        known = [*METRICS, *(known.removeprefix("test_") for known in METRICS)]
        raise UserError(f"unknown metric '{given}'; choose one of {', '.join(METRICS)}{did_you_mean(given, known)}")
    if not of_class:
        return name
    if name not in OF_ONE_CLASS:
        raise UserError(f"{given} is of all classes; of one class there are precision, recall and f1")
    return f"{name}[{of_class}]"
