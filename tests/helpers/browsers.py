"""Pages in Debian's chromium, driven by Playwright."""

import re
import shutil

import pytest

from cnnexp import report
from cnnexp.pages.style import Figure
from cnnexp.report.figures import draw

DRAWN = ("test_accuracy", "validation_curves", "accuracy_curves", "loss_curves", "confusion_all", "cost", "calibration")
PATIENCE = 60_000  # ms
SIZES = {"desk": (1280, 800), "phone": (390, 844)}


def start():
    """Return a context that gives a browser; skip the tests where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not (program := shutil.which("chromium")):
        pytest.skip("chromium is not installed")
    return sync_api.sync_playwright(), program


def interactive_page(folder, monkeypatch):
    """Write the report of a study without the fixed figures, which take seconds to draw; return its page."""
    fakes = [Figure(name, name, b"", b"<svg/>", b"") for name in DRAWN]
    monkeypatch.setattr(draw, "draw", lambda findings, images: fakes)
    return report.write(folder, command="cnnexp report demo").index


def show(page, section):
    """Open a section by its link and wait until its first figure is drawn."""
    page.evaluate(f"location.hash = '{section}'")
    if page.locator(f"#{section} .plot").count():
        page.locator(f"#{section} .plot").first.scroll_into_view_if_needed()
        page.wait_for_selector(f"#{section} .plot[data-drawn]")


def without_policy(html):
    return re.sub(r'(Security-Policy" content=)"[^"]*"', r'\1"img-src data:"', html, count=1)
