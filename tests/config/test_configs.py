"""Every file under configs/ composes and trains; every arm of every study changes what its file says it changes."""

import contextlib
import functools
import itertools
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from public_sets import DRAWN

from cnnexp import cli
from cnnexp.claims.grammar import parse
from cnnexp.config import checks
from cnnexp.config import compose as config
from cnnexp.config.arms import CHOSEN, read_arms
from cnnexp.config.composer import Composer
from cnnexp.config.fingerprint import canonical
from cnnexp.config.keys import flatten
from cnnexp.config.schema import GIVEN, SWEEP
from cnnexp.config.set_by_data import print_set_by_data
from cnnexp.data.download import IMAGENETTE_CLASSES
from cnnexp.records.run_record import RunRecord
from cnnexp.sweep.scheduler import Scheduler
from cnnexp.training.plan import Plan

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = {str(file.relative_to(CONFIGS).with_suffix("")): file for file in sorted(CONFIGS.rglob("*.yaml"))}
WITH_PLUS = ("pretrain", "preset", "study")  # groups that are not in the defaults list


def names(group: str) -> list[str]:
    """Return the choices of a group."""
    return [name.removeprefix(f"{group}/") for name in FILES if name.rpartition("/")[0] == group]


def load(name: str) -> dict[str, Any]:
    """Read a config file by itself, without Hydra."""
    return yaml.safe_load(FILES[name].read_text()) or {}


def merged(first: Any, second: Any) -> Any:
    """Return two nested mappings as one; where both have a value, the second's."""
    if not isinstance(first, dict) or not isinstance(second, dict):
        return second
    return {**first, **{key: merged(first.get(key), value) for key, value in second.items()}}


@functools.cache
def composer() -> Composer:
    """Return what composes the runs of this file: each choice of groups once, as a command does."""
    with config.loader() as loader:
        return Composer(loader)


@functools.cache
def composed(*overrides: str) -> dict[str, Any]:
    """Compose and check."""
    plain, _ = composer()(config.prepare(list(overrides)))
    checks.check(plain)
    return plain


def header(name: str) -> str:
    """Return the comment that a file starts with."""
    return re.match(r"(#[^\n]*\n)*", FILES[name].read_text()).group()  # type: ignore[union-attr]


def commands(name: str) -> list[str]:
    """Return what the commands of a file's header train, but for those with a place to fill in."""
    found = re.findall(r"cnnexp train((?: [^ \n]+)+)", header(name))
    return [words for words in found if not re.search(r"NAME|/path/to|\.\.\.", words)]


def check_installed(name: str) -> None:
    """Skip a test of a choice whose optional library is not there."""
    if name.endswith(("/timm", "=timm")):
        pytest.importorskip("timm")


@pytest.mark.parametrize("name", FILES)
def test_every_file_says_what_it_is_and_how_to_run_it(name: str) -> None:
    assert re.search(r"^# Run: +(cnnexp train|make) ?", header(name), re.MULTILINE), header(name)
    assert header(name).removeprefix("# @package _global_\n").startswith("# ")


@pytest.mark.integration
@pytest.mark.parametrize("name", [name for name in FILES if commands(name)])
def test_the_commands_of_the_headers_compose(name: str) -> None:
    check_installed(name)
    for line in commands(name):
        words = [word for word in shlex.split(line) if "=" in word]  # no flags
        first = [re.sub(r"=([^\[{,]+),.*", r"=\1", word) for word in words]  # of the values that a sweep takes
        composed(*first)


def test_there_are_few_files() -> None:
    assert len(FILES) < 90


