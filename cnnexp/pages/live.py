"""A page as its server sends it: it loads itself again when it has changed, and gets Plotly from the server."""

import re

from markupsafe import escape  # as the template engine does

from cnnexp.pages.plotly import library
from cnnexp.pages.template import POLICY, SHARED, digest

LIBRARY = "/plotly.js"
SCRIPT = SHARED / "live.js"
PACKED = re.compile(rb'<script type="text/plain" id="library">[A-Za-z0-9+/=]+</script>')


def live(page: bytes, version: str) -> bytes:
    """Return a page of ours with live.js, allowed to ask its own server. version: changes when the page does."""
    script, found = SCRIPT.read_text(encoding="utf-8"), library()
    policy, allowed = escape(POLICY), escape(f"connect-src 'self'; {POLICY} {digest(script)}")
    page = page.replace(policy.encode(), allowed.encode(), 1)
    page = page.replace(b'<html lang="en">', f'<html lang="en" data-version="{version}">'.encode(), 1)
    if found:
        by_hash = f'<script id="library" src="{LIBRARY}" integrity="{found.digest.strip(chr(39))}"></script>'
        page = PACKED.sub(by_hash.encode(), page, count=1)
    before, _, after = page.rpartition(b"</body>")
    return before + f"<script>{script}</script>\n</body>".encode() + after
