"""Where the images of a run that pretrains are: its config says so, or they are beside those of the run after it."""

from collections.abc import Mapping
from typing import Any

DEFAULT_ROOTS = ("data", None)  # of the groups in configs/data
PUBLIC = {f"cnnexp.data.sources.{name}" for name in ("cifar10", "imagenette", "public_set")}  # may share a folder


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
