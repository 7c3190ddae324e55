"""Every file under configs/ composes and trains; every arm of every study changes what its file says it changes."""

import functools
import itertools
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from cnnexp import cli, config, record
from cnnexp.data.download import IMAGENETTE_CLASSES
from cnnexp.job import Job
from cnnexp.record import RunRecord
from cnnexp.sweep.sweep import Sweep

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
FILES = {str(file.relative_to(CONFIGS).with_suffix("")): file for file in sorted(CONFIGS.rglob("*.yaml"))}
OWN_PLUS = ("arm", "aug", "pretrain", "study")  # groups that are not in the defaults list


def names(group: str) -> list[str]:
    """Return the choices of a group."""
    return [name.removeprefix(f"{group}/") for name in FILES if name.rpartition("/")[0] == group]


def load(name: str) -> dict[str, Any]:
    """Read a config file by itself, without Hydra."""
    return yaml.safe_load(FILES[name].read_text()) or {}


@functools.cache
def composed(*overrides: str) -> dict[str, Any]:
    """Compose and check."""
    plain = config.resolve(config.compose(list(overrides)))
    config.check(plain)
    return plain


def header(name: str) -> str:
    """Return the comment that a file starts with."""
    return re.match(r"(#[^\n]*\n)*", FILES[name].read_text()).group()  # type: ignore[union-attr]


def commands(name: str) -> list[str]:
    """Return what the commands of a file's header train, but for those with a place to fill in."""
    found = re.findall(r"cnnexp train((?: [^ \n]+)+)", header(name))
    return [words for words in found if not re.search(r"NAME|/path/to|\.\.\.", words)]


@pytest.mark.parametrize("name", FILES)
def test_every_file_says_what_it_is_and_how_to_run_it(name: str) -> None:
    assert re.search(r"^# Run: +(cnnexp train|make) ?", header(name), re.MULTILINE), header(name)
    assert header(name).removeprefix("# @package _global_\n").startswith("# ")


@pytest.mark.parametrize("name", [name for name in FILES if commands(name)])
def test_the_commands_of_the_headers_compose(name: str) -> None:
    for line in commands(name):
        words = [word for word in shlex.split(line) if "=" in word]  # no flags
        first = [re.sub(r"=([^\[{,]+),.*", r"=\1", word) for word in words]  # of the values that a sweep takes
        composed(*first)


@pytest.mark.parametrize("name", [name for name in FILES if "/" in name and not name.startswith("recipe/")])
def test_every_choice_composes(name: str) -> None:
    group, _, choice = name.rpartition("/")
    plain = composed(f"{'+' if group in OWN_PLUS else ''}{group}={choice}")
    own = load(name)
    if group in config.GIVEN:
        inherited = {} if "defaults" not in own else load(f"{group}/{own.pop('defaults')[0]}")
        assert plain[group] == {**inherited, **own}


@pytest.mark.parametrize("name", names("aug"))
def test_an_alias_is_what_it_names(name: str) -> None:
    assert composed(f"+aug={name}") == composed(f"augmentation={name}")


@pytest.mark.parametrize("data", names("recipe"))
def test_a_recipe_comes_with_its_data_and_typed_values_win(data: str) -> None:
    recipe = record.flatten(load(f"recipe/{data}"))
    plain = record.flatten(composed(f"data={data}"))
    assert {key: plain[key] for key in recipe} == recipe
    assert composed(f"data={data}", "batch_size=77")["batch_size"] == 77


# Training: data sets, networks, augmentations, optimisers and schedules go side by side, each at least once.
GROUPS = ("data", "model", "augmentation", "optimizer", "scheduler")
ROWS = [
    [f"{group}={row[i]}" for i, group in enumerate(GROUPS)]
    for row in itertools.islice(
        zip(*(itertools.cycle(names(g)) for g in GROUPS), strict=False), max(len(names(g)) for g in GROUPS)
    )
]


