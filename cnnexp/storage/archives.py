"""Archives: unpacked completely or not at all."""

import os
import tarfile
import zlib
from pathlib import Path

from cnnexp.errors import UserError
from cnnexp.storage.disk import sync_folder
from cnnexp.storage.files import make_folder, remove


def extract_tar(archive: Path, folder: Path) -> None:
    """Unpack a tar archive whose one top folder is named as `folder`, so that it appears complete or not at all.

    Members that would land outside are refused. Raises UserError if the archive cannot be read.
    """
    if not hasattr(tarfile, "data_filter"):  # Python 3.11.0 to 3.11.3
        raise UserError(
            f"{archive}: this Python cannot unpack it safely; unpack it yourself, or use Python 3.11.4 or newer"
        )
    temporary = folder.with_name(f".{folder.name}.tmp")
    remove(temporary)
    make_folder(temporary)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(temporary, filter="data")
        os.rename(temporary / folder.name, folder)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise UserError(f"{archive}: cannot be unpacked ({error})") from error
    finally:
        remove(temporary)
    sync_folder(folder.parent)
