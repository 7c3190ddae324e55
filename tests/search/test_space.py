"""The space of a search as it is typed, and what is wrong with it."""

from typing import Any

import pytest

from cnnexp.errors import UserError
from cnnexp.search.space import Choice, Numbers, as_words, read_space


def test_nested_and_dotted_keys_are_the_same() -> None:
    numbers = {"low": 1e-4, "high": 0.1, "log": True}
    nested = read_space({"optimizer": {"lr": numbers}, "aug": ["none", "full"]})
    dotted = read_space({"optimizer.lr": numbers, "augmentation": ["none", "full"]})
    assert nested == dotted == {"optimizer.lr": Numbers(1e-4, 0.1, log=True), "augmentation": Choice(("none", "full"))}


def test_whole_numbers_are_those_between_whole_bounds() -> None:
    space = read_space(
        {"epochs": {"low": 5, "high": 20, "step": 5}, "model.dropout.fc": {"low": 0.0, "high": 0.6, "step": 0.1}}
    )
    assert space["epochs"].values() == [5, 10, 15, 20]
    assert space["model.dropout.fc"].values() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert len(read_space({"optimizer.lr": {"low": 0.1, "high": 1}})["optimizer.lr"]) == 0  # not counted


def test_a_number_is_rounded_within_its_bounds() -> None:
    numbers = Numbers(0.00012345678, 0.1, log=True)
    assert numbers.rounded(0.01234567) == 0.01235
    assert Numbers(0.00123449, 0.1).rounded(0.00123449) == 0.00123449  # 0.001234 is below it
    assert numbers.rounded(0.1) == 0.1


def test_groups_are_chosen_before_keys_below_them() -> None:
    assert as_words({"optimizer.lr": 0.1, "optimizer": "sgd"}) == ["optimizer=sgd", "optimizer.lr=0.1"]


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (None, "search.space: is empty; name what to try, such as search.space="),
        ({}, "search.space: is empty"),
        (3, "search.space: given 3; name what to try"),
        ({"optimizer.lr": 0.1}, "search.space.optimizer.lr: given 0.1; allowed: a list of values, or {low: "),
        ({"optimizer.lr": {}}, "search.space.optimizer.lr: given {}; allowed: a list"),
        ({"optimizer.lr": {"low": 0.2, "high": 0.1}}, "given low 0.2 and high 0.1; low must be below high"),
        ({"optimizer.lr": {"low": 0.1, "high": 0.1}}, "low must be below high"),
        ({"optimizer.lr": {"low": 0, "high": 1, "log": True}}, "lr.low: given 0 with log: true; allowed: a number > 0"),
        ({"optimizer.lr": {"low": 0.1}}, "optimizer.lr.high: is missing"),
        ({"optimizer.lr": {"low": "a", "high": 1}}, "optimizer.lr.low: given 'a'; allowed: a number"),
        ({"optimizer.lr": {"low": float("nan"), "high": 1}}, "optimizer.lr.low: given nan; allowed: a number"),
        ({"optimizer.lr": {"low": True, "high": 2}}, "optimizer.lr.low: given True; allowed: a number"),
        ({"optimizer.lr": {"low": 0.1, "high": 1, "log": 1}}, "optimizer.lr.log: given 1; allowed: true or false"),
        ({"optimizer.lr": {"low": 0.1, "hihg": 1}}, "unknown key 'hihg'; choose one of low, high, log, step (did"),
        ({"optimizer.lr": {"low": 0.1, "high": 1, "step": 2}}, "lr.step: given 2; allowed: a number > 0, at most 0.9"),
        ({"optimizer.lr": {"low": 0.1, "high": 1, "step": 0.1, "log": True}}, "with log: true; leave out log or step"),
        (
            {"optimizer.lr": {"low": 0.0, "high": 0.25, "step": 0.1}},
            "lr.step: given 0.1, which does not divide the range from 0.0 to 0.25; type high: 0.2, which is the last",
        ),
        ({"epochs": {"low": 5, "high": 20, "step": 4}}, "from 5 to 20; type high: 17, which is the last value, or"),
        ({"model.norm": ["none"]}, "search.space.model.norm: given a single value in ['none']; allowed: two or more"),
        ({"model.norm": []}, "search.space.model.norm: given an empty list in []"),
        ({"model.norm": ["none", "none"]}, "search.space.model.norm: given twice the same in"),
        ({"seed": [0, 1]}, "search.space.seed: is not a setting to choose; leave it out: the winner is"),
        ({"study.name": ["a", "b"]}, "search.space.study.name: is not a setting to choose"),
        ({"data.group": ["folder", "plot"]}, "search.space.data.group: trials that differ in it cannot be compared"),
        ({"outputs": ["a", "b"]}, "search.space.outputs: changes no result; leave it out"),
        ({"device.kind": ["cpu", "cuda"]}, "search.space.device.kind: changes no result"),
        ({"data.val_fraction": [0.1, 0.2]}, "trials that differ in it cannot be compared"),
        ({"data": ["cifar10", "folder"]}, "trials that differ in it cannot be compared"),
        ({"monitor": ["accuracy", "loss"]}, "trials that differ in it cannot be compared"),
        ({"search.trials": [1, 2]}, "trials that differ in it cannot be compared"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(node: Any, words: str) -> None:
    with pytest.raises(UserError) as raised:
        read_space(node)
    assert words in str(raised.value) and "\n" not in str(raised.value)
