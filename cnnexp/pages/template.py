"""The template engine of every page, its scripts, and the policy that lets these scripts run and nothing else.

The engine escapes, and a name that a template does not get is an error. The policy forbids every request.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

SHARED = Path(__file__).parent / "templates"  # base.html.j2, its style and script, and macros for tables and figures
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; script-src"


@cache
def engine(*folders: Path) -> Environment:
    """Return an engine that looks for templates in `folders`, then among the shared ones, and compiles each once."""
    made = Environment(
        loader=FileSystemLoader([*folders, SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["base64"] = lambda content: base64.b64encode(content).decode("ascii")
    return made


def render(
    templates: Path, name: str, context: Mapping[str, Any], scripts: Sequence[Path] = (), trusted: Sequence[str] = ()
) -> str:
    """Return a page that extends base.html.j2.

    scripts: files of this package that run in the page, after page.js. trusted: hashes of further scripts, as `digest`
    gives them, that those may start.
    """
    texts = [file.read_text(encoding="utf-8") for file in (SHARED / "page.js", *scripts)]
    policy = " ".join([POLICY, *map(digest, texts), *trusted])
    return engine(templates).get_template(name).render(**context, scripts=texts, policy=policy)


def digest(script: str) -> str:
    """Return the hash by which a content security policy names a script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'"
