"""What the figures of the page are drawn from, as one JSON value: small, rounded, without nan.

`cnnexp --no-figures` never gets here: how an arm looks comes from the modules that import matplotlib.
"""

import base64
import io
import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from PIL import Image as Pillow

from cnnexp.config.keys import counts
from cnnexp.pages.plotly import MAX_POINTS, rounded
from cnnexp.pages.style import COLOURS
from cnnexp.records.identical import varying
from cnnexp.report.analysis.classes import MAX_MATRIX_CLASSES
from cnnexp.report.analysis.cost import COST_HEADINGS, COSTS, costs_of, front
from cnnexp.report.analysis.examples import Example
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.figures.images import Image, TestImages, shrink
from cnnexp.report.figures.looks import looks
from cnnexp.report.read.runs import Run
from cnnexp.report.read.study import Arm
from cnnexp.text import plain

MAX_IMAGE_BYTES = 1_200_000  # of all images of a page
MAX_CONFIGS = 40  # arms whose settings are read
SIDE = 80  # pixels of an image
DARK = {"#4d4d4d": "#b9bec7", "#0072b2": "#4ba3e3", "#d55e00": "#f08a4b", "#009e73": "#35c79a", "#882255": "#d0709f"}
SYMBOLS = ("square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star", "circle")


