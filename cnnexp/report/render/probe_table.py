"""The table of the probes: the worst layer of each arm at the end of the run."""

import statistics
from collections.abc import Callable, Mapping, Sequence

from cnnexp.pages.tables import Column, Table
from cnnexp.report.analysis.diagnostics import NOTES
from cnnexp.report.read.probes import Probes, Series
from cnnexp.text import DASH

Worst = tuple[float, str]  # a number and the layer that has it, "" without any layer


def _last(series: Series) -> dict[str, float]:
    return {layer: list(steps.values())[-1] for layer, steps in series.items()}


def _largest(values: Mapping[str, float]) -> Worst:
    layer = max(values, key=lambda name: values[name], default="")
    return values.get(layer, 0.0), layer


def _dead_percent(probes: Probes) -> Worst:
    share, layer = _largest(_last(probes.dead_units()))
    return 100 * share, layer


def _gradient_ratio(probes: Probes) -> Worst:
    ratios = _last(probes.gradient_ratios())
    layer = min(ratios, key=lambda name: ratios[name], default="")
    return ratios.get(layer, 0.0), layer


def _median_update(probes: Probes) -> str:
    updates = _last(probes.updates())
    return f"{statistics.median(updates.values()):.1e}" if updates else DASH


def _batch_norm(column: str) -> Callable[[Probes], Worst]:
    return lambda probes: _largest(_last(probes.series("batch_norm", column)))


def _with_layer(form: str) -> Callable[[Worst], str]:
    return lambda worst: f"{worst[0]:{form}} ({worst[1]})" if worst[1] else DASH


COLUMNS: list[Column[Probes]] = [
    Column("Arm", "", lambda probes: probes.arm.label, kind="label"),
    Column("n", "", lambda probes: probes.seeds),
    Column("Dead units (%)", "", _dead_percent, _with_layer(".0f")),
    Column("Smallest / largest gradient", "", _gradient_ratio, _with_layer(".2g")),
    Column("Median update", "", _median_update),
    Column("Mean shift", "", _batch_norm("mean_shift"), _with_layer(".2f")),
    Column("Variance factor", "", _batch_norm("variance_ratio"), _with_layer(".2f")),
]


def diagnostics(found: Sequence[Probes]) -> Table[Probes]:
    """Return an arm a row: the worst layer at the end of the run by each probe."""
    return Table(COLUMNS, found, NOTES)
