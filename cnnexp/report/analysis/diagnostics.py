"""What the probes of a study tell, in words: where a threshold is crossed, by which layers, and since when."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cnnexp.report.read.probed import Probed, Series

# Where something is worth a sentence. None of these is a law: each says where it is from, and the page prints it.
DEAD = 0.1  # share of a layer's units
UPDATE = (1e-5, 1e-1)  # |change| / |weights| of a step
USUAL_UPDATE = 1e-3
PER_LAYER = 1e-3  # smallest over largest gradient per weight, of the layers
SPIKE = 10.0  # times the median norm of the run
SHIFT, FACTOR = 0.5, 2.0  # running standard deviations; variances
NOTES = (
    f"Dead units: more than {100 * DEAD:.0f} % of a layer. A choice: a tenth of it is computed and never used. At too "
    "high a learning rate 40 % of a network can be dead (Stanford's CS231n notes, Neural Networks 1). Few validation "
    "images find more units dead than there are.",
    f"Updates: a step that moves a layer by less than {UPDATE[0]:g} or more than {UPDATE[1]:g} of its norm, a hundred "
    f"times off the {USUAL_UPDATE:g} of CS231n's rough heuristic (Neural Networks 3).",
    f"Gradients: a layer with less than {PER_LAYER:g} of the largest gradient per weight. A choice: they should be "
    "alike in all layers (Glorot and Bengio 2010), and this is what five sigmoids in a row take away, of a slope "
    "of at most 1/4 each.",
    f"Spikes: a gradient norm above {SPIKE:g} times the run's median, the top of the range of thresholds, around the "
    "average norm, that Pascanu, Mikolov and Bengio (2013) found to work for clipping.",
    f"Batch norm: means of the validation split more than {SHIFT:g} running standard deviations from the running ones, "
    f"or variances a factor of {FACTOR:g} apart. A choice: then prediction normalises with other numbers than it "
    "meets, as happens behind dropout (Li et al. 2019, variance shift).",
    "Each look: gradients of one training step, before clipping; activations, dead units and batch norm on clean "
    "validation images. A unit is a channel after a convolution, a number after a fully connected layer; it is dead if "
    "it is zero for the whole validation split. Values are means over the seeds.",
)
FIGURES = ("steps", "gradients", "dead_units", "batch_norm", "activations")  # in the order of the page
NAMED, LISTED = 3, 12  # layers that have a sentence each; those that one more lists


@dataclass(frozen=True)
class Crossing:
    """A layer that crosses a threshold: since which epoch to the end, or (not lasting) in which it was the furthest."""

    layer: str
    epoch: int
    value: float
    lasting: bool


def crossings(
    seen: Probed, series: Series, crossed: Callable[[float], bool], excess: Callable[[float], float]
) -> list[Crossing]:
    """Return the layers that cross a threshold, those that do at the end first, the furthest first. excess: how far."""
    found = []
    for layer, steps in series.items():
        over = [step for step in steps if crossed(steps[step])]
        if not over:
            continue
        last = list(steps)[-1]
        since = last
        for step in reversed(steps):
            if step not in over:
                break
            since = step
        lasting = last in over
        step = since if lasting else max(over, key=lambda s: excess(steps[s]))
        found.append(Crossing(layer, seen.epoch_number(step), steps[last if lasting else step], lasting))
    return sorted(found, key=lambda c: (not c.lasting, -excess(c.value)))


def sentences(seen: Probed) -> list[str]:
    """Say where an arm crosses a threshold, and what its probes could not see; [] if there is nothing to say."""
    kept = seen.arm.first.text("features") == "computed once"
    told = ["Its features were computed once, so the probes see the head alone."] if kept else []
    return [*told, *_dead(seen), *_gradients(seen), *_updates(seen), *_batch_norm(seen)]


def _told(found: Sequence[Crossing], words: Callable[[Crossing], str]) -> list[str]:
    """Return a sentence for each of the first crossings, and how many layers more there are."""
    told, rest = [words(c) for c in found[:NAMED]], [c.layer for c in found[NAMED:]]
    if rest:
        names = ", ".join(rest[:LISTED]) + ", ..." * (len(rest) > LISTED)
        told.append(f"The same threshold is crossed by {len(rest)} more: {names}.")
    return told


def _told_of(crossing: Crossing, words: str, beyond: str, value: str) -> str:
    """Return the sentence "conv3: more than 10 % of its units are dead from epoch 6, 41 % at the end".

    words: with a place for how much. beyond: the threshold in words, which holds in all of the epochs. value: of the
    end, or of the epoch that was the furthest.
    """
    if crossing.lasting:
        return f"{crossing.layer}: {words.format(beyond)} from epoch {crossing.epoch}, {value} at the end"
    return f"{crossing.layer}: {words.format(value)} in epoch {crossing.epoch}, no longer {beyond} at the end"


def _dead(seen: Probed) -> list[str]:
    series = {seen.label(name): s for name, s in seen.series("dead_units", "dead", per="units").items()}
    found = crossings(seen, series, lambda share: share > DEAD, lambda share: share)
    words, beyond = "{} of its units are dead", f"more than {100 * DEAD:.0f} %"
    return _told(found, lambda c: _told_of(c, words, beyond, f"{100 * c.value:.0f} %") + ".")


def _gradients(seen: Probed) -> list[str]:
    per_weight = seen.per_weight()
    tops: dict[int, tuple[float, str]] = {}
    for layer, steps in per_weight.items():
        for step, value in steps.items():
            tops[step] = max(tops.get(step, (0.0, layer)), (value, layer))
    ratios = {
        layer: {step: value / tops[step][0] for step, value in steps.items() if tops[step][0] > 0}
        for layer, steps in per_weight.items()
    }
    found = crossings(seen, ratios, lambda ratio: ratio < PER_LAYER, lambda ratio: -ratio)
    words, beyond = "its gradient per weight is {} of the largest", f"less than {_fraction(PER_LAYER)}"
    told = _told(found, lambda c: _told_of(c, words, beyond, _fraction(c.value)) + ": it vanishes.")
    infinite = {layer: steps for layer, steps in seen.series("gradient", "not_finite").items() if any(steps.values())}
    for layer, steps in infinite.items():
        first = next(step for step, count in steps.items() if count)
        told.append(f"{layer}: gradients that are not finite in epoch {seen.epoch_number(first)}.")
    return told + _spike(seen)


def _fraction(ratio: float) -> str:
    return f"1 / {1 / ratio:,.0f}" if ratio > 0 else "0"


def _spike(seen: Probed) -> list[str]:
    norms = seen.total_norm()
    if not norms:
        return []
    median, step = statistics.median(norms.values()), max(norms, key=lambda s: norms[s])
    if not norms[step] > SPIKE * median:
        return []
    return [
        f"The gradient's norm is {norms[step]:.3g} in epoch {seen.epoch_number(step)}, "
        f"{norms[step] / median:.0f} times the run's median."
    ]


def _updates(seen: Probed) -> list[str]:
    low, high = UPDATE
    series, words = seen.updates(), "a step moves it by {} of its norm"
    slow = crossings(seen, series, lambda ratio: ratio < low, lambda ratio: -ratio)
    fast = crossings(seen, series, lambda ratio: ratio > high, lambda ratio: ratio)
    return [
        *_told(slow, lambda c: _told_of(c, words, f"less than {low:g}", f"{c.value:.1e}") + ": it hardly learns."),
        *_told(fast, lambda c: _told_of(c, words, f"more than {high:g}", f"{c.value:.2g}") + ": the steps are large."),
    ]


def _batch_norm(seen: Probed) -> list[str]:
    means = "the means it sees are {} standard deviations from its running ones"
    variances = "the variances it sees are a factor of {} from its running ones"
    shift = crossings(seen, seen.series("batch_norm", "mean_shift"), lambda x: x > SHIFT, lambda x: x)
    factor = crossings(seen, seen.series("batch_norm", "variance_ratio"), lambda x: x > FACTOR, lambda x: x)
    return [
        *_told(shift, lambda c: _told_of(c, means, f"more than {SHIFT:g}", f"{c.value:.2g}") + "."),
        *_told(factor, lambda c: _told_of(c, variances, f"more than {FACTOR:g}", f"{c.value:.2g}") + "."),
    ]
