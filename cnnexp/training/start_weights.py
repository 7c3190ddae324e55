"""The weights that a run starts from: the run that has to make them first, or a file."""

import copy
import functools
import hashlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnexp import storage
from cnnexp.config import checks
from cnnexp.config import compose as configs
from cnnexp.errors import UserError
from cnnexp.records.find import weights_path

DEFAULT_ROOTS = ("data", None)  # of the groups in configs/data
PUBLIC = {f"cnnexp.data.sources.{name}" for name in ("cifar10", "imagenette", "public_set")}  # may share a folder


def upstream_config(config: dict[str, Any], command: str) -> tuple[dict[str, Any], list[str]] | None:
    """Return the config of the run that `model.weights: {config: NAME}` names, and its overrides; None without.

    It has the same device and outputs. Raises UserError for a name or a setting that is not allowed.
    """
    weights = config["model"].get("weights")
    if not isinstance(weights, dict):
        return None
    overrides = [f"+pretrain={weights['config']}"]
    upstream = configs.resolve(configs.compose([*overrides, *configs.search_path(shlex.split(command))]))
    upstream["outputs"] = config["outputs"]
    upstream["device"] = copy.deepcopy(config["device"])
    take_over_places(upstream["data"], config["data"])
    checks.check(upstream)
    return upstream, overrides


def take_over_places(upstream: dict[str, Any], data: Mapping[str, Any]) -> None:
    """Give an upstream's data the cache and the root of the run's data, where its config leaves them at the default.

    The root only if both have the same images, or are public data sets, which may share a folder: `data.root=photos`
    of a person's own images is not where another data set is.
    """
    if "cache" in upstream and upstream["cache"] is None:
        upstream["cache"] = data.get("cache")
    if "root" in upstream and "root" in data and upstream["root"] in DEFAULT_ROOTS:
        same = all(upstream.get(key) == data.get(key) for key in ("_target_", "name", "path", "file"))
        if same or {upstream["_target_"], data["_target_"]} <= PUBLIC:
            upstream["root"] = data["root"]


def find_weights(config: dict[str, Any]) -> str | None:
    """Set `model.weights` to the path of what it names, and return a hash of the file; None if it names no file.

    `latest` may be another run tomorrow, so the config keeps the path. Raises UserError for a file that is missing.
    """
    weights = config["model"].get("weights")
    if weights in (None, "none", "imagenet"):
        return None
    path = weights_path(weights)
    config["model"]["weights"] = str(path)
    file = path / "checkpoints" / "best.pt" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"model.weights: given '{weights}'; allowed: imagenet, none, a checkpoint or a finished run")
    state = file.stat()
    return _hash_file(file, (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns))


@functools.lru_cache(maxsize=64)
def _hash_file(file: Path, state: tuple[int, ...]) -> str:
    with storage.reading(file), open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]