def page_data(findings: Findings, images: TestImages) -> dict[str, Any]:
    """Return the data of a page's figures. images: of the findings' examples."""
    arms = [*findings.arms, *findings.study.under_way]
    every = max(1, -(-sum(_points(run) for arm in arms for run in _runs(arm)) // MAX_POINTS))
    store = _Images(images)
    data = {
        "every": every,
        "folds": findings.study.folds,
        "arms": _arms(findings, arms, every),
        "fronts": {name: front(findings.rows, name) for name in COSTS},
        "costs": COST_HEADINGS,
        "reliability": _reliability(findings),
        "mistakes": {arm.key: [store.example(arm, e) for e in found] for arm, found in findings.examples.mistakes},
        "matrices": {
            key: {"names": found.names, "counts": found.counts.tolist()}
            for key, found in findings.classes.items()
            if len(found.names) <= MAX_MATRIX_CLASSES
        },
        "settings": _settings(findings.arms[:MAX_CONFIGS]),
    }
    data["cells"] = _cells(findings, store)
    return data | {"images": store.encoded}


def _runs(arm: Arm) -> list[Run]:
    return [*arm.runs, *arm.unfinished]


def _points(run: Run) -> int:
    return len(run.rows.get("train", {})) + len(run.rows.get("val", {}))


def _arms(findings: Findings, arms: Sequence[Arm], every: int) -> list[dict[str, Any]]:
    look, rows = looks(arms, findings.baseline), {row.arm.key: row for row in findings.rows}
    found = []
    order = [arm.key for arm in arms if arm is not findings.baseline]
    for arm in arms:
        place = order.index(arm.key) if arm.key in order else 0
        mine, row, base = look[arm.key], rows.get(arm.key), arm is findings.baseline
        test = row.test if row else None
        ends = () if not test else (math.nan, math.nan) if test.all_equal else (test.low, test.high)
        found.append(
            {
                "key": arm.key,
                "label": arm.label,
                "colour": [mine.colour, DARK.get(mine.colour, mine.colour)],
                "symbol": "circle" if base else SYMBOLS[place % len(SYMBOLS)],
                "dash": ("solid", "dash", "dot", "dashdot")[place // len(COLOURS) % 4],
                "baseline": base,
                "n": test.n if test else 0,
                "test": [rounded(100 * x) for x in (test.mean, *ends)] if test else [None] * 3,
                "costs": costs_of(row.mean) if row else dict.fromkeys(COSTS),
                "runs": [_run(run, every, True) for run in arm.runs]
                + [_run(run, every, False) for run in arm.unfinished],
            }
        )
    return found


def _run(run: Run, every: int, done: bool) -> dict[str, Any]:
    return {
        "seed": run.seed if run.fold is None else run.seed_name,
        "done": done,
        "test": rounded(100 * run.test_accuracy),
        "costs": costs_of(run.number),
        "val": _curves(run, "val", every),
        "train": _curves(run, "train", every),
        "seconds": _seconds(run, every),
    }


def _curves(run: Run, split: str, every: int) -> dict[str, list[float | None]]:
    accuracy, loss = run.curve(split, "accuracy"), run.curve(split, "loss")
    epochs = [epoch for epoch in sorted({*accuracy, *loss}) if epoch % every == 0 or epoch == 1]
    return {
        "epoch": list(epochs),
        "accuracy": [rounded(100 * accuracy.get(epoch, math.nan), 4) for epoch in epochs],
        "loss": [rounded(loss.get(epoch, math.nan)) for epoch in epochs],
    }


def _seconds(run: Run, every: int) -> dict[int, float | None]:
    """Return {epoch: seconds of training until its end}."""
    seconds = run.curve("train", "seconds")
    total = zip(seconds, accumulate(seconds.values()), strict=True)
    return {epoch: rounded(value, 9) for epoch, value in total if epoch % every == 0 or epoch == 1}


def _reliability(findings: Findings) -> dict[str, list[list[float | None]]]:
    return {
        found.arm.key: [
            [rounded(100 * float(p / n)), rounded(100 * float(right / n)), round(float(n), 1)]
            for p, right, n in zip(found.bins.confidence, found.bins.right, found.bins.count, strict=True)
            if n
        ]
        for found in findings.calibrations
    }


def _settings(arms: Sequence[Arm]) -> dict[str, dict[str, str]]:
    """Return {key: {arm.key: value}} of the settings in which the arms' configs differ."""
    found = {arm.key: settings for arm in arms if (settings := arm.first.settings) is not None}
    keys = [key for key in varying(found.values()) if counts(key, "difference")]
    return {
        plain(key): {arm: plain(config[key]) if key in config else "" for arm, config in found.items()}
        for key in sorted(keys)
    }


class _Images:
    """The images of a page: each is encoded once, until MAX_IMAGE_BYTES are used."""

    def __init__(self, images: TestImages) -> None:
        self.images, self.encoded, self._bytes = images, list[str](), 0
        self._places: dict[tuple[str, str], int] = {}

    def example(self, arm: Arm, example: Example) -> dict[str, Any]:
        """Return an example for the page. image: its place in `encoded`, None if it is not available."""
        return {
            "file": plain(example.id),
            "true": example.true,
            "predicted": example.predicted,
            "probability": rounded(100 * example.confidence, 4),
            "wrong": example.wrong,
            "seeds": example.seeds,
            "image": self._place(arm, example),
        }

    def _place(self, arm: Arm, example: Example) -> int | None:
        key = arm.first.text("data", "fingerprint"), example.id
        if key not in self._places:
            image = self.images.get(arm, example)
            if image is None or self._bytes > MAX_IMAGE_BYTES:
                return None
            content = encode(image)
            self._bytes += len(content)
            self._places[key] = len(self.encoded)
            self.encoded.append(f"data:image/webp;base64,{base64.b64encode(content).decode('ascii')}")
        return self._places[key]


def encode(image: Image) -> bytes:
    """Return an image (H, W, C) uint8 of at most SIDE pixels a side as WebP."""
    small = shrink(image, SIDE)
    content = io.BytesIO()
    Pillow.fromarray(small[..., 0] if small.shape[2] == 1 else small[..., :3]).save(content, "webp", quality=85)
    return content.getvalue()


def _cells(findings: Findings, store: _Images) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Return {arm.key: {"true,predicted": examples}} of the confusion matrices' cells, by class numbers."""
    return {
        arm.key: {
            f"{true},{predicted}": [store.example(arm, e) for e in found] for (true, predicted), found in cells.items()
        }
        for arm, cells in findings.examples.confused
    }
