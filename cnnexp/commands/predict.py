"""`cnnexp predict`: what a trained model sees in image files."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED, UserError
from cnnexp.text import visible

if TYPE_CHECKING:
    from cnnexp.training.inference import TrainedModel

EXAMPLES = """\
examples:
  cnnexp predict outputs/runs/NAME photo.jpg
  cnnexp predict outputs/runs/NAME photos/ --top 1 --format csv > named.csv
"""
Answer = tuple[Path, list[tuple[str, float]]]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    arguments = argparse.ArgumentParser(
        prog="cnnexp predict",
        description="Name what is in images: the likeliest classes and their probabilities.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("run", metavar="RUN", help="a run directory, or a checkpoint in it")
    arguments.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="image files, and folders of them")
    arguments.add_argument("--top", type=int, default=3, help="how many classes; without it 3")
    arguments.add_argument("--format", choices=("table", "json", "csv"), default="table")
    arguments.add_argument("--batch-size", type=int, default=256)
    arguments.add_argument("--device", default="auto", help="cpu, cuda, mps, cuda:1; without it the fastest")
    arguments.add_argument("--allow", action="append", default=[], metavar="TARGET", help="let its config build this")
    return arguments


def main(argv: list[str]) -> int:
    """Print the likeliest classes of each image; 3 if a file in a folder cannot be read.

    Raises UserError, and prints nothing else, if a file that was named cannot be read.
    """
    given = parser().parse_intermixed_args(argv)
    for name in ("top", "batch_size"):
        if getattr(given, name) < 1:
            raise UserError(f"--{name.replace('_', '-')}: given {getattr(given, name)}; allowed: a whole number >= 1")
    files = find_files(given.images)
    from cnnexp.training import device
    from cnnexp.training import inference as trained

    model = trained.load(given.run, given.device, given.allow)
    device.set_up(model.device)
    answers: list[Answer] = []
    unreadable: list[str] = []
    for paths, pixels in _batches(model, files, given.batch_size, unreadable):
        for path, probabilities in zip(paths, model.predict(pixels, given.batch_size), strict=True):
            likeliest = (-probabilities).argsort(kind="stable")[: given.top]
            answers.append((path, [(model.classes[k], float(probabilities[k])) for k in likeliest]))
    print({"table": as_table, "json": as_json, "csv": as_csv}[given.format](answers), end="")
    for message in unreadable:
        print(f"cnnexp: {visible(message)}", file=sys.stderr)
    return EXIT_SOME_FAILED if unreadable else EXIT_DONE


def find_files(given: list[Path]) -> list[tuple[Path, bool]]:
    """Return the files to read, and whether each was named (or else found in a folder).

    Raises UserError for what does not exist, and for a folder without images.
    """
    from cnnexp.data.tree import find_images

    files: list[tuple[Path, bool]] = []
    for path in given:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        if path.is_dir():
            files += [(file.path, False) for file in find_images(path, "", "", 0)]
        else:
            files.append((path, True))
    return files


def _batches(
    model: "TrainedModel", files: list[tuple[Path, bool]], batch_size: int, unreadable: list[str]
) -> Iterator[tuple[list[Path], list[Any]]]:
    """Yield paths and their pixels (H, W, C) uint8, at most `batch_size`; note what cannot be read in `unreadable`."""
    from tqdm import tqdm

    paths: list[Path] = []
    pixels: list[Any] = []
    for path, named in tqdm(files, unit="img", file=sys.stderr, disable=None, leave=False):
        try:
            pixels.append(model.transform.pixels(path))
            paths.append(path)
        except UserError as error:
            if named:
                raise
            unreadable.append(str(error))
        if len(paths) == batch_size:
            yield paths, pixels
            paths, pixels = [], []
    if paths:
        yield paths, pixels


def as_table(answers: list[Answer]) -> str:
    """Return a line an image, the likeliest class first."""
    from cnnexp.text import align, plain

    rows = [[plain(path), *(f"{plain(name)} {p:.1%}" for name, p in best)] for path, best in answers]
    return align(rows) + "\n" if rows else ""


def as_json(answers: list[Answer]) -> str:
    """Return [{path, predictions: [{class, probability}]}]."""
    content = [
        {"path": str(path), "predictions": [{"class": name, "probability": p} for name, p in best]}
        for path, best in answers
    ]
    return json.dumps(content, indent=1) + "\n"


def as_csv(answers: list[Answer]) -> str:
    """Return a row an image: path, class_1, probability_1, class_2, ..."""
    from cnnexp.text import csv_cell

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    most = max((len(best) for _, best in answers), default=0)
    writer.writerow(["path", *(f"{what}_{k}" for k in range(1, most + 1) for what in ("class", "probability"))])
    for path, best in answers:
        writer.writerow([csv_cell(str(path)), *(cell for name, p in best for cell in (csv_cell(name), f"{p:.6f}"))])
    return text.getvalue()
