"""The wrong test images of a run as a CSV file, and as a page that shows them."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from cnnexp.pages import template
from cnnexp.pages.files import make_folders, write_page
from cnnexp.pages.style import Figure
from cnnexp.pages.tables import Column, Table, to_csv
from cnnexp.report.analysis.mistakes import Mistake
from cnnexp.report.figures.images import Image as Pixels
from cnnexp.report.figures.images import Missing, open_test_split
from cnnexp.report.read.runs import Run
from cnnexp.text import percent, plain, plural

MAX_SHOWN = 500  # pictures on the page, which holds them all; the CSV file has every image
COLUMNS: list[Column[Mistake]] = [
    Column("", "file", lambda m: m.file),
    Column("", "label", lambda m: m.true),
    Column("", "predicted", lambda m: m.predicted),
    Column("", "probability", lambda m: round(m.probability, 6)),
    Column("", "probability_of_label", lambda m: round(m.of_true, 6)),
]


def as_csv(mistakes: Sequence[Mistake]) -> str:
    """Return a row per image: file, label, predicted, probability, probability_of_label."""
    return to_csv(Table(COLUMNS, mistakes))


def summary(wrong: int, images: int, of_class: str | None) -> str:
    """Return "12 of 200 test images of dog are wrong"."""
    of = "" if of_class is None else f" of {plain(of_class)}"
    return f"{wrong:,} of {images:,} test images{of} {'is' if wrong == 1 else 'are'} wrong"


def write(out: Path, run: Run, mistakes: Sequence[Mistake], said: str, figures: Sequence[Figure], command: str) -> Path:
    """Write index.html, tables/mistakes.csv and the figures into `out`; return the page. said: the page's first line.

    Raises UserError if that is impossible.
    """
    make_folders(out)
    reason, cards = "", []
    try:
        split = open_test_split(run)
    except Missing as missing:
        reason = str(missing)
    for mistake in mistakes[:MAX_SHOWN]:
        image = None if reason else split.get(mistake.id, mistake.label)
        words = plain(mistake.true), f"{plain(mistake.predicted)} {percent(mistake.probability, 1)}"
        cards.append((plain(mistake.file), *words, None if image is None else _png(image)))
    context = {
        "name": run.name,
        "said": said,
        "reason": reason,
        "left": f"The page shows the first {plural(MAX_SHOWN, 'image')}." if len(mistakes) > MAX_SHOWN else "",
        "cards": cards,
        "figures": figures,
        "command": command,
    }
    html = template.render(Path(__file__).parent / "templates", "mistakes.html.j2", context)
    write_page(out, html, {"mistakes.csv": Table(COLUMNS, mistakes)}, figures)
    return out / "index.html"


def _png(pixels: Pixels) -> bytes:
    """Return an image (H, W, C) uint8 as a PNG file."""
    image, file = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
