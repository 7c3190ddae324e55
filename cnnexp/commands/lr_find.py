"""`cnnexp lr-find`: draw the loss against the learning rate, and suggest one. Its help imports nothing heavy."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cnnexp.commands import arguments
from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED, UserError
from cnnexp.text import csv_text, in_shell, visible

if TYPE_CHECKING:
    from cnnexp.training.lr_find import RangeTest

EXAMPLES = """\
The learning rate grows from step to step. The suggestion is where the loss falls fastest; it is a start, not an
optimum. A schedule that begins with a small rate, such as onecycle, can have a higher one. No test image is read.

examples:
  cnnexp lr-find model=custom
  cnnexp lr-find model=custom optimizer=momentum batch_size=32
  cnnexp lr-find model=resnet18 model.freeze=backbone --seeds 1
"""
MOST = 100.0
FEWEST_STEPS, MOST_STEPS = 40, 100_000


def main(argv: list[str]) -> int:
    """Make the test, write a figure and a table, and print the suggestion. Raises UserError for a wrong request."""
    parser = arguments.parser("lr-find", "Draw the training loss against the learning rate, and suggest one.", EXAMPLES)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for cnnexp train: model=..., data=...")
    parser.add_argument("--low", type=float, default=1e-6, help="the first rate (default: 1e-6)")
    parser.add_argument("--high", type=float, default=10.0, help="the last rate, if the loss allows (default: 10)")
    steps, seeds = arguments.whole(FEWEST_STEPS, MOST_STEPS), arguments.whole(1, 100)
    parser.add_argument("--steps", type=steps, default=150, metavar="N", help="training steps of a seed (default: 150)")
    parser.add_argument("--seeds", type=seeds, default=3, metavar="N", help="how often it is made (default: 3)")
    parser.add_argument("--out", type=Path, default=Path("outputs/lr-find"), metavar="DIR", help="default: %(default)s")
    arguments.add_config_dir(parser)
    given = parser.parse_intermixed_args(argv)
    if not 0 < given.low < given.high <= MOST:
        raise UserError(f"--low, --high: given {given.low:g} and {given.high:g}; allowed: 0 < low < high <= {MOST:g}")
    from cnnexp.config import checks
    from cnnexp.training import dry_run
    from cnnexp.training.lr_find import range_test

    config = arguments.composed(given.overrides, given.config_dir)
    checks.check(config)
    dry_run.before_data(config)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    found = range_test(config, given.low, given.high, given.steps, given.seeds, say)
    write(found, given.out)
    print(visible(given.out / "lr_find.png"))
    if found.suggested is None:
        print("no suggestion: the loss falls nowhere; try a lower --low, more --steps, or a larger batch_size")
        return EXIT_SOME_FAILED
    flags = [f"--config-dir={folder}" for folder in given.config_dir]
    lr = f"optimizer.lr={float(f'{found.suggested:.2g}')!r}"
    print(f"lowest loss at {found.lowest:.2g}; it falls fastest at {found.suggested:.2g}")
    print(f"suggested: {in_shell(['cnnexp', 'train', *flags, *given.overrides, lr])}")
    return EXIT_DONE


def write(found: "RangeTest", out: Path) -> None:
    """Write lr_find.png, .svg, .pdf and .csv. Raises UserError if a file cannot be written."""
    from cnnexp import storage
    from cnnexp.pages.style import BASELINE, COLOURS, GREY, canvas, finish, plain_numbers, style

    with style():
        figure, (axis,) = canvas(7.2, 3.6)
        for losses in found.losses:
            axis.plot(found.rates, losses, color=GREY, linewidth=0.8)
        axis.plot(found.rates, found.smooth, color=COLOURS[0], linewidth=2, label="mean, smoothed")
        if found.suggested is not None:
            label = f"suggested: {found.suggested:.2g}"
            axis.axvline(found.suggested, color=COLOURS[1], linewidth=1.5, label=label)
            axis.axvline(found.lowest, color=BASELINE, linewidth=1, linestyle=":", label=f"lowest: {found.lowest:.2g}")
        axis.set_xscale("log")
        plain_numbers(axis.xaxis)
        axis.set_xlabel("learning rate")
        axis.set_ylabel("training loss (nats)")
        axis.legend()
        drawn = finish(figure, "lr_find", "")
    header = ["learning_rate", *(f"loss_{index}" for index in range(len(found.losses))), "smoothed"]
    table = csv_text([header, *zip(found.rates, *found.losses, found.smooth, strict=True)])
    storage.make_folder(out)
    for ending, content in (("png", drawn.png), ("svg", drawn.svg), ("pdf", drawn.pdf), ("csv", table.encode())):
        storage.write_bytes(out / f"lr_find.{ending}", content)
