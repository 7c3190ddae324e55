"""Keep torch's optimisers from importing torch's compiler, which they do when they are made and when they step.

Measured: the import takes 1.5 s per process. It only marks where the compiler would split a compiled training step.
If a later version of torch is organised differently, the functions here change nothing.
"""

import functools
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim import optimizer as of_torch


def spare_compiler() -> None:
    """Make the methods of `Optimizer` that exclude the compiler run without importing it. Call before making one.

    Torch decorates them with `_disable_dynamo`, which imports the compiler unless the attribute below is set.
    """
    for method in vars(Optimizer).values():
        code = getattr(method, "__code__", None)
        if code is not None and code.co_qualname.startswith("_disable_dynamo."):
            vars(method.__wrapped__).setdefault("__dynamo_disable", method.__wrapped__)


def lean(optimizer: Optimizer) -> Optimizer:
    """Remove from one of torch's optimisers the wrappers of `step` that profile it and import the compiler.

    The wrappers also call step hooks. An optimiser with hooks, or whose `step` was replaced, does not change.
    """
    if not type(optimizer).__module__.startswith("torch.optim.") or optimizer.defaults.get("differentiable"):
        return optimizer
    if "step" in vars(optimizer) or _has_hooks(optimizer):
        return optimizer
    optimizer.__class__ = _lean_class(type(optimizer))  # type: ignore[arg-type]  # a class can be hashed
    return optimizer


@functools.cache
def _lean_class(kind: type[Optimizer]) -> type[Optimizer]:
    """Return a class like `kind` without the wrappers of its `step`; `kind` if torch has others.

    A method of the class, because a method that an optimiser keeps of itself keeps the optimiser, and its weights, in
    memory until Python collects cycles.
    """
    chain: list[Any] = [kind.step]
    while hasattr(chain[-1], "__wrapped__"):
        chain.append(chain[-1].__wrapped__)
    if not any(step.__code__.co_qualname.startswith("_use_grad_for_differentiable.") for step in chain[:-1]):
        return kind
    step = torch.no_grad()(chain[-1])
    step.hooked = True  # else torch wraps it again when a state is loaded
    return type(kind.__name__, (kind,), {"step": step, "__module__": kind.__module__, "__doc__": kind.__doc__})


def _has_hooks(optimizer: Optimizer) -> bool:
    """Return whether there are hooks to call before or after a step; True if torch stores hooks elsewhere."""
    missing = (None,)
    own = (getattr(optimizer, f"_optimizer_step_{when}_hooks", missing) for when in ("pre", "post"))
    every = (getattr(of_torch, f"_global_optimizer_{when}_hooks", missing) for when in ("pre", "post"))
    return any(len(hooks) for hooks in (*own, *every))
