"""Notes and captions in words for seeds, or for folds: what n counts, and which interval and test are used."""

from collections.abc import Iterable

SEEDS = {  # by placeholder
    "over": "over the seeds",
    "units": "seeds",
    "paired": "paired by seed",
    "each": "each seed",
    "one": "one seed",
    "at_every": "at every seed",
    "shared": "shared seeds",
    "interval": "Student's 95 % interval",
    "t": "Student's t",
    "t_test": "t-test",
    "planned": "planned seeds",
    "more": "; more seeds may decide",
    "runs": "seeds",
    "std": "the ratio of the deviations over the seeds, with the interval and test of Pitman and Morgan (1939)",
}
FOLDS = {
    "over": "over the folds (of each, the mean of its seeds)",
    "units": "folds",
    "paired": "paired by fold and seed",
    "each": "each fold and seed",
    "one": "one fold and seed",
    "at_every": "in every run",
    "shared": "shared folds (of each, the mean of its seeds)",
    "interval": "the corrected 95 % interval of Nadeau and Bengio (2003)",
    "t": "corrected resampled t",
    "t_test": "corrected t-test",
    "planned": "planned folds or seeds",
    "more": "",
    "runs": "runs",
    "std": "not tested over folds, whose values are not independent",
}


def in_words(notes: Iterable[str], folds: int) -> list[str]:
    """Return notes with their placeholders replaced: by words for folds if there are any, and else for seeds."""
    return [note.format_map(FOLDS if folds else SEEDS) for note in notes]
