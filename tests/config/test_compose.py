"""The schema, durations, and the fingerprint: a run is named by what can change a number, and by that alone."""

import copy
import math
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from cnnexp import cli
from cnnexp.config import checks, signature
from cnnexp.config import compose as config
from cnnexp.config.fingerprint import canonical, fingerprint_of
from cnnexp.config.keys import flatten
from cnnexp.config.signature import Count, Duration, NonNegative, Positive, Probability, Range, Rate, Span
from cnnexp.errors import UserError
from cnnexp.optim import optimizers
from cnnexp.records.run_record import RunRecord
from cnnexp.training.plan import Plan, quoted
from cnnexp.training.start_weights import take_over_places

Plans = Callable[..., Plan]

SAME = [
    ["seed=7"],
    ["study.name=other", "study.arm=other", "study.question=why", "study.baseline=other"],
    ["outputs=elsewhere"],
    ["slots=cpu:3"],
    ["log.steps=1"],
    ["checkpoint.every=1st"],
    ["device.deterministic=true"],  # it is for CUDA only
    ["epochs=3"],
    ["backbone.weights=elsewhere"],
    ["probes=all", "probes.every=7st"],
    ["data.cache={cache}"],
    ["device.data_on_device=true"],
    ["device.precision=fp32"],
    ["device.kind=auto"],
]
OTHER = [
    ["epochs=4ep"],
    ["epochs=3st"],
    ["batch_size=4"],
    ["optimizer.lr=0.002"],
    ["optimizer=adamw"],
    ["scheduler=cosine"],
    ["scheduler.warmup=1ep"],
    ["augmentation=full"],
    ["model.norm=none"],
    ["model.dropout.fc=0.1"],
    ["loss.label_smoothing=0.1"],
    ["clip_norm=1"],
    ["early_stopping.patience=2"],
    ["device.precision=bf16"],
    ["device.threads=2"],
    ["eval_batch_size=3"],  # sums of another order: the last digits of the validation loss
    ["device.channels_last=false"],
    ["data.val_fraction=0.1"],
    ["data.split_seed=1"],
    ["data.num_train=60"],
    ["data.normalize={mean:[0.5,0.5,0.5],std:[0.5,0.5,0.5]}"],
]


@pytest.mark.integration
@pytest.mark.parametrize("more", SAME, ids=" ".join)
def test_what_cannot_change_a_number_changes_no_fingerprint(plan: Plans, tmp_path: Path, more: list[str]) -> None:
    if "device.kind=auto" in more and (torch.cuda.is_available() or torch.backends.mps.is_available()):
        pytest.skip("auto is not the CPU here")
    assert plan(*(word.format(cache=tmp_path) for word in more)).fingerprint == plan().fingerprint


@pytest.mark.integration
def test_what_can_change_a_number_changes_the_fingerprint(plan: Plans) -> None:
    prints = {"": plan().fingerprint, **{" ".join(more): plan(*more).fingerprint for more in OTHER}}
    assert len(set(prints.values())) == len(prints), prints


def test_the_fingerprint_is_frozen() -> None:
    # Another value would orphan every run that was ever made: bump nothing here without a reason to tell.
    node = {
        "data": {"_target_": "cnnexp.data.sources.folder", "root": "/a", "cache": None, "size": 32},
        "model": {"_target_": "cnnexp.models.convnet.convnet", "blocks": [{"conv": {"out": 8, "kernel": 3}}]},
        "augmentation": {"_target_": "cnnexp.data.augment.pipeline", "ops": []},
        "optimizer": {"_target_": "cnnexp.optim.optimizers.adam", "lr": 0.001},
        "scheduler": {"_target_": "cnnexp.optim.schedules.constant", "warmup": "0ep"},
        "loss": {"_target_": "cnnexp.optim.losses.cross_entropy", "label_smoothing": 0.0, "class_weights": None},
        **{"mix": {"mixup": None, "cutmix": None}, "ema": {"decay": None}, "sampling": "shuffle", "accumulate": 1},
        "param_groups": {"no_decay": False, "layer_decay": None, "rates": None},
        "unfreeze": None,
        "device": {"kind": "cpu", "deterministic": False, "threads": 2},
        "seed": 3,
        "epochs": "15ep",
    }
    facts = {"device": "cpu", "precision": "fp32", "threads": 2, "data": "abc", "weights": None}
    assert fingerprint_of(node, facts) == "ddb69842a1"


