"""Values as people type them: paths with every character, the home folder, and folders of configs."""

from pathlib import Path

import pytest

from cnnexp import cli
from cnnexp.commands.evaluate import _change
from cnnexp.config import compose as configs

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
