"""Plotly's script for interactive figures, packed into the page that it draws for.

Only the script of the package is read; no Python of it is imported.
"""

import base64
import gzip
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cnnexp.pages import template
from cnnexp.pages.template import SHARED, digest
from cnnexp.version import version_of

SCRIPT = SHARED / "plots.js"  # unpacks and starts the library when the first figure is to be seen
MAX_POINTS = 60_000  # of all curves of a page; of longer ones every k-th epoch is kept


@dataclass(frozen=True)
class Library:
    """A script as a page carries it. packed: gzip, then base64. digest: for the page's policy."""

    packed: str
    digest: str


@lru_cache(maxsize=1)
def library() -> Library | None:
    """Return Plotly's script; None if the package is not installed."""
    spec = find_spec("plotly")
    if spec is None or not spec.submodule_search_locations or version_of("plotly") is None:
        return None
    text = (Path(spec.submodule_search_locations[0]) / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return Library(base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode("ascii"), digest(text))


def render(
    templates: Path, name: str, context: Mapping[str, Any], scripts: Sequence[str], data: Mapping[str, Any] | None
) -> str:
    """Return a page whose figures `scripts`, files beside its template, draw from `data`.

    The template gets both and `library`, which is "" without data or without Plotly: its figures are then images.
    """
    found = library() if data else None
    drawn = {"data": data, "library": found.packed if found else ""}
    files = (SCRIPT, *(templates / script for script in scripts)) if found else ()
    return template.render(templates, name, {**context, **drawn}, files, [found.digest] if found else [])


def rounded(value: float, digits: int = 5) -> float | None:
    """Return a number for a figure's data with so many significant digits, None for what JSON has no number for."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