def tree(root: Path, shade: int) -> Path:
    """Make a tree of small images: two classes, 20 images to train on and 4 to test on. shade: of the last image."""
    for part, count in (("train", 10), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.full((8, 8, 3), 20 * number + 5 * label, np.uint8)
                if number == count - 1:
                    pixels[0, 0] = shade
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


@pytest.mark.integration
def test_the_fingerprint_follows_the_content_of_the_data_not_its_place(plan: Plans, tmp_path: Path) -> None:
    def print_of(name: str, shade: int) -> str:
        root = tree(tmp_path / name, shade)
        return plan("data=folder", f"data.root={root}", "data.size=8", "data.val_fraction=0.2").fingerprint

    first, moved, changed = print_of("a", 1), print_of("b", 1), print_of("c", 2)
    assert first == moved != changed


@pytest.mark.integration
def test_the_fingerprint_follows_the_content_of_the_weights_not_their_place(plan: Plans, tmp_path: Path) -> None:
    def print_of(file: Path | str) -> str:
        return plan("model=resnet18", f"model.weights={file}").fingerprint

    file, weights = tmp_path / "weights.pt", models.resnet18().state_dict()
    torch.save(weights, file)
    first = print_of(file)
    moved = shutil.copytree(tmp_path, tmp_path / "elsewhere") / file.name
    torch.save({**weights, "bn1.bias": weights["bn1.bias"] + 1}, file)
    assert print_of(moved) == first
    assert len({first, print_of(file), print_of("none")}) == 3


@pytest.mark.integration
def test_weights_that_a_run_makes_are_part_of_the_fingerprint(plan: Plans) -> None:
    chosen = plan("model=resnet18", "model.weights={config:resnet18_textures}")
    assert chosen.upstream is not None
    assert chosen.facts["weights"] == f"{chosen.upstream.fingerprint}-s0"
    assert chosen.config["model"]["weights"] == str(chosen.upstream.folder)
    assert chosen.upstream.folder.parent.name == "pretrain"
    assert [needed.arm for needed in chosen.chain()] == ["resnet18_textures", chosen.arm]


@pytest.mark.parametrize(
    ("first", "second", "root", "cache"),
    [
        ("data=folder data.root=big data.cache=own", "data=folder data.root=photos data.cache=here", "big", "own"),
        ("data=imagenette", "data=folder data.root=photos data.cache=here", "data", "here"),
        ("data=cifar10_jpeg", "data=folder data.root=photos", "data", None),
        ("data=folder", "data=folder data.root=photos", "photos", None),
        ("data=imagenette", "data=cifar10 data.root=public", "public", None),
        ("data=imagenette data.root=mine", "data=imagenette data.root=public", "mine", None),
    ],
)
def test_an_upstream_keeps_the_places_that_its_config_names(first: str, second: str, root: str, cache: Any) -> None:
    upstream, data = (config.resolve(config.compose(shlex.split(typed)))["data"] for typed in (first, second))
    take_over_places(upstream, data)
    assert (upstream["root"], upstream["cache"]) == (root, cache)


@pytest.mark.integration
def test_a_parameter_added_later_changes_no_fingerprint(plan: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan().fingerprint

    def adam(params: Any, lr: Positive, betas: tuple[Rate, Rate], eps: Positive, weight_decay: NonNegative,
             amsgrad: bool = False) -> Any:  # fmt: skip
        """Stand for a later version of adam, with a parameter more."""
        return torch.optim.Adam(params, lr, (betas[0], betas[1]), eps, weight_decay, amsgrad)

    monkeypatch.setattr(optimizers, "adam", adam)
    assert plan().fingerprint == before
    assert plan("+optimizer.amsgrad=false").fingerprint == before
    assert plan("+optimizer.amsgrad=true").fingerprint != before


@pytest.mark.integration
def test_a_run_says_how_to_repeat_it_alone(
    train: Callable[..., int], runs: Callable[[], dict[str, RunRecord]], tiny: list[str], plan: Plans
) -> None:
    """What a sweep has settled for a run (its arm's name, its threads) is in the command, so that it names the same."""
    swept = Plan(**{**vars(plan("model.norm=none")), "overrides": [*tiny, "model.norm=none"], "changes": []})
    swept.config["study"]["arm"] = "model.norm=none,a b"
    words = shlex.split(swept.repeat)
    assert words[:2] == ["cnnexp", "train"]
    assert "study.arm='model.norm=none,a b'" in words and "device.threads=1" in words
    assert train(*words[2:], "epochs=1st") == 0
    (alone,) = runs().values()
    assert alone.info["arm"] == "model.norm=none,a b"
    assert alone.info["seed"] == 0


@pytest.mark.integration
@pytest.mark.parametrize(
    ("typed", "arm", "folder"),
    [
        (["optimizer.lr=1e-3", "model=custom"], "TINY", "TINY"),  # these are the defaults
        (["optimizer.lr=1e-2"], "TINY,optimizer.lr=1e-2", "TINY-lr_1e-2"),
        (["name=my run (again)"], "my run (again)", "my-run-again"),
        (["name=5"], "5", "5"),
        (["name=it's $x"], "it's $x", "it-s-x"),
    ],
)
def test_the_name_of_a_single_run(
    typed: list[str], arm: str, folder: str, monkeypatch: pytest.MonkeyPatch, outputs: Path
) -> None:
    """It is the typed one, else what differs from the default; its folder needs no quotes."""
    made: list[Plan] = []
    monkeypatch.setattr("cnnexp.train.make", lambda plan: made.append(plan) or 3)
    words = ["epochs=1", "data.train_limit=64", "batch_size=8", f"outputs={outputs}"]
    assert cli.main(["train", *words, *typed]) == 3
    named, short = "epochs=1,data.train_limit=64,batch_size=8", "epochs_1-train_limit_64-batch_size_8"
    assert made[0].arm == arm.replace("TINY", named)
    assert made[0].folder.name == f"{folder.replace('TINY', short)}-s0-{made[0].fingerprint}"


@pytest.mark.parametrize(
    ("value", "kind", "allowed"),
    [
        (1, Count, True),
        (0, Count, False),
        (1.0, Count, False),
        (True, Count, False),
        (1, Positive, True),
        (0.0, Positive, False),
        (math.inf, Positive, False),
        (math.nan, NonNegative, False),
        (True, Positive, False),
        (1, Rate, False),
        (1, Probability, True),
        ("1", Probability, False),
        (None, int | None, True),
        (None, Positive, False),
        ("a", Literal["a", "b"], True),
        (1, Literal[True], False),
        ([0.1, 0.2], tuple[Rate, Rate], True),
        ([0.1], tuple[Rate, Rate], False),
        ([0.1, 2], tuple[Rate, Rate], False),
        ([1, 2, 3], list[Count], True),
        ([1, 0], list[Count], False),
        ("ab", list[str], False),
        ({"a": 1}, dict[str, Any], True),
        ([], dict[str, Any], False),
        (3, Annotated[int, Range(low=1, high=3)], True),
        (4, Annotated[int, Range(low=1, high=3)], False),
        (15, Span, True),
        ("15ep", Span, True),
        ("500st", Span, True),
        ("15step", Span, False),
        ("15epst", Span, False),
        ("0ep", Span, False),
        ("1.5ep", Span, False),
        ("ep", Span, False),
        ("-3st", Span, False),
        ("٣ep", Span, False),
        (1.5, Span, False),
        (True, Span, False),
    ],
)
def test_types_as_schema(value: Any, kind: Any, allowed: bool) -> None:
    assert signature.matches(value, kind) is allowed


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Count, "a whole number >= 1"),
        (Positive, "a number > 0"),
        (Rate, "a number >= 0 and < 1"),
        (Count | None, "a whole number >= 1 or null"),
        (Literal["none", "batch"], "one of none, batch"),
        (tuple[Rate, Rate], "a list of 2 values, each a number >= 0 and < 1"),
        (list[str], "a list of texts"),
        (Path | None, "a path or null"),
        (bool | Literal["auto"], "true or false or auto"),
        (Span, "a duration of at least 1, in epochs (15ep) or steps (500st)"),
    ],
)
def test_types_in_words(kind: Any, words: str) -> None:
    assert signature.describe(kind) == words


