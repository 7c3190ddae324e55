"""Values as people type them: paths with every character, the home folder, and folders of configs."""

import re
from pathlib import Path
from typing import Any

import pytest

from cnnexp import cli
from cnnexp.api.words import words_of
from cnnexp.config import compose as configs
from cnnexp.config.words import as_typed, as_word
from cnnexp.errors import UserError
from cnnexp.training.other_data import _change

NAMES = [
    "photos (1)",
    "a=b",
    "a[1]",
    "a#b",
    "a&b",
    "o'neil",
    "a!b",
    "a;b",
    "café",
    "日本",
    "~x",
    'say "hi"',
    "a\\'b",
    "<b>",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_text_needs_no_quotes(name: str) -> None:
    assert configs.resolve(configs.compose([f"outputs={name}"]))["outputs"] == name
    node = {"root": "."}
    _change(node, [f"data.root={name}"])
    assert node == {"root": name}


def test_a_key_within_a_key_of_the_data_is_changed() -> None:
    recorded = {"columns": {"path": "path", "split": "split"}, "size": 8}
    node = dict(recorded)
    _change(node, ["data.columns.split=null", "data.columns.path=~/x", "data.size=9"])
    assert node == {"columns": {"path": str(Path.home() / "x"), "split": None}, "size": 9}
    assert recorded == {"columns": {"path": "path", "split": "split"}, "size": 8}
    known = re.escape("data.columns.spilt: no such key; data.columns has path, split") + ".*did you mean 'split'"
    for word, message in {
        "data.columns.spilt=null": known,
        "data.column.split=null": "data.column: no such key; the run's data has columns, size",
        "+data.columns.other=x": "data.columns.other: no such key; data.columns has path, split",
        "data.columns.split.inner=x": "data.columns.split.inner: no such key; data.columns.split has no keys",
    }.items():
        with pytest.raises(UserError, match=message):
            _change(dict(node), [word])


@pytest.mark.parametrize(
    "word", ["seed=1", "model.kernels=[3,3,3]", "seed=range(0,3)", "outputs='a b'", "~optimizer.lr"]
)
def test_what_hydra_reads_is_left_alone(word: str) -> None:
    assert configs.readable(word) == word


@pytest.mark.parametrize("word", ["outputs=~/x", "outputs='~/x'", 'outputs="~/x"'])
def test_a_tilde_is_the_home_folder(word: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    words = [word, "model=resnet18", "model.weights=~/w.pt", "data.cache=~/cache"]
    config = configs.resolve(configs.compose(words))
    found = config["outputs"], config["model"]["weights"], config["data"]["cache"]
    assert found == (f"{tmp_path}/x", f"{tmp_path}/w.pt", f"{tmp_path}/cache")


def test_a_tilde_in_a_flag_is_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.main(["runs", "~/x"]) == 2
    assert f"{tmp_path}/x: no such folder" in capsys.readouterr().err
    assert cli.home_in("--out=~/x") == f"--out={tmp_path}/x"
    assert [cli.home_in(word) for word in ("~x", "~optimizer.lr", "--out=a~/x")] == [
        "~x",
        "~optimizer.lr",
        "--out=a~/x",
    ]


@pytest.mark.parametrize("name", ["plain", "My Projects", "проект", "50%", "o'neil", "a,b", "a[1]"])
def test_a_folder_of_configs_may_have_any_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name / "data").mkdir(parents=True)
    (tmp_path / name / "data" / "mine.yaml").write_text("defaults: [postcards]\nnum_train: 300\n")
    places = configs.search_path([f"--config-dir={tmp_path / name}"])
    assert configs.compose([*places, "data=mine"]).data.num_train == 300


OWN = {  # of each group: what is not typed of it, so no setting of the default choice is left
    "model": {"_target_": "my_net.MyNet", "width": 8, "sizes": {"first": 3}},
    "data": {"_target_": "my_data.stripes", "count": 30},
    "augmentation": {"_target_": "torchvision.transforms.v2.RandomErasing", "p": 0.5},
    "optimizer": {"_target_": "torch.optim.Adadelta", "rho": 0.8},
    "scheduler": {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.9},
}


@pytest.mark.parametrize("group", OWN)
@pytest.mark.parametrize("plus", ["", "+"])
def test_an_own_target_replaces_its_group(group: str, plus: str) -> None:
    words = words_of([], {group: OWN[group]})
    composed = configs.compose([f"{plus}{word}" for word in words], with_hydra=True)
    config = configs.resolve(composed)
    assert config[group] == OWN[group]
    assert as_typed(composed.hydra.overrides.task) == words, "what a record says to type"
    assert group != "data" or config["batch_size"] != 16, "the default data's recipe went with it"


def test_a_target_beside_a_choice_is_a_setting_of_it() -> None:
    config = configs.resolve(configs.compose(["optimizer=adam", "optimizer._target_=torch.optim.AdamW"]))
    assert config["optimizer"]["_target_"] == "torch.optim.AdamW" and config["optimizer"]["lr"] == 0.001


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        None,
        3,
        0.5,
        1e-5,
        "batch",
        "true",
        "null",
        "nan",
        "Inf",
        "None",
        "café",
        "a.b-",
        "a b",
        "0.5",
        "x=1",
        "it's",
        [8, 16],
        {"group": 4},
    ],
)
def test_a_value_is_typed_so_that_hydra_reads_it_back(value: Any) -> None:
    (override,) = configs.parse([f"key={as_word(value)}"])
    assert override.value() == value and type(override.value()) is type(value)
