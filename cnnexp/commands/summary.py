"""cnnexp summary: a network's layers, parameters with their arithmetic, cost and memory. Needs no data on disk."""

import argparse
import re
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cnnexp.config import signature
from cnnexp.errors import UserError

if TYPE_CHECKING:
    from cnnexp.models.summary import Row, Summary

EXAMPLES = """MACs: multiplications and additions for one image; field: side of the receptive field in input pixels

examples:
  cnnexp summary model=custom data=imagenette
  cnnexp summary model=custom model.norm=batch --image 1x28x28
  cnnexp summary model=resnet18 --image 3x224x224 --classes 1000
"""


def main(argv: list[str]) -> int:
    """Print the table of the network that the overrides describe. Raises UserError for a wrong request."""
    parser = argparse.ArgumentParser(
        "cnnexp summary",
        description="Show a network: layers, parameters, multiplications, memory. Neither data nor weights are read.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "overrides", nargs="*", help="as for cnnexp train: model=custom data=imagenette model.norm=batch"
    )
    parser.add_argument("--image", help="CxHxW; without it data.size, with 3 channels unless data.channels is a number")
    parser.add_argument("--classes", type=int, default=10, help="number of classes; without it 10")
    arguments = parser.parse_intermixed_args(argv)
    from cnnexp.config import compose as configs

    config = configs.resolve(configs.compose(arguments.overrides))
    image = _image(arguments.image, config["data"])
    signature.check_value("--classes", arguments.classes, signature.Count)
    if "weights" in config["model"]:
        config["model"]["weights"] = "none"
    _check(config, image)

    from cnnexp.models.summary import summarise
    from cnnexp.training.build import build_model

    summary = summarise(build_model(config, image, arguments.classes), image)
    print(render(summary, shutil.get_terminal_size((100, 24)).columns))
    print(f"\nimage {_by(image)}, {arguments.classes} classes\n{totals(summary, config['batch_size'])}")
    return 0


def render(summary: "Summary", columns: int) -> str:
    """Lay the rows out as a table of at most `columns` characters (between 80 and 120), the arithmetic cut to fit."""
    cells = [("layer", "kind", "output", "parameters", "MACs", "field", "arithmetic"), *map(_cells, summary.rows)]
    limits = (27, 17, 14, 11, 8, 5) if columns >= 100 else (22, 13, 11, 11, 7, 5)
    widths = [min(limit, max(len(row[i]) for row in cells)) for i, limit in enumerate(limits)]
    last = min(max(columns, 80), 120) - sum(widths) - 2 * len(widths)
    lines = []
    for row in cells:
        texts = [_cut(text, width) for text, width in zip(row, widths, strict=False)]
        left = [text.ljust(width) for text, width in zip(texts[:3], widths, strict=False)]
        right = [text.rjust(width) for text, width in zip(texts[3:], widths[3:], strict=True)]
        lines.append("  ".join([*left, *right, _cut(row[6], last)]).rstrip())
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def totals(summary: "Summary", batch_size: int) -> str:
    """Say the totals in words; memory is that of float32, without optimiser and gradients."""
    activations = summary.activations * 4 / 2**20
    return (
        f"{summary.parameters:,} parameters, {summary.trainable_parameters:,} of them learn; "
        f"{summary.macs:,} MACs an image\n"
        f"float32: {summary.parameters * 4 / 2**20:.1f} MiB of parameters; layer outputs: "
        f"{activations:.1f} MiB an image, {activations * batch_size:,.0f} MiB a batch of {batch_size}"
    )


def _cells(row: "Row") -> tuple[str, ...]:
    return (
        row.name,
        row.kind,
        "not used" if row.output is None else _by(row.output),
        f"{row.parameters:,}" if row.parameters else "-",
        _short(row.macs) if row.macs else "-",
        "-" if row.receptive_field is None else str(row.receptive_field),
        row.arithmetic.split(" = ")[0] if " = " in row.arithmetic else "",
    )


def _check(config: Mapping[str, Any], image: tuple[int, int, int]) -> None:
    from cnnexp.config import compose as configs

    builder = configs.target("model", config["model"])
    signature.check("model", config["model"], builder, configs.GIVEN["model"])
    further = getattr(builder, "check", None)
    if callable(further):
        further("model", config["model"], {**config, "data": {"size": image[1] if image[1] == image[2] else None}})


def _image(given: str | None, data: Mapping[str, Any]) -> tuple[int, int, int]:
    size, channels = data.get("size"), data.get("channels")
    if given is None and not isinstance(size, int):
        raise UserError("data: does not say how large its images are; give --image, as --image 3x64x64")
    channels = channels if isinstance(channels, int) else 3
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", given or f"{channels}x{size}x{size}")
    if match is None:
        raise UserError(f"--image: given '{given}'; allowed: channels, height and width, as 3x64x64")
    return int(match[1]), int(match[2]), int(match[3])


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _short(number: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 3, 0)] + "..." if width > 3 else ""