@pytest.mark.parametrize(("duration", "expected"), [("3ep", 21), (3, 21), ("3", 21), ("500st", 500), ("0st", 0)])
def test_durations_in_steps(duration: int | str, expected: int) -> None:
    assert signature.steps(duration, steps_per_epoch=7) == expected
    assert Duration(low=0).holds(duration)


def test_a_missing_key_is_named() -> None:
    def builder(image: int, size: Count, name: str = "none") -> None:
        """Stand for a builder."""

    signature.check("model", {"_target_": "it", "size": 3}, builder, given=("image",))
    with pytest.raises(UserError, match=r"model\.size: is missing; allowed: a whole number >= 1"):
        signature.check("model", {"_target_": "it"}, builder, given=("image",))
    with pytest.raises(UserError, match=r"model\.image: cnnexp gives it, from the data and the config; leave it out"):
        signature.check("model", {"size": 3, "image": 5}, builder, given=("image",))


@pytest.mark.integration
def test_checks_leave_the_config_as_it_was(plan: Plans) -> None:
    plain = plan().config
    before = copy.deepcopy(plain)
    checks.check(plain)
    canonical(plain)
    assert plain == before


def test_flatten() -> None:
    nested = {"a": {"b": 1, "c": {"d": [1, {"e": 2}]}}, "f": {}, "g": None}
    assert flatten(nested) == {"a.b": 1, "a.c.d": [1, {"e": 2}], "f": {}, "g": None}


