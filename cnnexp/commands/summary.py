"""`cnnexp summary`: a network's layers, parameters with their arithmetic, cost and memory. Needs no data on disk."""

import re
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cnnexp.commands import arguments
from cnnexp.errors import EXIT_DONE, UserError
from cnnexp.text import DASH, align, large, mib, plural, shorten

if TYPE_CHECKING:
    from cnnexp.models.summary import Row, Summary

EXAMPLES = """\
MACs: multiplications and additions for one image; field: side of the receptive field in input pixels

examples:
  cnnexp summary model=custom data=imagenette
  cnnexp summary model=custom model.norm=batch --image 1x28x28
  cnnexp summary model=resnet18 --image 3x224x224 --classes 1000
"""
CLASSES = 10  # of data that is not here
HEADINGS = ("layer", "kind", "output", "parameters", "MACs", "field", "arithmetic")
WIDE, NARROW = (27, 17, 14, 11, 8, 5), (22, 13, 11, 11, 7, 5)  # characters of a column; the last has the rest


def main(argv: list[str]) -> int:
    """Print the table of the network that the overrides describe. Raises UserError for a wrong request."""
    parser = arguments.parser(
        "summary",
        "Show a network: layers, parameters, multiplications, memory. It reads no data and no weights.",
        EXAMPLES,
    )
    parser.add_argument(
        "overrides", nargs="*", help="as for cnnexp train: model=custom data=imagenette model.norm=batch"
    )
    parser.add_argument("--image", help="CxHxW (default: data.size, with 3 channels unless data.channels is a number)")
    parser.add_argument(
        "--classes", type=int, metavar="K", help=f"number of classes (default: the data's, or {CLASSES})"
    )
    arguments.add_config_dir(parser)
    given = parser.parse_intermixed_args(argv)
    from cnnexp.config import checks, signature

    config = arguments.composed(given.overrides, given.config_dir)
    image = _image(given.image, config["data"])
    classes, assumed = (given.classes, "") if given.classes is not None else _classes(config["data"])
    signature.check_value("--classes", classes, signature.Count)
    if config["model"].get("weights", "none") != "none":
        config["model"]["weights"] = "imagenet"  # any that are named: none of them is looked for
    checks.check_node("model", config["model"], {**config, "data": {"size": list(image[1:])}})
    if "weights" in config["model"]:
        config["model"]["weights"] = "none"

    from cnnexp.models.summary import summarise
    from cnnexp.training.build import build_model

    summary = summarise(build_model(config, image, classes), image)
    print(as_table(summary, shutil.get_terminal_size((100, 24)).columns))
    print(f"\nimage {_by(image)}, {plural(classes, 'class')}{assumed}\n{totals(summary, config['batch_size'])}")
    return EXIT_DONE


def as_table(summary: "Summary", columns: int) -> str:
    """Return the layers as a table of at most `columns` characters (between 80 and 120); long cells are shortened."""
    limits = WIDE if columns >= 100 else NARROW
    cells = [[*map(shorten, row[:-1], limits), row[-1]] for row in (HEADINGS, *map(_cells, summary.rows))]
    used = sum(max(map(len, column)) + 2 for column in list(zip(*cells, strict=True))[:-1])
    rest = min(max(columns, 80), 120) - used
    head, *lines = align([[*row[:-1], shorten(row[-1], rest)] for row in cells], right=(3, 4, 5)).splitlines()
    return "\n".join([head, "-" * max(map(len, [head, *lines])), *lines])


def _cells(row: "Row") -> tuple[str, ...]:
    return (
        row.name,
        row.kind,
        "not used" if row.output is None else _by(row.output),
        f"{row.parameters:,}" if row.parameters else DASH,
        large(row.macs) if row.macs else DASH,
        DASH if row.receptive_field is None else str(row.receptive_field),
        row.arithmetic.split(" = ")[0] if " = " in row.arithmetic else "",
    )


def totals(summary: "Summary", batch_size: int) -> str:
    """Return the totals in words; memory is that of float32, without optimiser and gradients."""
    activations = summary.activations * 4
    return (
        f"{summary.parameters:,} parameters, {summary.trainable_parameters:,} of them trainable; "
        f"{summary.macs:,} MACs per image\n"
        f"float32: {mib(summary.parameters * 4)} of parameters; layer outputs: "
        f"{mib(activations)} per image, {mib(activations * batch_size)} per batch of {batch_size}"
    )


def _image(given: str | None, data: Mapping[str, Any]) -> tuple[int, int, int]:
    from cnnexp.config import checks
    from cnnexp.config.sizes import height_width

    own = getattr(checks.target("data", data), "image", None)
    image = own(data) if own else {}
    sides, channels = height_width(data.get("size") or image.get("size")), data.get("channels", image.get("channels"))
    if given is None and sides is None and data.get("size"):
        raise UserError(f"data.size: given {data['size']}; allowed: pixels, or [height, width]")
    if given is None and sides is None:
        raise UserError("data: has no image size; give --image, such as --image 3x64x64")
    channels = channels if isinstance(channels, int) else 3
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", given or "x".join(map(str, (channels, *(sides or ())))))
    if match is None:
        raise UserError(f"--image: given '{given}'; allowed: channels, height and width, such as 3x64x64")
    return int(match[1]), int(match[2]), int(match[3])


def _classes(data: Mapping[str, Any]) -> tuple[int, str]:
    """Return the number of classes of a `data` node without preparing it, and a remark if it is not known."""
    from cnnexp.config import checks

    listed = getattr(checks.target("data", data), "classes", None)
    try:
        if callable(listed):
            return len(listed(data)), ""
    except UserError:  # the images are not here
        pass
    return CLASSES, " (assumed: the data is not read; --classes K sets another number)"


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