def images(root: Path, parts: tuple[str, ...], classes: list[str], suffix: str) -> None:
    """Make a tree of 8 px images, 8 of each class in every part."""
    generator = np.random.default_rng(0)
    for part, name in itertools.product(parts, classes):
        (root / part / name).mkdir(parents=True)
        for number in range(8):
            pixels = generator.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(root / part / name / f"{number}{suffix}")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with small stand-ins for the data sets on disk."""
    root = tmp_path_factory.mktemp("data")
    images(root / "imagenette2-160", ("train", "val"), list(IMAGENETTE_CLASSES), ".JPEG")
    images(root / "cifar10-jpeg", ("train", "test"), ["cat", "dog"], ".jpg")
    images(root / "own", ("train", "val"), ["cat", "dog"], ".png")
    return root


@pytest.fixture
def cifar10(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put 40 images in the place of what torchvision downloads and checks."""

    def archive(root: str, train: bool, download: bool) -> SimpleNamespace:
        assert download
        pixels = np.random.default_rng(train).integers(0, 256, (40, 32, 32, 3), np.uint8)
        return SimpleNamespace(data=pixels, targets=[i % 10 for i in range(40)], classes=list("abcdefghij"))

    monkeypatch.setattr("torchvision.datasets.CIFAR10", archive)


def small(data: str, root: Path) -> list[str]:
    """Return overrides that make a data set small."""
    drawn = ["data.num_train=40", "data.num_test=20"]
    place = [f"data.root={root / 'own' if data == 'folder' else root}"]
    return ["data.size=8", "data.val_fraction=0.2", *(drawn if data in ("shapes", "textures") else place)]


@pytest.mark.usefixtures("cifar10")
@pytest.mark.parametrize("choices", ROWS, ids=" ".join)
def test_every_choice_trains(choices: list[str], root: Path, outputs: Path, only: Callable[[], RunRecord]) -> None:
    data = choices[0].removeprefix("data=")
    shared = ["epochs=2st", "batch_size=4", "device=cpu", "device.threads=1", f"outputs={outputs}"]
    pooled_often = ["data.size=16"] if "model=vgg_like" in choices else []
    assert cli.main(["train", *choices, *small(data, root), *pooled_often, *shared]) == 0
    run = only()
    assert run.status == "done"
    assert run.info["data"]["name"] == data
    assert run.info["schedule"]["total_steps"] == 2
    assert [row["split"] for row in run.rows()] == ["train", "val"]


@pytest.mark.parametrize("choice", [f"+{group}={name}" for group in ("arm", "pretrain") for name in names(group)])
def test_every_arm_trains(choice: str, outputs: Path, only: Callable[[], RunRecord]) -> None:
    # The weights that arms start from are not to be had in a test: those of a fresh network stand in for them.
    more = ["data.size=8", "data.num_train=40", "data.num_test=20", "backbone.weights=none", f"outputs={outputs}"]
    assert cli.main(["train", *more, "epochs=2st", "batch_size=4", "device=cpu", "device.threads=1", choice]) == 0
    assert only().status == "done"


def test_devices_that_are_there_train(train: Callable[..., int], only: Callable[[], RunRecord]) -> None:
    assert train("device=auto", "epochs=2st") == 0
    assert only().info["device"]["kind"] in ("cpu", "cuda", "mps")


# Studies and their arms.
STUDIES = {name: load(f"study/{name}") for name in names("study")}
ARMS = [(study, arm) for study, own in STUDIES.items() for arm in own["hydra"]["sweeper"]["params"]["+arm"].split(",")]


