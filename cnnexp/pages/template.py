"""The template engine of every page: it escapes, and a name that a template does not get is an error."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

SHARED = Path(__file__).parent / "templates"  # base.html.j2, its style, and macros for tables and figures


def engine(*folders: Path) -> Environment:
    """Return an engine that looks for templates in `folders`, then among the shared ones."""
    made = Environment(
        loader=FileSystemLoader([*folders, SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["base64"] = lambda content: base64.b64encode(content).decode("ascii")
    return made
