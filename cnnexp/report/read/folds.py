"""Fold and seed of a run of cross-validation as one number, by which runs of two arms are paired.

Numbers below SEEDS are the seeds of other runs.
"""

from collections.abc import Mapping

SEEDS, MOST = 1 << 32, 1 << 12  # of seeds, and of folds


def unit(of: int, fold: int, seed: int) -> int:
    """Return the number of a fold of `of` folds, and a seed."""
    return (of * MOST + fold) * SEEDS + seed


def fold_of(number: int) -> int:
    """Return the fold of a unit; -1 of a seed."""
    return number // SEEDS % MOST if number >= SEEDS else -1


def count_of(number: int) -> int:
    """Return how many folds there are; 0 of a seed."""
    return number // SEEDS // MOST if number >= SEEDS else 0


def means(values: Mapping[int, float]) -> tuple[list[float], int]:
    """Return the mean over the seeds of each fold, in order, and how many folds there are.

    Without folds: the values in the order of the seeds, and 0.
    """
    if not any(number >= SEEDS for number in values):
        return [values[seed] for seed in sorted(values)], 0
    by_fold: dict[int, list[float]] = {}
    for number in sorted(values):
        by_fold.setdefault(fold_of(number) if number >= SEEDS else number, []).append(values[number])
    found = [sum(of_fold) / len(of_fold) for of_fold in by_fold.values()]
    return found, max(map(count_of, values), default=0)
