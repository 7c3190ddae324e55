"""`cnnexp ops`: compare the operations written from their formulas with torch: differences and times."""

import itertools
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cnnexp.commands import arguments
from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED, unknown
from cnnexp.reference import OPERATIONS
from cnnexp.text import align, number

if TYPE_CHECKING:
    from cnnexp.reference.comparison import Row

EXAMPLES = f"""\
difference: the largest from torch's output and gradients, in float64, for inputs of magnitude 1
ms, torch:  forward and backward pass in float32 on one thread of this machine; times: the first over the second

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
MAX_DIFFERENCE = 1e-9  # rounding in float64 stays below it: the sums have some thousand terms
TIMING_SECONDS = 0.03  # the duration of one measurement; the loops take one call, which is longer


def main(argv: list[str]) -> int:
    """Print the comparison; 1 if an operation differs from torch by more than rounding.

    Raises UserError for an unknown name.
    """
    parser = arguments.parser(
        "ops", "Compare the operations that are written here from their formulas with torch.", EXAMPLES
    )
    parser.add_argument("operations", nargs="*", metavar="OPERATION", help="the operations (default: all)")
    parser.add_argument("--json", action="store_true", help="as JSON, times in seconds")
    given = parser.parse_args(argv)
    for name in given.operations:
        if name not in OPERATIONS:
            raise unknown("ops", "operation", name, OPERATIONS)

    import torch

    from cnnexp.optim.lean import spare_compiler
    from cnnexp.reference.catalogue import catalogue
    from cnnexp.reference.comparison import compare
    from cnnexp.training.cpu import name as cpu_name

    spare_compiler()
    torch.set_num_threads(1)
    table = catalogue()
    rows = [row for name in given.operations or OPERATIONS for row in compare(name, table[name], TIMING_SECONDS)]
    if given.json:
        machine = {"device": cpu_name(), "threads": 1, "torch": torch.__version__}
        print(json.dumps({**machine, "rows": [{**row._asdict(), "ratio": row.ratio} for row in rows]}, indent=1))
    else:
        print(f"{as_table(rows)}\n\n{cpu_name()}, one thread, torch {torch.__version__}")
    wrong = [f"{row.operation} ({row.implementation})" for row in rows if not row.difference <= MAX_DIFFERENCE]
    if wrong:
        print(f"cnnexp: differ from torch: {', '.join(wrong)}", file=sys.stderr)
    return EXIT_SOME_FAILED if wrong else EXIT_DONE


def as_table(rows: Sequence["Row"]) -> str:
    """Return a table of the comparison, and a line for each two implementations of one operation."""
    cells = [("operation", "implementation", "difference", "ms", "torch", "times", "on"), *map(_cells, rows)]
    lines = [align(cells, right=(2, 3, 4, 5))]
    for one, other in itertools.pairwise(rows):
        if one.operation == other.operation:
            times = _ratio(one.seconds / other.seconds)
            lines.append(f"{one.operation}: {one.implementation} takes {times} times as long as {other.implementation}")
    return "\n".join(lines)


def _cells(row: "Row") -> tuple[str, ...]:
    times = f"{1e3 * row.seconds:.2f}", f"{1e3 * row.torch_seconds:.2f}", _ratio(row.ratio)
    return row.operation, row.implementation, f"{row.difference:.1e}", *times, row.measured_on


def _ratio(ratio: float) -> str:
    return number(ratio, 0 if ratio >= 100 else 1)
