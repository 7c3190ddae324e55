"""`cnnexp ops`: the operations written from their formulas, held to torch's, and what they cost."""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cnnexp.errors import EXIT_BUG, EXIT_DONE, unknown
from cnnexp.reference import OPERATIONS

if TYPE_CHECKING:
    from cnnexp.reference.comparison import Row

EXAMPLES = f"""\
difference: the largest from torch's output and gradients, in float64, on numbers around 1
ms, torch:  forward and backward in float32 on one thread of this machine; times: the first over the second

operations:
  {", ".join(OPERATIONS[:9])},
  {", ".join(OPERATIONS[9:20])},
  {", ".join(OPERATIONS[20:])}

examples:
  cnnexp ops                             all of them, in a few seconds
  cnnexp ops conv                        nested loops and im2col against torch
  cnnexp ops batch_norm layer_norm --json
  cnnexp train model.impl=im2col optimizer=reference_adam     train with them
"""
LARGEST = 1e-9  # a difference in float64 that rounding cannot make: the sums here are of some thousand numbers
BUDGET = 0.03  # seconds that a time is measured for; the loops take one call, which is longer


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    arguments = argparse.ArgumentParser(
        prog="cnnexp ops",
        description="Compare the operations that are written here from their formulas with torch's.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    arguments.add_argument("operations", nargs="*", metavar="OPERATION", help="which; without any, all")
    arguments.add_argument("--json", action="store_true", help="as JSON, times in seconds")
    return arguments


def main(argv: list[str]) -> int:
    """Print the comparison; 1 if an operation is not torch's to rounding. Raises UserError for an unknown name."""
    given = parser().parse_args(argv)
    for name in given.operations:
        if name not in OPERATIONS:
            raise unknown("ops", "operation", name, OPERATIONS)

    import torch

    from cnnexp.optim.lean import spare_compiler
    from cnnexp.reference.catalogue import catalogue
    from cnnexp.reference.comparison import compare
    from cnnexp.training.device import cpu_name

    spare_compiler()
    torch.set_num_threads(1)
    table = catalogue()
    rows = [row for name in given.operations or OPERATIONS for row in compare(name, table[name], BUDGET)]
    machine = {"device": cpu_name(), "threads": 1, "torch": torch.__version__}
    if given.json:
        print(json.dumps({**machine, "rows": [{**row._asdict(), "ratio": row.ratio} for row in rows]}, indent=1))
    else:
        print(render(rows))
        print(f"\n{machine['device']}, one thread, torch {machine['torch']}")
    wrong = [f"{row.operation} ({row.implementation})" for row in rows if not row.difference <= LARGEST]
    if wrong:
        print(f"cnnexp: not torch's numbers: {', '.join(wrong)}", file=sys.stderr)
    return EXIT_BUG if wrong else EXIT_DONE


def render(rows: Sequence["Row"]) -> str:
    """Lay rows out as a table, and say of ways of one operation how they compare with each other."""
    from cnnexp.text import align

    head = ("operation", "implementation", "difference", "ms", "torch", "times", "on")
    columns = [list(column) for column in zip(head, *map(_cells, rows), strict=True)]
    for number in (2, 3, 4, 5):
        columns[number] = [cell.rjust(max(map(len, columns[number]))) for cell in columns[number]]
    lines = [align(list(zip(*columns, strict=True)))]
    for one, other in itertools.pairwise(rows):
        if one.operation == other.operation:
            times = _short(one.seconds / other.seconds)
            lines.append(f"{one.operation}: {one.implementation} takes {times} times as long as {other.implementation}")
    return "\n".join(lines)


def _cells(row: "Row") -> tuple[str, ...]:
    return (
        row.operation,
        row.implementation,
        f"{row.difference:.1e}",
        f"{1e3 * row.seconds:.2f}",
        f"{1e3 * row.torch_seconds:.2f}",
        _short(row.ratio),
        row.measured_on,
    )


def _short(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.1f}"
