"""Torch's optimisers without torch's compiler: they import it when one is made and when it steps, 1.5 s a process.

What they import it for is to mark places where a compiled training step would be cut; nothing here compiles one.
If a later torch is built otherwise, nothing happens here and its own way is taken.
"""

from types import MethodType
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim import optimizer as of_torch


def spare_compiler() -> None:
    """Let the methods of `Optimizer` that only keep the compiler out run without importing it. Call before making one.

    Torch decorates them with `_disable_dynamo`, which imports the compiler unless it finds a function kept beside them.
    """
    for method in vars(Optimizer).values():
        code = getattr(method, "__code__", None)
        if code is not None and code.co_qualname.startswith("_disable_dynamo."):
            vars(method.__wrapped__).setdefault("__dynamo_disable", method.__wrapped__)


def lean(optimizer: Optimizer) -> Optimizer:
    """Give one of torch's own optimisers its `step` without the wrappers that profile it and import the compiler.

    Step hooks are a part of those wrappers: an optimiser that has some keeps its step, and so does one that was given
    another step than its class's.
    """
    if not type(optimizer).__module__.startswith("torch.optim.") or optimizer.defaults.get("differentiable"):
        return optimizer
    if "step" in vars(optimizer) or _has_hooks(optimizer):
        return optimizer
    chain: list[Any] = [type(optimizer).step]
    while hasattr(chain[-1], "__wrapped__"):
        chain.append(chain[-1].__wrapped__)
    if any(step.__code__.co_qualname.startswith("_use_grad_for_differentiable.") for step in chain[:-1]):
        optimizer.step = MethodType(torch.no_grad()(chain[-1]), optimizer)  # type: ignore[method-assign]
    return optimizer


def _has_hooks(optimizer: Optimizer) -> bool:
    """Tell whether something is to be called before or after a step; True if a later torch keeps hooks elsewhere."""
    missing = (None,)
    own = (getattr(optimizer, f"_optimizer_step_{when}_hooks", missing) for when in ("pre", "post"))
    every = (getattr(of_torch, f"_global_optimizer_{when}_hooks", missing) for when in ("pre", "post"))
    return any(len(hooks) for hooks in (*own, *every))
