"""The keys of a config: their dotted names, and which of them count for what."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

# fingerprint: it can change a number, so it names a run.
# arm: typed on the command line, it makes another arm.
# difference: two arms that differ in it differ in more than their technique.
# effect: two runs that differ in it should not have the same numbers to the last bit.
Purpose = Literal["fingerprint", "arm", "difference", "effect"]
ALL: tuple[Purpose, ...] = ("fingerprint", "arm", "difference", "effect")

# The purposes for which a key, and all below it, counts. A key that is not listed counts for all.
COUNTS: dict[str, tuple[Purpose, ...]] = {
    "seed": ("effect",),
    "study": (),
    "pretrain": (),
    "search": (),
    "outputs": (),
    "slots": (),
    "cluster": (),
    "log": (),
    "tracker": (),
    "checkpoint": (),
    "probes": (),
    "backbone": ("arm",),
    "cache_features": ("arm", "difference"),
    "eval_batch_size": ("fingerprint", "arm", "difference"),  # the order of sums: it need not change a bit
    "data.root": ("arm",),
    "data.cache": ("arm",),
    "data.fold": ("fingerprint", "effect"),  # as a seed: the runs of all folds are one arm
    "data.file": ("arm", "difference", "effect"),
    "data.path": ("arm", "difference", "effect"),  # the data's content is hashed instead
    "data.name": ("arm", "difference", "effect"),
    "device": ("effect",),  # what of it can change a number is hashed as the run resolves it
    "device.kind": (),
    "device.threads": (),
    "device.data_on_device": (),
    "device.keep_memory": (),
    "device.compile": (),
    "device.processes": (),  # rounding: a run may go on with another number
    "device.sync_bn": (),
}


def counts(key: str, purpose: Purpose) -> bool:
    """Tell whether a dotted key, as typed or as in a config, counts for a purpose."""
    key = key.lstrip("+~").partition("[")[0]
    while key not in COUNTS and "." in key:
        key = key.rpartition(".")[0]
    return purpose in COUNTS.get(key, ALL)


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return {"model.norm": "none", ...}: the leaves of a config by dotted key; lists are leaves."""
    if not isinstance(node, Mapping) or not node:
        return {prefix: node}
    found: dict[str, Any] = {}
    for key, value in node.items():
        found.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return found


def is_below(key: str, parents: Iterable[str]) -> bool:
    """Tell whether a dotted key is one of the parents or lies below one."""
    return any(key == parent or key.startswith((f"{parent}.", f"{parent}[")) for parent in parents)
