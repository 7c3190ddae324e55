"""Folders of arrays, written beside where they are to be and put there whole."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnexp.storage import disk
from cnnexp.storage.files import remove

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_array(path: Path, blocks: Iterable["NDArray[Any]"]) -> tuple[int, ...]:
    """Write blocks of rows of one dtype and row shape as one new .npy file, holding one block at a time.

    Returns the array's shape. Not atomic: it is for files in a folder that `publish_folder` makes visible.
    """
    import numpy as np

    header: dict[str, Any] = {"descr": "|u1", "fortran_order": False, "shape": (0,)}
    rows = 0
    with disk.opened(path, "array") as file:
        for block in blocks:
            if not rows:
                header["descr"], header["shape"] = np.lib.format.dtype_to_descr(block.dtype), (0, *block.shape[1:])
                np.lib.format.write_array_header_1_0(file, header)  # leaves room for the count, written at the end
            file.write(np.ascontiguousarray(block).data)
            rows += len(block)
        shape: tuple[int, ...] = (rows, *header["shape"][1:])
        header["shape"] = shape
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header)
    return shape


def publish_folder(temporary: Path, final: Path) -> None:
    """Rename a finished folder into place; if another process was first, drop ours and keep the other's."""
    for file in sorted(temporary.iterdir()):
        disk.sync(file, "array")
    disk.sync_folder(temporary)
    try:
        disk.rename_folder(temporary, final)
    except OSError:
        if not final.exists():
            raise
        remove(temporary)
    disk.sync_folder(final.parent)