@pytest.mark.integration
@pytest.mark.parametrize(
    "name", [name for name in FILES if "/" in name and not name.startswith(("data/shared/", "data/of_"))]
)
def test_every_choice_composes(name: str) -> None:
    check_installed(name)
    group, _, choice = name.rpartition("/")
    plain = composed(f"{'+' if group in WITH_PLUS else ''}{group}={choice}")
    own = load(name)
    if group in GIVEN:
        inherited = {} if "defaults" not in own else load(f"{group}/{own.pop('defaults')[0]}")
        found = plain if group in own else plain[group]  # a data set's file may set more than the data
        inherited = {group: inherited} if group in own else inherited
        assert {key: found[key] for key in own} == merged({key: inherited.get(key) for key in own}, own)
        assert group in own or set(found) == set(inherited) | set(own)


@pytest.mark.integration
@pytest.mark.parametrize("name", names("augmentation"))
def test_augmentation_has_a_short_name(name: str) -> None:
    assert composed(f"+aug={name}") == composed(f"aug={name}") == composed(f"augmentation={name}")


BESIDE_DATA = {
    name: {k: v for k, v in load(f"data/{name}").items() if k not in ("data", "defaults")}
    for name in ("postcards", "textures")
}


@pytest.mark.integration
@pytest.mark.parametrize("data", BESIDE_DATA)
def test_what_a_data_set_sets_beside_the_data_loses_to_what_was_typed(
    data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = flatten(BESIDE_DATA[data])
    plain = flatten(composed(f"data={data}"))
    assert "batch_size" in settings and {key: plain[key] for key in settings} == settings
    typed = config.compose([f"data={data}", "batch_size=77"], with_hydra=True)
    plain = config.resolve(typed)
    assert plain["batch_size"] == 77
    print_set_by_data([(plain, typed.hydra)])
    entries = [entry for entry in load(f"data/{data}")["defaults"] if isinstance(entry, dict)]
    groups = {key.removeprefix("override /"): name for entry in entries for key, name in entry.items()}
    printed = ", ".join(f"{key}={value}" for key, value in (settings | groups).items() if key != "batch_size")
    assert capsys.readouterr().out == (f"data={data} sets {printed}\n" if printed else "")


# Training: data sets, networks, augmentations, optimisers and schedules go side by side, each at least once.
GROUPS = ("data", "model", "augmentation", "optimizer", "scheduler")
SMALLEST = {
    "vgg_like": 16,
    "conv4_unpadded": 24,
    "conv4_unpadded_norm": 24,
}  # pixels that a network needs; the others take 8
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
    listed = [f"{file.relative_to(root)},{file.parent.name}" for file in sorted((root / "own").rglob("*.png"))]
    (root / "labels.csv").write_text("\n".join(["path,label", *listed]))
    DRAWN["MNIST"](root)
    return root


@pytest.fixture
def cifar10(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put 40 images in the place of what is downloaded, and of what torchvision checks."""

    def archive(root: str, train: bool, download: bool) -> SimpleNamespace:
        assert not download
        pixels = np.random.default_rng(train).integers(0, 256, (40, 32, 32, 3), np.uint8)
        return SimpleNamespace(data=pixels, targets=[i % 10 for i in range(40)], classes=list("abcdefghij"))

    monkeypatch.setattr("torchvision.datasets.CIFAR10", archive)
    monkeypatch.setattr("cnnexp.data.download.find", lambda archive, root: root / archive.folder)


def small(data: str, root: Path) -> list[str]:
    """Return overrides that make a data set small."""
    drawn = ["data.num_train=40", "data.num_test=20"]
    place = [f"data.root={root / 'own' if data == 'folder' else root}"]
    place = [f"data.file={root / 'labels.csv'}"] if data == "csv" else place
    few = ["data.val_fraction=0.2", "data.train_limit=16", "data.test_limit=10"]
    return [*few, *(drawn if data in ("postcards", "textures") else place)]


@pytest.mark.integration
@pytest.mark.usefixtures("cifar10")
@pytest.mark.parametrize("choices", ROWS, ids=" ".join)
def test_every_choice_trains(choices: list[str], root: Path, outputs: Path, only: Callable[[], RunRecord]) -> None:
    check_installed(choices[1])
    data = choices[0].removeprefix("data=")
    shared = ["epochs=2st", "batch_size=4", "device=cpu", "device.threads=1", f"outputs={outputs}"]
    size = f"data.size={SMALLEST.get(choices[1].removeprefix('model='), 8)}"
    assert cli.main(["train", *choices, *small(data, root), size, *shared]) == 0
    run = only()
    assert run.status == "done"
    assert run.info["data"]["name"] == (data if data != "torchvision" else "MNIST")
    assert run.info["schedule"]["total_steps"] == 2
    assert [row["split"] for row in run.rows()] == ["train", "val"]


@pytest.mark.integration
@pytest.mark.parametrize("name", names("pretrain"))
def test_every_pretraining_trains(name: str, outputs: Path, only: Callable[[], RunRecord]) -> None:
    more = ["data.size=8", "data.num_train=40", "data.num_test=20", f"outputs={outputs}"]
    shared = ["epochs=2st", "batch_size=4", "device=cpu", "device.threads=1"]
    assert cli.main(["train", *more, *shared, f"+pretrain={name}"]) == 0
    assert only().status == "done"


@pytest.mark.integration
def test_devices_that_are_there_train(train: Callable[..., int], only: Callable[[], RunRecord]) -> None:
    assert train("device=auto", "epochs=2st") == 0
    assert only().info["device"]["kind"] in ("cpu", "cuda", "mps")


# Studies and their arms. An arm is what varies, the seed apart: ("+arm=dropout",), or a point of a grid,
# ("optimizer.lr=0.002", "model.init.normal.std=0.05").
Arm = tuple[str, ...]
STUDIES = {name: load(f"study/{name}") for name in names("study")}


def axes(study: str) -> dict[str, list[str]]:
    """Return what a study varies beside its seed: {"+arm": ["baseline", "dropout"]}."""
    own = STUDIES[study]["study"]
    if "arms" in own:
        return {"+arm": list(own["arms"])}
    return {key: [str(value) for value in values] for key, values in own["grid"].items()}


def arms(study: str) -> list[Arm]:
    """Return the arms of a study."""
    keys, values = axes(study).keys(), axes(study).values()
    return [tuple(f"{k}={v}" for k, v in zip(keys, row, strict=True)) for row in itertools.product(*values)]


ARMS = [(study, arm) for study in STUDIES for arm in arms(study)]
NAMED = [(study, arm) for study in STUDIES for arm in axes(study).get("+arm", [])]


def arm_name(arm: Arm) -> str:
    """Return how a run of this arm is called."""
    overrides = config.parse(list(arm))
    return ",".join(str(o.value()) if o.key_or_group == "arm" else f"{o.key_or_group}={o.value()}" for o in overrides)


def parts(study: str, arm: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Return what an arm asks for, by dotted keys: choices of groups, and {"model.norm": "batch", ...}."""
    content = STUDIES[study]["study"]["arms"][arm]
    choices, values = dict[str, str](), dict[str, Any]()
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            other = parts(study, part)
        else:
            chosen = {key: value for key, value in part.items() if key in CHOSEN}
            other = chosen, {k: v for k, v in flatten(part).items() if k and k not in chosen}
        choices, values = choices | other[0], values | other[1]
    return choices, values


def changes(study: str, arm: Arm) -> dict[str, Any]:
    """Return every value that an arm asks for: {"model.norm": "batch", ...}."""
    asked: dict[str, Any] = {}
    for override in config.parse(list(arm)):
        key, value = override.key_or_group, override.value()
        choices, values = parts(study, str(value)) if key == "arm" else ({}, {key: value})
        for group, choice in choices.items():
            own = {k: v for k, v in load(f"{group}/{choice}").items() if k != "defaults"}
            asked |= {f"{group}.{k}": v for k, v in flatten(own).items()}
        replaced = {whole for whole in asked if any(k.startswith(f"{whole}.") for k in values)}
        asked = {k: v for k, v in asked.items() if k not in replaced} | values
    return asked


@pytest.mark.parametrize(("study", "arm"), NAMED)
def test_what_an_arm_changes_is_said_once_and_as_it_is(study: str, arm: str) -> None:
    choices, values = parts(study, arm)
    changes = read_arms(STUDIES[study]["study"])[arm].changes()
    said = dict(change.split("=", 1) for change in changes)
    assert len(said) == len(changes)
    assert {key: said.pop(key) for key in choices} == choices
    assert said == {key: "null" if value is None else str(value) for key, value in values.items()}


@pytest.mark.parametrize("study", STUDIES)
def test_every_setting_of_a_study_takes_effect(study: str) -> None:
    own = {key: value for key, value in STUDIES[study].items() if key != "study"}
    own["study"] = {key: value for key, value in STUDIES[study]["study"].items() if key not in SWEEP}
    plain = composed(f"+study={study}")
    leaves = flatten(plain)
    for entry in own.pop("defaults", []):
        ((group, choice),) = entry.items()
        builder = load(f"{group.removeprefix('override /')}/{choice}").get("_target_")
        assert builder in (plain[group.removeprefix("override /")]["_target_"], None)
    for key, value in flatten(own).items():
        assert leaves[key] == value, key


@pytest.mark.integration
@pytest.mark.parametrize("study", STUDIES)
def test_every_override_of_an_arm_takes_effect_and_no_two_arms_are_equal(study: str) -> None:
    composed_arms = {arm: composed(f"+study={study}", *arm) for arm in arms(study)}
    for arm, plain in composed_arms.items():
        leaves = flatten(plain)
        for key, value in changes(study, arm).items():
            found = plain["backbone"]["weights"] if value == "${backbone.weights}" else value
            assert leaves.get(key, plain["model"].get(key.removeprefix("model."))) == found, f"{key} of arm {arm}"
    configs = {arm_name(arm): canonical(plain) for arm, plain in composed_arms.items()}
    for one, other in itertools.combinations(configs, 2):
        assert configs[one] != configs[other], f"{one} and {other}"
    assert STUDIES[study]["study"]["baseline"] in configs
    assert STUDIES[study]["study"]["seeds"] == list(range(len(STUDIES[study]["study"]["seeds"])))
    assert STUDIES[study]["study"]["name"] == study


@pytest.mark.parametrize("study", STUDIES)
def test_the_header_of_a_study_says_what_was_reported(study: str) -> None:
    for word in ("Question", "Run", "Expect", "Reported", "Assumed"):
        assert re.search(rf"^# {word}: ", header(f"study/{study}"), re.MULTILINE), word


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_asks_about_all_its_arms_and_names_all_its_sources(study: str) -> None:
    own = STUDIES[study]["study"]
    named = {term.arm for text in own.get("claims", []) for term in parse(text).terms}
    if "+arm" in axes(study) and ("claims" in own or "reported" in own):
        assert set(axes(study)["+arm"]) <= named | set(own.get("reported", {}))
    told = re.search(r"^# Reported: (.*?)^# Assumed: ", header(f"study/{study}"), re.MULTILINE | re.DOTALL)
    assert told
    sources = set(re.findall(r"\b[A-E]\b", own.get("source", "")))
    assert sources >= set(re.findall(r"\(report ([A-E])", told[1])) or "source" not in own


NUMBERS = {1: "one point", 5: "five points", 10: "ten points"}


@pytest.mark.parametrize("study", STUDIES)
def test_a_number_that_only_a_claim_names_is_told_as_assumed(study: str) -> None:
    assumed = " ".join(header(f"study/{study}").partition("# Assumed: ")[2].replace("#", "").split())
    for text in STUDIES[study]["study"].get("claims", []):
        if number := parse(text).threshold * (not text.startswith("std(")):
            assert NUMBERS[int(number)] in assumed, text


@pytest.mark.parametrize("study", STUDIES)
def test_the_last_epoch_counts_where_the_header_says_so(study: str) -> None:
    says = "the last epoch counts" in " ".join(header(f"study/{study}").replace("#", "").split())
    assert (composed(f"+study={study}")["keep_epoch"] == "last") == says
    assert says == (study in ("lenet_vgg", "mlp_dropout"))


def test_the_arms_of_the_optimizers_study_set_the_optimizer_only() -> None:
    for arm in axes("mlp_optimizers")["+arm"]:
        assert parts("mlp_optimizers", arm) == ({"optimizer": arm}, {})


@pytest.mark.parametrize("study", STUDIES)
def test_no_study_claims_what_cannot_hold_where_arms_are_equal(study: str) -> None:
    for text in STUDIES[study]["study"].get("claims", []):
        claim = parse(text)
        assert not claim.or_equal or claim.threshold, f"{text}: not better needs a margin: a - b < 1 points"


def cheap(study: str, arm: Arm) -> bool:
    """Tell whether an arm trains in the fast tests: those of the ablation, and the first one of every other study."""
    return study == "ablation" or (
        arm == arms(study)[0] and study not in ("seed_variance", "gelu_pixel_norm")
    )  # those take 5 s


TRAINED = [
    pytest.param(study, arm, marks=[] if cheap(study, arm) else pytest.mark.slow, id=f"{study} {arm_name(arm)}")
    for study, arm in ARMS
]


@pytest.mark.integration
@pytest.mark.parametrize(("study", "arm"), TRAINED)
def test_every_arm_trains(study: str, arm: Arm, outputs: Path, only: Callable[[], RunRecord]) -> None:
    # The weights that arms start from are not available in a test: those of a fresh network stand in for them.
    groups = {group: choice for entry in STUDIES[study].get("defaults", []) for group, choice in entry.items()}
    model = groups.get("override /model", "custom")
    if arm[0].startswith("+arm="):
        model = parts(study, arm[0].removeprefix("+arm="))[0].get("model", model)
    batch_size = [] if "batch_size" in axes(study) else ["batch_size=4", "data.train_limit=16"]
    data = ["data=postcards", "data.num_train=120", "data.num_test=10", f"data.size={SMALLEST.get(model, 8)}"]
    shared = ["epochs=2st", "device=cpu", "device.threads=1", "backbone.weights=none", f"outputs={outputs}"]
    assert cli.main(["train", f"+study={study}", "hydra.mode=RUN", *arm, *data, *batch_size, *shared]) == 0
    run = only()
    assert run.status == "done"
    assert run.info["schedule"]["total_steps"] == 2
    assert (run.info["study"], run.info["arm"]) == (study, arm_name(arm)) or not arm[0].startswith("+arm=")


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Collect what a sweep would run instead of running it."""
    found: list[Plan] = []
    monkeypatch.setattr(Scheduler, "run", lambda self: found.extend(self.queue) or 0)
    return found


OWN_STUDY = """\
# @package _global_
epochs: 5st
batch_size: 5
study:
  name: mine
  baseline: one
  arms:
    one: {batch_size: 6}
    two: {batch_size: 9, optimizer.lr: 0.5}
  seeds: [0, 1]
"""


@pytest.fixture
def own_study(tmp_path: Path, outputs: Path) -> Iterator[list[str]]:
    """Return a request for a person's own study, which is one file, asked for from an empty folder."""
    (tmp_path / "own" / "study").mkdir(parents=True)
    (tmp_path / "own" / "study" / "mine.yaml").write_text(OWN_STUDY)
    (tmp_path / "empty").mkdir()
    with contextlib.chdir(tmp_path / "empty"):
        yield ["train", "--config-dir", str(tmp_path / "own"), "slots=cpu:1", f"outputs={outputs}", "data.size=8"]


@pytest.mark.integration
def test_study_then_arm_then_what_was_typed(own_study: list[str], plans: list[Plan]) -> None:
    assert cli.main([*own_study, "loss.label_smoothing=0.5", "+study=mine"]) == 0
    assert [(plan.arm, plan.seed) for plan in plans] == [("one", 0), ("two", 0), ("one", 1), ("two", 1)], (
        "breadth first"
    )
    assert {plan.arm: plan.config["batch_size"] for plan in plans} == {"one": 6, "two": 9}
    assert {(plan.study, plan.config["epochs"], plan.config["loss"]["label_smoothing"]) for plan in plans} == {
        ("mine", "5st", 0.5)
    }
    assert [plan.config["optimizer"]["lr"] for plan in plans[:2]] == [0.001, 0.5]
    assert [plan.changes for plan in plans[:2]] == [["batch_size=6"], ["batch_size=9", "optimizer.lr=0.5"]]


@pytest.mark.parametrize(
    ("name", "content", "asked", "message"),
    [
        ("mine.yaml", OWN_STUDY.encode("utf-8-sig"), "mine", "mine.yaml begins with a byte-order mark (BOM)"),
        ("mine.yaml", OWN_STUDY.encode("utf-16"), "mine", "mine.yaml is not UTF-8; save it in this encoding"),
        ("mine.yaml", "# \xe9\n".encode("latin-1"), "mine", "mine.yaml is not UTF-8; save it in this encoding"),
        ("his.yml", OWN_STUDY.encode(), "his", "+study=his: files of configs end in .yaml; rename "),
        ("mine.yaml", OWN_STUDY.encode(), "mine.yml", "study: given 'mine.yml'; leave the suffix off: study=mine"),
    ],
)
def test_a_study_that_another_system_wrote(
    own_study: list[str], capsys: pytest.CaptureFixture[str], name: str, content: bytes, asked: str, message: str
) -> None:
    (Path(own_study[2]) / "study" / name).write_bytes(content)
    assert cli.main([*own_study, f"+study={asked}", "--plan"]) == 2
    assert message in capsys.readouterr().err


def test_a_choice_of_another_folder_is_found(own_study: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.chdir(Path(own_study[2]).parent):
        assert cli.main(["train", "+study=mine", "--plan"]) == 2
        assert "; to use own/study/mine.yaml, add --config-dir own\n" in capsys.readouterr().err
        assert cli.main(["train", "+study=own/study/mine.yaml", "--plan"]) == 2
        assert "is typed by its name, --config-dir own +study=mine\n" in capsys.readouterr().err


@pytest.mark.integration
@pytest.mark.parametrize("arms", [[], ["+arm=one"], ["+arm=one,two"]])
def test_a_key_that_only_some_networks_have_is_not_of_some_arms(
    own_study: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arms: list[str]
) -> None:
    """No arm is to be left out, and a sweep of many runs is not composed again to find that out."""
    made = list[object]()
    monkeypatch.setattr(
        Composer, "compose", lambda self, words, to=Composer.compose: made.append(words) or to(self, words)
    )
    words = ["model=custom,resnet18", "model.norm=batch", "seed=range(40)", *arms]
    assert cli.main([*own_study, "-m", "+study=mine", *words]) == 2
    assert "model.norm: is not in the config yet" in capsys.readouterr().err
    assert len(made) < 50, "each of the first network, most of them from memory"


def test_what_the_data_gives_is_not_set(own_study: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (Path(own_study[2]) / "model").mkdir()
    (Path(own_study[2]) / "model" / "mine.yaml").write_text(
        "_target_: own_network.OwnResidual\nwidth: 8\nclasses: 10\n"
    )
    assert cli.main([*own_study, "model=mine"]) == 2
    assert "model.classes: cnnexp gives it, from the data and the config; leave it out" in capsys.readouterr().err


@pytest.mark.integration
@pytest.mark.parametrize("typed", [["batch_size=7", "+study=mine"], ["+study=mine", "batch_size=7"]])
def test_what_was_typed_wins_wherever_it_stands(own_study: list[str], plans: list[Plan], typed: list[str]) -> None:
    assert cli.main([*own_study, *typed, "seed=4"]) == 0
    assert [(plan.arm, plan.seed, plan.config["batch_size"]) for plan in plans] == [("one", 4, 7), ("two", 4, 7)]


@pytest.mark.integration
@pytest.mark.parametrize("study", [study for study in STUDIES if "+arm" not in axes(study)])
def test_the_points_of_a_grid_are_arms_and_one_is_the_baseline(study: str, outputs: Path, plans: list[Plan]) -> None:
    tiny = ["data=postcards", "data.size=8", "data.num_train=160", "data.num_test=20", "slots=cpu:1"]
    tiny.append(f"outputs={outputs}")
    assert cli.main(["train", f"+study={study}", *tiny, "seed=3"]) == 0
    assert [plan.arm for plan in plans] == [arm_name(arm) for arm in arms(study)]
    assert STUDIES[study]["study"]["baseline"] in [plan.arm for plan in plans]
    assert {plan.seed for plan in plans} == {3}


@pytest.mark.integration
@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_preset_wins_over_study_and_arm_and_loses_to_what_was_typed(
    own_study: list[str], plans: list[Plan], where: int
) -> None:
    words = ["+arm=two", "+study=mine"]
    assert cli.main([*own_study, *words[:where], "+preset=small", *words[where:], "seed=0"]) == 0
    assert cli.main([*own_study, "epochs=5st", *words[:where], "+preset=small", *words[where:], "seed=0"]) == 0
    scaled, typed = (plan.config for plan in plans)
    assert (scaled["epochs"], scaled["data"]["train_limit"], scaled["batch_size"]) == ("4ep", 2000, 9)
    assert (typed["epochs"], typed["data"]["test_limit"]) == ("5st", 1000)
    assert {plan.arm for plan in plans} == {"two"}


def passes(leaves: dict[str, Any]) -> int:
    """Return how many images a run trains on, over its epochs; Imagenette, the smallest set, has 9,469."""
    return int(str(leaves["epochs"]).removesuffix("ep")) * (leaves.get("data.train_limit") or 9469)


@pytest.mark.integration
@pytest.mark.parametrize("preset", ["small", "small_64"])
def test_a_small_version_is_smaller_than_every_study(preset: str) -> None:
    own = flatten(composed(f"+preset={preset}"))
    for study in STUDIES:
        leaves = flatten(composed(f"+study={study}", f"+preset={preset}"))
        whole = flatten(composed(f"+study={study}"))
        assert (leaves["epochs"], leaves["data.train_limit"]) == (own["epochs"], own["data.train_limit"])
        assert passes(own) < passes(whole)
        if re.search(rf"\+preset={preset}\b", header(f"study/{study}")):
            assert leaves["data.size"] <= whole["data.size"]
            assert leaves["data.size"] <= 64


@pytest.mark.integration
def test_one_run_of_a_study(own_study: list[str], plans: list[Plan]) -> None:
    assert cli.main([*own_study, "+arm=two", "seed=3", "+study=mine"]) == 0
    assert [(plan.arm, plan.seed, plan.config["epochs"]) for plan in plans] == [("two", 3, "5st")]


@pytest.mark.integration
def test_equal_arms_are_named(own_study: list[str], plans: list[Plan], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*own_study, "+study=mine", "batch_size=7", "optimizer.lr=0.5"]) == 2
    assert "arms 'one' and 'two' are equal after composition" in capsys.readouterr().err
    assert cli.main([*own_study, "+study=ablation", "+arm=baseline,augmentation", "aug=full"]) == 2
    assert "arms 'baseline' and 'augmentation' are equal after composition" in capsys.readouterr().err
    assert not plans
