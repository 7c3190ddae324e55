"""Probes of one training step: the gradients of the backward pass, and the change of the weights.

A layer is a module with parameters of its own that learn; its weight and bias are taken together.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cnnexp.training.probes.magnitudes import counts, histogram
from cnnexp.training.ranks import ALONE, Ranks

NETWORK = "(network)"  # the layer of parameters that belong to no layer


class Step:
    """Observes a step, from `Step(...)` before it until `rows()` after it."""

    def __init__(self, model: nn.Module, gradients: bool, updates: bool, loss_scale: float):
        """loss_scale: the factor of the loss in the backward pass, by which gradients are divided."""
        self.loss_scale = loss_scale
        self.layers: dict[str, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                self.layers.setdefault(name.rpartition(".")[0] or NETWORK, []).append((name, parameter))
        self.kinds = {name: type(module).__name__ for name, module in model.named_modules()}
        self.before: dict[str, Tensor] = {}
        self.gradients: dict[str, Tensor] = {}
        self.hooks = []
        for name, parameter in (pair for pairs in self.layers.values() for pair in pairs):
            if updates:
                self.before[name] = parameter.detach().clone()
            if gradients:  # kept before clipping changes them
                keep = parameter.register_post_accumulate_grad_hook
                self.hooks.append(keep(self._keep(name)))  # type: ignore[no-untyped-call]

    def _keep(self, name: str) -> Callable[[Tensor], None]:
        def keep(parameter: Tensor) -> None:
            assert parameter.grad is not None
            self.gradients[name] = parameter.grad.detach() / self.loss_scale

        return keep

    def rows(self, ranks: Ranks = ALONE) -> list[dict[str, Any]]:
        """Return the rows of the step, layer by layer, and remove the hooks. ranks: the processes of the run."""
        if ranks.count > 1:  # the hooks saw the gradients of this process, before torch has taken their mean
            self.gradients = {name: ranks.sum(found) / ranks.count for name, found in sorted(self.gradients.items())}
        for hook in self.hooks:
            hook.remove()
        return [row for layer in self.layers for row in (self._gradient(layer), self._update(layer)) if row]

    def _gradient(self, layer: str) -> dict[str, Any]:
        """Return the Euclidean norm and the histogram of a layer's gradient, if it has one."""
        found = [self.gradients[name] for name, _ in self.layers[layer] if name in self.gradients]
        if not found:
            return {}
        both = histogram(torch.stack([counts(gradient) for gradient in found]).sum(0))
        return {**self._named("gradient", layer), "norm": _norm(found), **both}

    def _update(self, layer: str) -> dict[str, Any]:
        """Return |after - before| / |before| of a layer's parameters, including everything that the optimiser does."""
        pairs = [(parameter.detach(), self.before.get(name)) for name, parameter in self.layers[layer]]
        known = [(after, before) for after, before in pairs if before is not None]
        if not known:
            return {}
        moved, size = _norm([after - before for after, before in known]), _norm([before for _, before in known])
        ratio = moved / size if size else None
        return {**self._named("update", layer), "ratio": ratio, "weight_norm": size}

    def _named(self, kind: str, layer: str) -> dict[str, Any]:
        return {"kind": kind, "layer": layer, "type": self.kinds.get(layer, "")}


def _norm(tensors: list[Tensor]) -> float:
    """Return the Euclidean norm of all numbers of some tensors."""
    return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(t.float()) for t in tensors])))
