"""Settings given in Python: as the words of a command."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnexp.api.words import words_of
from cnnexp.config.compose import compose, resolve
from cnnexp.errors import UserError


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 3}, ["epochs=3"]),
        ({"epochs": "15ep", "model": "custom"}, ["epochs=15ep", "model=custom"]),
        ({"optimizer.lr": 1e-5}, ["optimizer.lr=1e-05"]),
        ({"optimizer": {"lr": 0.1}, "clip_norm": None}, ["optimizer.lr=0.1", "clip_norm=null"]),
        (
            {"model": {"dropout": {"fc": 0.5}}, "cache_features": False},
            ["model.dropout.fc=0.5", "cache_features=false"],
        ),
        ({"study": "x", "preset": ["small", "as_published"]}, ["+study=x", "+preset=[small,as_published]"]),
        ({"study": {"name": "mine"}}, ["study.name=mine"]),
        ({"batch_size": np.int64(64), "data.root": Path("/a/b")}, ["batch_size=64", "data.root=/a/b"]),
        ({"study": {"question": "Is it, in short, better?"}}, ["study.question='Is it, in short, better?'"]),
        ({"study": {"question": "null"}}, ["study.question='null'"]),
        ({"slots": ["cuda:0", "cpu"]}, ["slots=['cuda:0',cpu]"]),
        ({"log": {"steps": 1}, "log.hash_chain": True}, ["log.steps=1", "log.hash_chain=true"]),
        ({"config_dir": "my configs"}, ["--config-dir=my configs"]),
    ],
)
def test_keywords(settings: dict[str, Any], words: list[str]) -> None:
    assert words_of([], settings) == words


@pytest.mark.integration
@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"unfreeze": {"layer4": "2ep"}}, "unfreeze={layer4:2ep}"),
        ({"data": {"normalize": {"mean": [0.5], "std": [0.2]}}}, "data.normalize={mean:[0.5],std:[0.2]}"),
        ({"data.normalize": {"mean": [0.5], "std": [0.2]}}, "data.normalize={mean:[0.5],std:[0.2]}"),
        ({"param_groups": {"rates": {"fc": 10}}}, "param_groups.rates={fc:10}"),
        (
            {"model": {"activation": {"leaky_relu": {"negative_slope": 0.1}}}},
            "model.activation={leaky_relu:{negative_slope:0.1}}",
        ),
        ({"model": {"norm": {"conv": "batch", "fc": "none"}}}, "model.norm={conv:batch,fc:none}"),
        ({"study": {"arms": {"a": {"optimizer.lr": 0.1}}}}, "study.arms={a:{optimizer.lr:0.1}}"),
        ({"search": {"space": {"optimizer.lr": [0.1, 0.2]}}}, "search.space={optimizer.lr:[0.1,0.2]}"),
    ],
)
def test_a_mapping_that_replaces_another_value_is_one_value(settings: dict[str, Any], word: str) -> None:
    (made,) = words_of([], settings)
    assert made.replace("'", "") == word and words_of([], settings, sweep=True) == [made]
    key, node = made.partition("=")[0], resolve(compose([made]))
    if key.partition(".")[0] not in ("study", "search"):  # these are read before a run is composed
        for part in key.split("."):
            node, settings = node[part], settings.get(key, settings)
            settings = settings.get(part, settings)
        assert node == settings


def test_a_list_is_a_value_for_each_run_of_a_sweep() -> None:
    settings = {"seed": range(3), "model": {"norm": ["none", "batch"]}, "slots": ["cpu"], "arm": ("a", "b")}
    assert words_of([], settings, sweep=True) == ["seed=0,1,2", "model.norm=none,batch", "slots=[cpu]", "+arm=a,b"]
    assert words_of([], {"seed": range(3)}) == ["seed=[0,1,2]"]
    assert words_of([], {"data.classes": [["a", "b"]]}, sweep=True) == ["data.classes=[a,b]"]


@pytest.mark.integration
@pytest.mark.parametrize("text", ["it's", "a=b", "x, y", "[a]", "{a: 1}", " a ", "1e-3", "true", "C:\\x", ""])
def test_texts_come_back_as_they_are(text: str) -> None:
    config = resolve(compose(words_of([], {"study.source": text})))
    assert config["study"]["source"] == text


@pytest.mark.parametrize(
    ("overrides", "settings", "message"),
    [
        ([3], {}, "given 3; allowed: overrides such as 'epochs=3', or keywords: epochs=3"),
        (["model=custom aug=full"], {}, "give each setting as a text of its own, such as 'aug='"),
        ([], {"seed": object}, "seed: given <class 'object'>; allowed: numbers, texts"),
        ([], {"model": Path("a").exists}, "model: given an object; name what builds it, as text: model={'_target_': '"),
        ([], {"model": re.Pattern}, "as text: model={'_target_': 're.Pattern'}"),
        ([], {"data": Fraction(1, 3)}, "as text: data={'_target_': 'fractions.Fraction'}"),
    ],
)
def test_what_is_no_setting(overrides: list[Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        words_of(overrides, settings)
    assert message in str(raised.value)


def test_an_empty_list_of_runs() -> None:
    with pytest.raises(UserError, match=r"seed: given \[\]; allowed: at least one value"):
        words_of([], {"seed": []}, sweep=True)
