"""The size of images as configs give it: one number for squares, or [height, width]. Imports no torch."""

from typing import Annotated, Any

from cnnexp.config.signature import Range

Side = Annotated[int, Range(low=8, high=1024)]
Size = Side | tuple[Side, Side]


def height_width(size: Any) -> tuple[int, int] | None:
    """Return (height, width) in pixels of `data.size`; None for what is no size, as of data without that setting."""
    sides = size if isinstance(size, (list, tuple)) else (size, size)
    if len(sides) != 2 or not all(type(side) is int for side in sides):
        return None
    return sides[0], sides[1]


def as_size(height: int, width: int) -> int | list[int]:
    """Return the shortest way to give a size."""
    return height if height == width else [height, width]
