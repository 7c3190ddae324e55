"""Hostile texts, and a parsed page to look for them in."""

from html.parser import HTMLParser

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
    """What a page is made of: tags, the text, ids, links and where anything comes from."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.ids, self.links, self.sources, self.attributes, self.text = [], [], [], [], [], ""
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            self.attributes.append(name)
            {"id": self.ids, "href": self.links, "src": self.sources}.get(name, []).append(value)

    def handle_data(self, data):
        self.text += data
