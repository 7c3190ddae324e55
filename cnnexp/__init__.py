"""cnnexp: convolutional-network experiments from YAML to a verdict."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnexp.trained import load as load
    from cnnexp.trained import runs as runs

__version__ = "0.1.0"
__all__ = ["__version__", "load", "runs"]


def __getattr__(name: str) -> Any:
    """Import `load` and `runs` only when used, so that importing cnnexp costs nothing."""
    if name in ("load", "runs"):
        from cnnexp import trained

        return getattr(trained, name)
    raise AttributeError(f"module 'cnnexp' has no attribute '{name}'")
