"""`cnnexp predict`: the likeliest classes of image files, by a trained model."""

import json
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnexp.commands import arguments
from cnnexp.errors import EXIT_DONE, EXIT_REQUEST, EXIT_SOME_FAILED, UserError
from cnnexp.process.limits import cores
from cnnexp.text import align, csv_text, plain, visible

if TYPE_CHECKING:
    from cnnexp.data.image_files import Kinds
    from cnnexp.data.images import Pixels
    from cnnexp.training.inference import TrainedModel
EXAMPLES = """\
examples:
  cnnexp predict latest photo.jpg
  cnnexp predict outputs/runs/NAME photos/ --top 1 --format csv > named.csv
"""
Prediction = tuple[Path, list[tuple[str, float]]]  # an image, and classes with their probabilities, likeliest first


def main(argv: list[str]) -> int:
    """Print the likeliest classes of each image; 3 if some files cannot be read, 2 if none can.

    What is left out of a folder is counted on standard error: HEIC and raw files, which are images, are not read.
    """
    parser = arguments.parser("predict", "Predict the likeliest classes of images, and their probabilities.", EXAMPLES)
    parser.add_argument("run", metavar="RUN", help=f"{arguments.RUN}; or a checkpoint in it")
    parser.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="image files, and folders of them")
    parser.add_argument("--top", type=arguments.whole(1), default=3, help="number of classes (default: 3)")
    parser.add_argument("--format", choices=("table", "json", "csv"), default="table")
    parser.add_argument("--batch-size", type=arguments.whole(1), default=256)
    arguments.add_device(parser, "auto", "default: the fastest")
    given = parser.parse_intermixed_args(argv)
    files, others = find_files(given.images)
    from cnnexp.data.decode import HEIC, RAW
    from cnnexp.data.image_files import left_out
    from cnnexp.training import device, inference

    model = inference.load(given.run, given.device, given.allow)
    device.set_up(model.device)
    unreadable: list[str] = []
    write, count = {"table": as_table, "json": as_json, "csv": as_csv}[given.format], 0
    for paths, pixels in _batches(model, files, given.batch_size, unreadable):
        predictions: list[Prediction] = []
        for path, probabilities in zip(paths, model.predict(pixels, given.batch_size), strict=True):
            likeliest = (-probabilities).argsort(kind="stable")[: given.top]
            predictions.append((path, [(model.classes[k], float(probabilities[k])) for k in likeliest]))
        print(write(predictions, first=count == 0), end="", flush=True)
        count += len(predictions)
    if count and given.format == "json":
        print("\n]")
    for message in [*unreadable, *(f"{folder}: {left_out(kinds)}" for folder, kinds in others)]:
        print(f"cnnexp: {visible(message)}", file=sys.stderr)
    failed = unreadable or any(kind in kinds for _, kinds in others for kind in (*HEIC, *RAW))
    return EXIT_REQUEST if not count else EXIT_SOME_FAILED if failed else EXIT_DONE


def find_files(given: list[Path]) -> tuple[list[Path], list[tuple[Path, "Kinds"]]]:
    """Return the files to read, and the kinds of other files in each folder that has some.

    The files are those that the user named, and the images in the folders.
    Raises UserError for what does not exist, and for a folder without images.
    """
    from cnnexp.data.image_files import find_images

    files: list[Path] = []
    others: list[tuple[Path, Kinds]] = []
    for path in given:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        if path.is_dir():
            found, kinds = find_images(path)
            files += found
            others += [(path, kinds)] if kinds else []
        else:
            files.append(path)
    return files, others


def _batches(
    model: "TrainedModel", files: list[Path], batch_size: int, unreadable: list[str]
) -> Iterator[tuple[list[Path], list[Any]]]:
    """Yield paths and pixels (H, W, C) uint8, at most `batch_size`; add the errors to `unreadable`.

    Threads decode the next images meanwhile: so many that memory stays the same for any number of files.
    """
    from tqdm import tqdm

    from cnnexp.data.decode import warnings_that_name_images

    paths: list[Path] = []
    pixels: list[Any] = []
    with warnings_that_name_images(), ThreadPoolExecutor(min(32, cores())) as pool:
        coming = _decoded(model, files, pool, 2 * batch_size)
        bar = tqdm(coming, total=len(files), unit="img", file=sys.stderr, disable=None, leave=False)
        try:
            for path, decoded in bar:
                try:
                    pixels.append(decoded.result())
                    paths.append(path)
                except UserError as error:
                    unreadable.append(str(error))
                if len(paths) == batch_size:
                    yield paths, pixels
                    paths, pixels = [], []
        finally:
            pool.shutdown(cancel_futures=True)
    if paths:
        yield paths, pixels


def _decoded(
    model: "TrainedModel", files: list[Path], pool: ThreadPoolExecutor, ahead: int
) -> Iterator[tuple[Path, "Future[Pixels]"]]:
    """Yield files with their pixels to come, in order, at most `ahead` of them decoded before they are needed."""
    pending: deque[tuple[Path, Future[Pixels]]] = deque()
    for path in files:
        pending.append((path, pool.submit(model.transform.decoded, path)))
        if len(pending) > ahead:
            yield pending.popleft()
    yield from pending


def as_table(predictions: list[Prediction], first: bool) -> str:
    """Return a line per image, the likeliest class first."""
    rows = [[plain(path), *(f"{plain(name)} {p:.1%}" for name, p in best)] for path, best in predictions]
    return align(rows) + "\n" * bool(rows)


def as_json(predictions: list[Prediction], first: bool) -> str:
    """Return items of [{path, predictions: [{class, probability}]}], without the end of the list."""
    content = [
        {"path": str(path), "predictions": [{"class": name, "probability": p} for name, p in best]}
        for path, best in predictions
    ]
    return ("" if first else ",") + json.dumps(content, indent=1).removesuffix("\n]")[0 if first else 1 :]


def as_csv(predictions: list[Prediction], first: bool) -> str:
    """Return a row per image: path, class_1, probability_1, class_2, ... first: with the header."""
    most = max(len(best) for _, best in predictions) if first else 0
    header = ["path", *(f"{what}_{k}" for k in range(1, most + 1) for what in ("class", "probability"))]
    rows = [[str(path), *(cell for name, p in best for cell in (name, f"{p:.6f}"))] for path, best in predictions]
    return csv_text([header, *rows] if first else rows)
