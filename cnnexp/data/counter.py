"""Random numbers as a function of counters, vectorised and in integers only: the same on every machine and version.

SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) used as a hash.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST = np.uint64(0xBF58476D1CE4E5B9)
SECOND = np.uint64(0x94D049BB133111EB)


def mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Apply SplitMix64's output function, a bijection on 64 bits, to each element."""
    value = (value ^ (value >> np.uint64(30))) * FIRST
    value = (value ^ (value >> np.uint64(27))) * SECOND
    return value ^ (value >> np.uint64(31))


def bits(*counters: Any) -> NDArray[np.uint64]:
    """Return 64 random bits for each combination of counters (integers or integer arrays that broadcast)."""
    state = np.zeros(1, np.uint64)
    for counter in counters:
        state = mix(state + GOLDEN + np.asarray(counter).astype(np.uint64))
    return state


def below(limit: Any, *counters: Any) -> NDArray[np.int64]:
    """Return whole numbers in [0, limit), limit < 2**31, one for each combination of counters."""
    high = bits(*counters) >> np.uint64(32)
    return ((high * np.asarray(limit).astype(np.uint64)) >> np.uint64(32)).astype(np.int64)


def between(low: Any, high: Any, *counters: Any) -> NDArray[np.int64]:
    """Return whole numbers in [low, high], both included, one for each combination of counters."""
    start = np.asarray(low, np.int64)
    return np.asarray(start + below(np.asarray(high, np.int64) - start + 1, *counters))