@pytest.mark.parametrize("text", ["plain", "model.activation='gelu'", "ends with \\", "a\\'b", 'x"y, [1]'])
def test_an_arms_name_is_quoted_as_hydra_reads_it(text: str) -> None:
    (override,) = config.parse([f"study.arm={quoted(text)}"])
    assert str(override.value()) == text


@pytest.mark.integration
@pytest.mark.parametrize("text", ["\\ud800", "a\\udbffb", "\\udfff"])
def test_half_a_character_is_told_with_its_key(
    train: Callable[..., int], outputs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    """No file could hold it: it would end a run as its record is written."""
    (tmp_path / "own" / "study").mkdir(parents=True)
    content = f'# @package _global_\nstudy: {{name: odd, question: "{text}"}}\n'
    (tmp_path / "own" / "study" / "odd.yaml").write_text(content)
    assert train("--config-dir", str(tmp_path / "own"), "+study=odd") == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == f"cnnexp: study.question: given '{text}'; allowed: text without half characters"
    assert not outputs.exists()


def test_a_claim_with_brackets_that_lacks_quotes_is_explained(
    train: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "own" / "study").mkdir(parents=True)
    file = tmp_path / "own" / "study" / "odd.yaml"
    hint = """; inside [ ], write a text that has brackets in quotes: ["a.recall[x] > b.recall[x]"]"""
    for claims, hinted in (("[a.recall[cat] > b.recall[cat]]", True), ("[a > b", False)):
        file.write_text(f"# @package _global_\nstudy:\n  name: odd\n  claims: {claims}\n")
        assert train("--config-dir", str(tmp_path / "own"), "+study=odd") == 2
        told = capsys.readouterr().err.splitlines()
        assert len(told) == 1 and f"{file}: line " in told[0] and told[0].endswith(hint) == hinted


@pytest.mark.parametrize("between", [" ", "="])
def test_a_missing_folder_of_configs_is_one_line(
    between: str, train: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert train(*f"--config-dir{between}{tmp_path / 'conff'}".split(" ")) == 2
    assert capsys.readouterr().err == f"cnnexp: --config-dir: {tmp_path / 'conff'} is not a folder\n"


@pytest.mark.parametrize("closed", ["conff", "conff/model"])
def test_a_folder_of_configs_that_cannot_be_read_is_one_line(
    closed: str,
    train: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The administrator, who runs some of these tests, may read every folder."""
    (tmp_path / "conff" / "model").mkdir(parents=True)
    may = os.access
    monkeypatch.setattr(
        "os.access",
        lambda path, mode, **more: may(path, mode, **more) and (mode == os.F_OK or Path(path) != tmp_path / closed),
    )
    assert train("--config-dir", str(tmp_path / "conff"), "model=mine") == 2
    place = tmp_path / closed
    assert capsys.readouterr().err == f"cnnexp: --config-dir: {place} cannot be read; allow it: chmod u+rX {place}\n"
