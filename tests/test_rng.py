"""Seeds are pure functions of names and numbers."""

import torch

from cnnexp import rng


def test_seeds_depend_on_the_names_alone() -> None:
    # Frozen: another value would change the numbers of every run that was ever made.
    assert [rng.fold(0, "init"), rng.fold(0, "dropout", 7)] == [6767970929478544064, 3362524938893004185]
    assert rng.fold(1, "a", 2) == rng.fold(1, "a", 2)


def test_seeds_of_different_names_differ() -> None:
    seeds = {
        rng.fold(s, name, step) for s in range(5) for name in ("dropout", "augment", "order") for step in range(99)
    }
    assert len(seeds) == 5 * 3 * 99
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert rng.fold(1, 23) != rng.fold(12, 3), "numbers that are written side by side are kept apart"


def test_drawing_does_not_touch_the_global_generator() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = torch.rand(5, generator=rng.generator(0, "order", 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, torch.rand(5, generator=rng.generator(0, "order", 1)))
