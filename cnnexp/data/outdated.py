"""Which prepared images are of files that have changed since. No torch.

<cache>/<name>-<key>/sources.json    {folder: {content, listed}}: the folders of equal images that the set stands for,
                                     the digest of the images' content, and of the names of all images in a tree

The key of a set holds the content of its images, so changed images make another set, and the earlier one stays.
"""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from cnnexp import storage
from cnnexp.data.cache import Prepared
from cnnexp.data.digests import content_digest
from cnnexp.data.folders import find_tree
from cnnexp.data.image_files import list_files
from cnnexp.errors import UserError

FILE = "sources.json"


def names_digest(ids: Iterable[str]) -> str:
    """Return a digest of the paths of images, in any order."""
    text = json.dumps(sorted(ids))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def note_source(prepared: Prepared, root: Path, content: str, listed: str | None) -> None:
    """Record the folder that a prepared set was made from, or found again for.

    content: the digest of the images' content. listed: `names_digest` of a tree, None where a table names the images.
    """
    file, entry = prepared.folder / FILE, {"content": content, "listed": listed}
    with suppress(OSError, UserError):  # a cache that is only read
        known = _sources(prepared.folder)
        if known.get(str(root.absolute())) != entry:
            storage.write_json(file, {**known, str(root.absolute()): entry})


def why_outdated(folder: Path) -> str:
    """Say how the images of a prepared set have changed since; "" if they have not, or their folder is not recorded."""
    reason = ""
    for root, entry in _sources(folder).items():
        reason = _change(folder, Path(root), entry)
        if not reason:
            return ""
    return reason


def _sources(folder: Path) -> dict[str, Any]:
    try:
        found = storage.read_json(folder / FILE)
    except (OSError, UserError):
        return {}
    return found if isinstance(found, dict) and all(isinstance(entry, dict) for entry in found.values()) else {}


def _change(folder: Path, root: Path, entry: dict[str, Any]) -> str:
    """Say how the images below a folder differ from those that were prepared, "" if they do not.

    Also "" for what cannot be read now: a fault of a disk or a mount may pass.
    """
    with suppress(OSError, ValueError, UserError):
        if not root.is_dir():
            return f"of {root}, which is gone"
        ids = np.load(folder / "ids.npy", allow_pickle=False).tolist()
        if not all((root / name).exists() for name in ids):
            return f"of {root}, where images were removed or renamed since"
        if entry.get("listed") is not None:
            files, _, _ = list_files(root, find_tree(root))
            if names_digest(file.id for file in files) != entry["listed"]:
                return f"of {root}, where images were added, removed or renamed since"
        if content_digest([root / name for name in ids], None) != entry.get("content"):
            return f"of {root}, where images have changed since"
    return ""
