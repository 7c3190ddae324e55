"""Take pictures of a report's page for the documentation: `python scripts/screenshots.py outputs/ablation/report`.

Needs Playwright and Debian's chromium. Writes DIR/page-<state>-<width>-<light or dark>.png (default: docs/images).
"""

import argparse
import shutil
from pathlib import Path

SIZES = ((1280, 800), (390, 844))
STATES = ("answer", "figures", "cost", "arms", "mistakes")  # the first screen, and sections


def main() -> None:
    """Open the page at every size, light and dark, and save every state."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("--to", type=Path, default=Path("docs/images"))
    parser.add_argument("--states", default=",".join(STATES))
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    given.to.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for width, height in SIZES:
            for scheme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.goto((given.report / "index.html").resolve().as_uri())
                for state in given.states.split(","):
                    if state != "answer":
                        page.evaluate(f"location.hash = '{state}'")
                        page.wait_for_selector(f"#{state} details[open]")
                        if page.locator(f"#{state} .plot").count():
                            page.locator(f"#{state} .plot").first.scroll_into_view_if_needed()
                            page.wait_for_selector(f"#{state} .plot[data-drawn]")
                    page.screenshot(path=given.to / f"page-{state}-{width}-{scheme}.png")
                page.close()
        browser.close()


if __name__ == "__main__":
    main()
