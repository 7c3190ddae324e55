"""Composing with few loads by Hydra gives what Hydra composes, and finds the same words that are defaults."""

from contextlib import suppress
from typing import Any

import pytest
from hydra.errors import ConfigCompositionException

from cnnexp.config import compose as configs
from cnnexp.config.composer import Composer, compose_run
from cnnexp.config.keys import counts
from cnnexp.config.words import key_of

pytestmark = pytest.mark.integration

TYPED = [
    ["+study=ablation", "+arm=combined", "seed=3"],
    ["+study=ablation", "+arm=combined", "seed=4", "model.dropout.fc=0.1", "optimizer.lr=1e-3"],
    ["+study=ablation", "+arm=resnet18_frozen_bn", "seed=3", "backbone.weights=none"],
    ["data=textures", "model.norm=batch", "epochs=3", "study.name='its name'"],
    ["data=postcards", "+model.extra=false", "device=cpu", "device.threads=3"],
    ["data=postcards", "augmentation.ops=[{flip:{p:0.1}}]", "~scheduler.warmup", "early_stopping={patience:3}"],
    ["outputs=elsewhere", "data.cache=${outputs}/cache", "study.name=${data.cache}"],
    ["data=postcards", "study.name=${outputs}", "seed=3", "model.channels=[8,16]", "backbone.weights=none"],
    ["data=postcards", "model.channels=[8]", "optimizer.lr=${seed}"],
    ["model.norm=batch", "model.norm={conv: none, fc: batch}"],
    ["model.norm={conv: none, fc: batch}", "model.norm=batch"],
    ["early_stopping={patience: 3}", "early_stopping.patience=4"],
    ["data=postcards"],
]


def test_plain_values_set_one_after_another_make_the_configs_that_hydra_composes() -> None:
    configs.prepare(["+study=ablation"])  # its arms
    with configs.loader() as loader:
        compose = Composer(loader)
        for overrides in TYPED + TYPED:
            mine, node = compose(overrides)
            expected = configs.load(loader, overrides)
            assert mine == configs.resolve(expected)
            assert node.runtime.choices == expected.hydra.runtime.choices
        assert len(compose.composed) == 10, "the first two are composed once, and the last three"
        with pytest.raises(ConfigCompositionException, match=r"optimizer\.lrr"):
            compose(["seed=9", "optimizer.lrr=3"])
        assert compose(["data=postcards"])[0] == configs.resolve(configs.load(loader, ["data=postcards"]))


SINGLE = [
    ["data=textures", "scheduler=onecycle", "optimizer.lr=0.01", "seed=3"],
    ["model=resnet18", "model.weights=none", "augmentation=none"],
    ["augmentation=none", "device=auto", "data=postcards", "model=custom", "optimizer.lr=1e-3", "epochs=15"],
    ["model=mlp", "model.norm=batch", "batch_size=128", "eval_batch_size=${batch_size}"],
    ["optimizer=momentum", "optimizer.momentum=0.9", "optimizer.lr=0.1", "optimizer.lr=0.01"],
    ["model._target_=cnnexp.models.mlp.build", "model.units=[10]"],
    ["mix.mixup=null", "mix.cutmix=0.5", "+model.extra=1", "~scheduler.warmup", "keep_epoch=best"],
    ["data=cifar10", "data.root=data", "data.val_fraction=0.1", "model.channels=[16,32,64]"],
]


@pytest.mark.parametrize("typed", SINGLE, ids=" ".join)
def test_defaults_are_those_words_without_which_hydra_composes_the_same(typed: list[str]) -> None:
    kept = list(typed)
    expected = configs.resolve(configs.compose(typed))
    for change in typed:
        fewer = [word for word in kept if word != change]
        with suppress(Exception):
            kept = fewer if configs.resolve(configs.compose(fewer)) == expected else kept
    run = compose_run(configs.prepare(typed))
    assert run.config == expected
    changes = [word for word in typed if counts(key_of(word), "arm")]
    assert run.without_defaults(changes) == [word for word in changes if word in kept]


def test_hydra_composes_once_for_each_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes 0.1 s or more at the start of a run; a value takes none."""
    loads = list[list[str]]()
    load = configs.load
    monkeypatch.setattr(configs, "load", lambda hydra, words, *mode: loads.append(words) or load(hydra, words, *mode))
    values: list[Any] = ["seed=3", "optimizer.lr=0.01", "epochs=3", "batch_size=8", "data.size=16"]
    run = compose_run(configs.prepare(["augmentation=full", "model=resnet18", *values]))
    assert loads == [["augmentation=full", "model=resnet18"]]
    assert len(run.without_defaults(["augmentation=full", "model=resnet18", *values[1:]])) == 6
    assert len(loads) == 3
