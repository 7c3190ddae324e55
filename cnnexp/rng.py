"""Seeds as pure functions of names and numbers: no draw depends on earlier draws.

The idea is the `fold_in` of JAX's counter-based generators: resuming needs no saved random state.
"""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, device


def fold(seed: int, *names: int | str) -> int:
    """Derive an independent 63-bit seed from a seed and any names, e.g. `fold(seed, "augment", step)`."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *names: int | str) -> "Generator":
    """Return a CPU torch generator seeded with `fold(seed, *names)`."""
    import torch

    return torch.Generator().manual_seed(fold(seed, *names))


def seed_device(where: "device", seed: int) -> None:
    """Seed the generators of the CPU and of one device. torch.manual_seed seeds all kinds of devices: slower."""
    import torch

    torch.default_generator.manual_seed(seed)
    if where.type == "cuda":
        torch.cuda.default_generators[where.index or 0].manual_seed(seed)
    elif where.type == "mps":
        torch.mps.manual_seed(seed)
