"""Seeds as pure functions: what is drawn at a step depends on names and numbers, never on what was drawn before.

The idea is the `fold_in` of JAX's counter-based generators: resuming needs no saved random state.
"""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator


def fold(seed: int, *names: int | str) -> int:
    """Derive an independent 63-bit seed from a seed and any names, e.g. `fold(seed, "augment", step)`."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *names: int | str) -> "Generator":
    """Return a CPU torch generator seeded with `fold(seed, *names)`."""
    import torch

    return torch.Generator().manual_seed(fold(seed, *names))
