"""Which layers cross a threshold of the probes, and since when: in words."""

import itertools
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from cnnexp.report.read.probes import Probes, Series

# Thresholds for a sentence. None of them is a law: each note gives its source, and the page prints the notes.
DEAD = 0.1  # share of a layer's units
MIN_UPDATE, USUAL_UPDATE, MAX_UPDATE = 1e-5, 1e-3, 1e-1  # |change| / |weights| of a step
MIN_GRADIENT_RATIO = 1e-3  # gradient per weight, over the largest of all layers
SPIKE = 10.0  # times the median norm of the run
SHIFT, FACTOR = 0.5, 2.0  # running standard deviations; variances
NOTES = (
    f"Dead units: more than {100 * DEAD:.0f} % of a layer. A choice: a tenth of it is computed and never used. At too "
    "high a learning rate 40 % of a network can be dead (Stanford's CS231n notes, Neural Networks 1). With few "
    "validation images, more units look dead than are.",
    f"Updates: a step that changes a layer by less than {MIN_UPDATE:g} or more than {MAX_UPDATE:g} of its norm, a "
    f"hundred times off the {USUAL_UPDATE:g} of CS231n's rough heuristic (Neural Networks 3).",
    f"Gradients: a layer with less than {MIN_GRADIENT_RATIO:g} of the largest gradient per weight. A choice: they "
    "should be similar in all layers (Glorot and Bengio 2010), and five sigmoids in a row, with a slope of at most 1/4 "
    "each, shrink a gradient this much.",
    f"Spikes: a gradient norm above {SPIKE:g} times the run's median, the top of the range of thresholds, around the "
    "average norm, that Pascanu, Mikolov and Bengio (2013) found to work for clipping.",
    f"Batch norm: means of the validation split more than {SHIFT:g} running standard deviations from the running ones, "
    f"or variances that differ by a factor of more than {FACTOR:g}. A choice: prediction then normalises with numbers "
    "that do not fit its inputs, as happens after dropout (Li et al. 2019, variance shift).",
    "At each epoch or step that is probed: gradients of one training step, before clipping; activations, dead units "
    "and batch norm on clean validation images. A unit is a channel after a convolution, a number after a fully "
    "connected layer; it is dead if it is zero for the complete validation split. Values are means over the runs.",
)
FIGURES = ("steps", "gradients", "dead_units", "batch_norm", "activations")  # in the order of the page
MAX_SENTENCES, MAX_LISTED = 3, 12  # layers that have a sentence each; those that one more lists


@dataclass(frozen=True)
class Check:
    """A threshold, crossed by values above it, or below it. words: "{}" stands for how much; value: how it is shown."""

    series: Callable[[Probes], Series]
    limit: float
    words: str
    value: Callable[[float], str]
    above: bool = True
    ending: str = ""

    def excess(self, value: float) -> float:
        """Return a number that is above 0 beyond the threshold, and rises with the distance from it."""
        return value - self.limit if self.above else self.limit - value

    def sentence(self, layer: str, epoch: int, value: float, lasting: bool) -> str:
        """Return "conv3: more than 10 % of its units are dead from epoch 6, 41 % at the end."."""
        beyond, shown = f"{'more' if self.above else 'less'} than {self.value(self.limit)}", self.value(value)
        if lasting:
            return f"{layer}: {self.words.format(beyond)} from epoch {epoch}, {shown} at the end{self.ending}."
        return f"{layer}: {self.words.format(shown)} in epoch {epoch}, no longer {beyond} at the end{self.ending}."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _fraction(ratio: float) -> str:
    return f"1 / {1 / ratio:,.0f}" if ratio > 0 else "0"


def _batch_norm(column: str) -> Callable[[Probes], Series]:
    return lambda probes: probes.series("batch_norm", column)


GRADIENTS = Check(Probes.gradient_ratios, MIN_GRADIENT_RATIO, "its gradient per weight is {} of the largest", _fraction,
                  above=False, ending=": it vanishes")  # fmt: skip
DEAD_UNITS = Check(Probes.dead_units, DEAD, "{} of its units are dead", _percent)
UPDATES_AND_BATCH_NORM = (
    Check(Probes.updates, MIN_UPDATE, "a step changes it by {} of its norm", "{:.2g}".format, above=False,
          ending=": it hardly learns"),
    Check(Probes.updates, MAX_UPDATE, "a step changes it by {} of its norm", "{:.2g}".format,
          ending=": the steps are large"),
    Check(_batch_norm("mean_shift"), SHIFT, "the validation means are {} standard deviations from its running ones",
          "{:.2g}".format),
    Check(_batch_norm("variance_ratio"), FACTOR, "the validation variances differ from its running ones by a factor of "
          "{}", "{:.2g}".format),
)  # fmt: skip


def sentences(probes: Probes) -> list[str]:
    """Say where an arm crosses a threshold, and what its probes cannot measure; [] if there is nothing to say."""
    computed_once = probes.arm.first.text("features") == "computed once"
    said = ["Its features were computed once, so the probes measure only the head."] if computed_once else []
    said += [*_of_check(probes, DEAD_UNITS), *_of_check(probes, GRADIENTS), *_not_finite(probes), *_spike(probes)]
    return said + [sentence for check in UPDATES_AND_BATCH_NORM for sentence in _of_check(probes, check)]


def _of_check(probes: Probes, check: Check) -> list[str]:
    """Return a sentence for each of the first layers that cross a threshold, and the names of the others.

    First those that cross it at the end, with the epoch since when; then the others, with the epoch of the largest
    excess. Of each group, the furthest first.
    """
    found = []
    for layer, steps in check.series(probes).items():
        beyond = [step for step, value in steps.items() if check.excess(value) > 0]
        if not beyond:
            continue
        last = max(steps)
        if lasting := beyond[-1] == last:
            *_, step = itertools.takewhile(beyond.__contains__, reversed(steps))
        else:
            step = max(beyond, key=lambda s: check.excess(steps[s]))
        value = steps[last if lasting else step]
        sentence = check.sentence(layer, probes.epoch_number(step), value, lasting)
        found.append((not lasting, -check.excess(value), layer, sentence))
    found.sort(key=lambda crossing: crossing[:2])
    rest = [layer for _, _, layer, _ in found[MAX_SENTENCES:]]
    more = f"{len(rest)} more: {', '.join(rest[:MAX_LISTED])}{', ...' * (len(rest) > MAX_LISTED)}"
    said = [sentence for *_, sentence in found[:MAX_SENTENCES]]
    return [*said, f"The same threshold is crossed by {more}."] if rest else said


def _not_finite(probes: Probes) -> list[str]:
    firsts = {
        layer: next((step for step, count in steps.items() if count), None)
        for layer, steps in probes.series("gradient", "not_finite").items()
    }
    return [
        f"{layer}: gradients that are not finite in epoch {probes.epoch_number(step)}."
        for layer, step in firsts.items()
        if step is not None
    ]


def _spike(probes: Probes) -> list[str]:
    norms = probes.total_norm()
    if not norms:
        return []
    median, step = statistics.median(norms.values()), max(norms, key=lambda s: norms[s])
    if not norms[step] > SPIKE * median:
        return []
    times = f"{norms[step] / median:.0f} times the run's median"
    return [f"The gradient's norm is {norms[step]:.3g} in epoch {probes.epoch_number(step)}, {times}."]
