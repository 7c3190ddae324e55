"""Hostile texts, and a parsed page to look for them in."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cnnexp

OWN_SCRIPTS = {file.read_text() for file in Path(cnnexp.__file__).parent.rglob("templates/*.js")}

HOSTILE = [
    "<script>alert('x')</script>",
    "=cmd|' /C calc'!A0",
    r"\input{/etc/passwd}",
    "\x1b[31mred\x1b[0m",
    r"$\frac{1}$",
    "[2pt] {{ 1234*5678 }}",
    '"><img src=http://example.org/x onerror=alert(1)>',
    "漢字 🙂 \u202eabc",
]


class Page(HTMLParser):
    """What a page is made of: tags, the text, ids, links and where anything comes from.

    tags: without those of the package's own scripts. strange: scripts that are no file of the package, and no data.
    """

    def __init__(self, content):
        super().__init__()
        self.tags, self.ids, self.links, self.sources, self.attributes, self.text = [], [], [], [], [], ""
        self.strange, self._script = [], None
        self.feed(content)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag == "script":
            self._script = [dict(attributes), ""]
            return
        self.tags.append(tag)
        for name, value in attributes:
            self.attributes.append(name)
            {"id": self.ids, "href": self.links, "src": self.sources}.get(name, []).append(value)

    def handle_data(self, data):
        if self._script:
            self._script[1] += data
        else:
            self.text += data

    def handle_endtag(self, tag):
        if tag != "script" or not self._script:
            return
        attributes, content = self._script
        self._script = None
        if not is_own(attributes, content):
            self.strange.append(f"<script {attributes}> {content[:80]}")


def is_own(attributes, content):
    """Tell whether a script element is one that a page of ours may have: a file of the package, or data."""
    if attributes == {"type": "application/json", "id": "data"}:
        return "<" not in content and json.loads(content)
    if attributes == {"type": "text/plain", "id": "library"}:
        return re.fullmatch(r"[A-Za-z0-9+/=]+", content)
    return not attributes and content in OWN_SCRIPTS
