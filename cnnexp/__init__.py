"""cnnexp: convolutional-network experiments from YAML to a verdict."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnexp.records.table import runs as runs
    from cnnexp.training.inference import load as load

from cnnexp.version import __version__

__all__ = ["__version__", "load", "runs"]


def __getattr__(name: str) -> Any:
    """Import `load` and `runs` only when used, so that importing cnnexp costs nothing."""
    if name == "load":
        from cnnexp.training.inference import load

        return load
    if name == "runs":
        from cnnexp.records.table import runs

        return runs
    raise AttributeError(f"module 'cnnexp' has no attribute '{name}'")