def changes(arm: str) -> dict[str, Any]:
    """Return what an arm's file asks for, read without Hydra: {"model.norm": "batch", ...}."""
    own = load(f"arm/{arm}")
    asked: dict[str, Any] = {}
    for entry in own.pop("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            asked.update(changes(entry))
        elif isinstance(entry, dict):
            ((key, choice),) = entry.items()
            group = key.removeprefix("override /")
            asked.update({f"{group}.{k}": v for k, v in record.flatten(load(f"{group}/{choice}")).items()})
    return {**asked, **record.flatten(own)} if own else asked


@pytest.mark.parametrize(("study", "arm"), ARMS)
def test_every_override_of_an_arm_takes_effect(study: str, arm: str) -> None:
    plain = composed(f"+study={study}", f"+arm={arm}")
    leaves = record.flatten(plain)
    for key, value in changes(arm).items():
        found = plain["backbone"]["weights"] if value == "${backbone.weights}" else value
        assert leaves.get(key, plain["model"].get(key.removeprefix("model."))) == found, f"{key} of arm {arm}"
    baseline = composed(f"+study={study}", f"+arm={STUDIES[study]['study']['baseline']}")
    assert (plain == baseline) == (not changes(arm)), "an arm that changes something differs from the baseline"


@pytest.mark.parametrize("study", STUDIES)
def test_the_arms_of_a_study_are_different_and_have_a_baseline(study: str) -> None:
    arms = [arm for name, arm in ARMS if name == study]
    configs = {arm: config.canonical(composed(f"+study={study}", f"+arm={arm}")) for arm in arms}
    for one, other in itertools.combinations(arms, 2):
        assert configs[one] != configs[other], f"{one} and {other}"
    assert STUDIES[study]["study"]["baseline"] in arms
    params = STUDIES[study]["hydra"]["sweeper"]["params"]
    assert next(iter(params.items())) == ("+study", study), "a study names itself first: study < arm < what was typed"


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Collect what a sweep would run instead of running it."""
    found: list[Job] = []
    monkeypatch.setattr(Sweep, "run", lambda self: found.extend(self.waiting) or 0)
    return found


@pytest.fixture
def own_study(tmp_path: Path, outputs: Path) -> list[str]:
    """Return a request for a person's own study of two arms in a folder of their own."""
    study = {"mode": "MULTIRUN", "sweeper": {"params": {"+study": "mine", "+arm": "one,two", "seed": "0,1"}}}
    texts = {
        "study/mine": {"epochs": "5st", "batch_size": 5, "study": {"name": "mine", "baseline": "one"}, "hydra": study},
        "arm/one": {"batch_size": 6},
        "arm/two": {"batch_size": 9, "optimizer": {"lr": 0.5}},
    }
    for name, content in texts.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / f"{name}.yaml").write_text("# @package _global_\n" + yaml.safe_dump(content))
    return ["train", "--config-dir", str(tmp_path / "own"), "slots=cpu:1", f"outputs={outputs}", "data.size=8"]


def test_study_then_arm_then_what_was_typed(own_study: list[str], jobs: list[Job]) -> None:
    assert cli.main([*own_study, "label_smoothing=0.5", "+study=mine"]) == 0
    assert [(job.arm, job.seed) for job in jobs] == [("one", 0), ("two", 0), ("one", 1), ("two", 1)], "breadth first"
    assert {job.arm: job.config["batch_size"] for job in jobs} == {"one": 6, "two": 9}
    assert {(job.study, job.config["epochs"], job.config["label_smoothing"]) for job in jobs} == {("mine", "5st", 0.5)}
    assert [job.config["optimizer"]["lr"] for job in jobs[:2]] == [0.001, 0.5]
    assert [job.changes for job in jobs[:2]] == [["batch_size=6"], ["batch_size=9", "optimizer.lr=0.5"]]


@pytest.mark.parametrize("typed", [["batch_size=7", "+study=mine"], ["+study=mine", "batch_size=7"]])
def test_what_was_typed_wins_wherever_it_stands(own_study: list[str], jobs: list[Job], typed: list[str]) -> None:
    assert cli.main([*own_study, *typed, "seed=4"]) == 0
    assert [(job.arm, job.seed, job.config["batch_size"]) for job in jobs] == [("one", 4, 7), ("two", 4, 7)]


def test_one_run_of_a_study(own_study: list[str], jobs: list[Job]) -> None:
    assert cli.main([*own_study, "+arm=two", "seed=3", "+study=mine"]) == 0
    assert [(job.arm, job.seed, job.config["epochs"]) for job in jobs] == [("two", 3, "5st")]


def test_equal_arms_are_named(own_study: list[str], jobs: list[Job], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*own_study, "+study=mine", "batch_size=7", "optimizer.lr=0.5"]) == 2
    assert "arms 'one' and 'two' are equal after composition" in capsys.readouterr().err
    assert cli.main([*own_study, "+study=ablation", "+arm=baseline,augmentation", "+aug=full"]) == 2
    assert "arms 'baseline' and 'augmentation' are equal after composition" in capsys.readouterr().err
    assert not jobs
