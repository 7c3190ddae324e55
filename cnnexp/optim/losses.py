"""The losses that can be chosen by name: each builder returns a callable (logits (N, K), labels (N,)) -> mean loss.

A user's `_target_` can name a class whose objects are such callables, as torch.nn.CrossEntropyLoss, or a function
(logits, labels, ...) itself, as torch.nn.functional.multi_margin_loss.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from cnnexp.config.signature import NonNegative, Positive, Rate
from cnnexp.errors import UserError
from cnnexp.text import plural

if TYPE_CHECKING:
    from torch import Tensor

    Loss = Callable[[Tensor, Tensor], Tensor]
else:
    Loss = Callable  # the builders' annotations are read without torch

ClassWeights = Literal["balanced"] | list[Positive] | None


def cross_entropy(class_counts: Sequence[int], label_smoothing: Rate = 0.0, class_weights: ClassWeights = None) -> Loss:
    """Cross entropy with label smoothing (Szegedy et al. 2016, arXiv 1512.00567) and class weights.

    class_counts: training images of each class. Weighted as in torch.nn.CrossEntropyLoss: a weighted mean.
    """
    from torch import nn

    return nn.CrossEntropyLoss(weight=weights(class_weights, class_counts), label_smoothing=label_smoothing)


def focal(class_counts: Sequence[int], gamma: NonNegative, class_weights: ClassWeights = None) -> Loss:
    """Cross entropy of each image times (1 - p)^gamma, with p the probability of its class."""
    from torch import nn

    class Focal(nn.Module):
        """Keeps the weights of the classes on the device."""

        weight: "Tensor | None"
        is_weighted_mean = True

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", weights(class_weights, class_counts))

        def forward(self, logits: "Tensor", labels: "Tensor") -> "Tensor":
            """Return the mean over the images, weighted by their classes."""
            logs = logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
            wrong = (-logs.expm1()).clamp_min(1e-12)  # 1 - p; the slope of its root at 0 is infinite
            each = -(wrong**gamma) * logs
            if self.weight is None:
                return each.mean()
            own = self.weight[labels]
            return (each * own).sum() / own.sum()

    return Focal()


def share_of(loss: Loss, labels: "Tensor", of_batch: "Tensor") -> "float | Tensor":
    """Return the share of the images with these labels in the mean loss of a batch: of its images, or their weights."""
    from torch import nn

    if isinstance(loss, nn.CrossEntropyLoss) or getattr(loss, "is_weighted_mean", False):
        weight: Tensor | None = loss.weight  # type: ignore[attr-defined]
        if weight is not None:
            return weight[labels].sum() / weight[of_batch].sum()
    return len(labels) / len(of_batch)


def weights(given: ClassWeights, class_counts: Sequence[int]) -> "Tensor | None":
    """Return the weight of each class (K,) float32: N / (K n_k) for "balanced", as in scikit-learn; None for None.

    Raises UserError if there is not a number for each class.
    """
    import torch

    if given is None:
        return None
    counts = torch.tensor(class_counts, dtype=torch.float64)
    if given == "balanced":
        present = counts.clamp(min=1)  # finite for a class without images
        return (counts.sum() / (len(counts) * present)).to(torch.float32)
    if len(given) != len(counts):
        raise UserError(
            f"loss.class_weights: given {plural(len(given), 'number')}; allowed: {len(counts)}, one per class"
        )
    return torch.tensor(given, dtype=torch.float32)


def is_plain(node: Mapping[str, Any]) -> bool:
    """Return whether a `loss` node is the cross entropy that rows and curves show."""
    plain = {"_target_": f"{__name__}.cross_entropy", "label_smoothing": 0.0, "class_weights": None}
    return {**plain, **node} == plain
