"""Two single runs, compared on their test images: one seed gives no spread over seeds."""

from cnnexp.report.analysis.statistics import McNemar, image_interval, mcnemar, p_value
from cnnexp.report.read.predictions import rows_of
from cnnexp.report.read.study import Arm
from cnnexp.text import plural


def same_images_test(arm: Arm, base: Arm) -> McNemar | None:
    """Return McNemar's exact test of two arms that share one seed; None if their test images differ."""
    mine, theirs = ({r.unit: r for r in a.runs} for a in (arm, base))
    seed = min(mine.keys() & theirs.keys())
    first, second = mine[seed].predictions, theirs[seed].predictions
    rows = rows_of(first.ids, second.ids) if first and second else None
    if first is None or second is None or rows is None or (first.labels != second.labels[rows]).any():
        return None
    return mcnemar(first.right, second.right[rows])


def in_words(test: McNemar, first: str = "this one", second: str = "the baseline's") -> str:
    """Describe the test in words, and say that another seed may differ."""
    low, high = (100 * x for x in image_interval(test))
    p = f"McNemar's exact p {p_value(test.p, equals=True)}"
    if not test.can_decide:
        differ = plural(test.only_first + test.only_second, "image")
        p = f"they differ on {differ}, too few for McNemar's test ever to decide"
    mine = plural(test.only_first, "test image")
    return (
        f"These two networks alone: {mine} only {first} has right, {test.only_second} only "
        f"{second} ({p}; difference {low:+.2f} to {high:+.2f} points by bootstrap over the {test.images:,} images); "
        "another seed may say otherwise."
    )
