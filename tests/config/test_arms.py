"""The arms of a study: overrides by name, combined, and what wins over what."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cnnexp import cli
from cnnexp.config import compose as config
from cnnexp.config.arms import EXAMPLES, Arm, arm_changes, read_arms
from cnnexp.config.keys import COUNTS, counts
from cnnexp.errors import UserError
from cnnexp.records.run_record import RunRecord
from cnnexp.sweep.expand import axes
from cnnexp.sweep.scheduler import Scheduler
from cnnexp.training.plan import Plan

pytestmark = pytest.mark.integration

README = Path(__file__).resolve().parents[2] / "README.md"
SMALL = ["data=postcards", "data.size=8", "data.num_train=80", "data.num_test=20", "slots=cpu:1", "device=cpu"]


def arms(**given: Any) -> dict[str, Arm]:
    """Read arms."""
    return read_arms({"arms": given})


def test_overrides_are_nested_or_dotted_and_a_word_chooses_from_a_group() -> None:
    dotted = {"model": "resnet18", "model.bn": "frozen", "aug": "full", "optimizer.lr": 0.1, "batch_size": 8}
    (arm,) = arms(one=dotted).values()
    assert arm.choices == {"model": "resnet18", "augmentation": "full"}
    assert arm.values == {"model": {"bn": "frozen"}, "optimizer": {"lr": 0.1}, "batch_size": 8}
    nested = {"model": {"dropout.fc": 0.5, "dropout": {"pool": 0.1}}, "model.dropout.pool": 0.2}
    assert arms(one=nested)["one"].values == {"model": {"dropout": {"fc": 0.5, "pool": 0.2}}}
    assert arms(one=None, two={}) == dict.fromkeys(("one", "two"), Arm({}, {}))
    assert read_arms({"arms": None}) == read_arms({}) == read_arms(None) == {}


def test_a_list_combines_arms_in_its_order() -> None:
    found = arms(
        a={"optimizer": "sgd", "optimizer.lr": 0.1, "model.norm": "batch"},
        b={"optimizer": "adam", "model.dropout": {"fc": 0.5}},
        both=["a", "b"],
        more=["both", {"model.norm": "none", "model.init": {"normal": {"std": 0.1}}}],
    )
    assert found["both"] == Arm(
        {"optimizer": "adam"}, {"optimizer": {"lr": 0.1}, "model": {"norm": "batch", "dropout": {"fc": 0.5}}}
    )
    assert found["more"].values["model"] == {
        "norm": "none", "dropout": {"fc": 0.5}, "init": {"normal": {"std": 0.1}}
    }  # fmt: skip
    assert found["more"].changes() == [
        *("optimizer=adam", "optimizer.lr=0.1", "model.norm=none", "model.dropout.fc=0.5", "model.init.normal.std=0.1")
    ]


WRONG: list[tuple[Any, str]] = [
    ([1], "study.arms: given [1]; allowed: a mapping of names to overrides"),
    ({"a": {}, True: {}}, "study.arms: a name is read as the value true, not as text; choose another name, such as"),
    ({2: {}}, "study.arms: a name is read as the value 2, not as text; choose another name, such as arm_2"),
    ({"1e-4": {}}, "study.arms: a name is read as the value 0.0001, not as text; choose another name, such as arm_0"),
    ({None: {}}, "study.arms: a name is read as the value null, not as text"),
    ({"a b": {}}, "study.arms: given the name 'a b'; allowed: letters, digits, _, - and ."),
    ({"a": 3}, "study.arms.a: given 3; allowed: overrides by key, or a list of arms to combine"),
    ({"base": {}, "b": ["bse"]}, "study.arms.b: unknown arm 'bse'; choose one of base (did you mean 'base'?)"),
    ({"a": ["b"], "b": ["c"], "c": ["b"]}, "study.arms.a: combines itself (a -> b -> c -> b)"),
    ({"a": ["a"]}, "study.arms.a: combines itself (a -> a)"),
    (
        {"a": {"optimzer.lr": 1}},
        "study.arms.a.optimzer.lr: unknown key 'optimzer'; choose one of data, model, augmentation, ",
    ),
    ({"a": {"optimzer.lr": 1}}, "(did you mean 'optimizer'?)"),
    ({"a": {"seed": 1}}, "study.arms.a.seed: all arms of a study have the same seeds"),
    *(
        ({"a": {key: value}}, f"study.arms.a.{key}: given {shown}; allowed: {allowed}")
        for key, value, shown, allowed in (
            ("augmentation", ["flip", "crop"], "['flip', 'crop']", "one choice, such as augmentation: flip, or set"),
            ("aug", ["flip"], "['flip']", "one choice, such as augmentation: flip, or settings by key, such as augm"),
            ("augmentation", None, "null", "one choice, such as augmentation: none, or settings by key"),
            ("augmentation", False, "false", "one choice, such as augmentation: none, or settings by key"),
            ("optimizer", 3, "3", "one choice, such as optimizer: adagrad, or settings by key, such as optimizer: {lr"),
            ("model", ["resnet18"], "['resnet18']", "one choice, such as model: resnet18, or settings by key"),
            ("device", 3, "3", "one choice, such as device: auto, or settings by key"),
            ("mix", "mixup", "'mixup'", "settings by key, such as mix: {mixup: 0.2}"),
            ("early_stopping", 5, "5", "settings by key, such as early_stopping: {patience: 5}"),
            ("log", None, "null", "settings by key, such as log: {steps: 10st}"),
        )
    ),
    ({"a": {"defaults": ["b"]}}, "study.arms.a.defaults: unknown key 'defaults'"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_what_is_wrong_names_the_arm(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        read_arms({"arms": given})


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        ({}, {}),
        ({"arms": {"a": {}, "b": {}}, "seeds": [0, 3]}, {"+arm": "a,b", "seed": "0,3"}),
        ({"grid": {"model.norm": ["none", None], "x": [0.001, True]}}, {"model.norm": "none,null", "x": "0.001,true"}),
        ({"arms": {"a": {}}, "grid": {"x": [1]}}, "study.grid: given beside study.arms; allowed: one of them"),
        ({"grid": {"x": 1}}, "study.grid.x: given 1; allowed: a list of"),
        ({"grid": {"x": []}}, "study.grid.x: given []; allowed: at least one value"),
        ({"arms": {"a": {}}, "seeds": []}, "study.seeds: given []; allowed: at least one value"),
        ({"seeds": 3}, "study.seeds: given 3; allowed: a list of whole numbers or null"),
        ({"nme": 3}, "study.nme: unknown key 'nme'"),
        (3, "study: given 3; allowed: a mapping"),
    ],
)
def test_what_a_study_varies(study: Any, expected: Any) -> None:
    if isinstance(study, dict):
        study = {"name": "s", "arm": None, "question": None, "baseline": None, **study}
    if isinstance(expected, dict):
        assert axes(study) == expected
    else:
        with pytest.raises(UserError, match=re.escape(expected)):
            axes(study)


def test_what_makes_an_arm() -> None:
    known = arms(a={"model.norm": "batch"})
    assert arm_changes(known, "a", ["+study=s", "+arm=a", "optimizer.lr=1"]) == ["model.norm=batch"]
    typed = ["seed=1", "study.name=x", "device=cpu", "model.norm=batch", "probes=all", "+pretrain=x", "+preset=small"]
    assert arm_changes({}, None, typed) == ["model.norm=batch", "+preset=small"]
    assert arm_changes({}, None, ["a=1", "b=2"], swept={"b", "seed"}) == ["b=2"]
    with pytest.raises(UserError, match=re.escape("+arm: unknown arm 'b'; choose one of a")):
        arm_changes(known, "b", [])


def test_a_key_counts_as_its_nearest_listed_parent() -> None:
    assert counts("optimizer.lr", "fingerprint") and counts("optimizer.lr", "effect")
    assert counts("data.normalize.mean", "fingerprint") and not counts("data.root", "fingerprint")
    assert not counts("device.kind", "effect") and counts("device.precision", "effect")
    assert not counts("log.steps", "difference") and not counts("+study", "arm") and counts("logs", "difference")
    assert not counts("slots[0]", "arm")
    leaves = {key.partition(".")[0] for key in config.resolve(config.compose([]))} | {"pretrain", "search"}
    assert {key.partition(".")[0] for key in COUNTS} <= leaves, "a key that no config has"


@pytest.fixture
def own(tmp_path: Path, outputs: Path) -> Iterator[Callable[..., list[str]]]:
    """Return a function that writes a study `mine` into a folder, and returns a request for it from an empty folder."""

    def request(text: str) -> list[str]:
        (tmp_path / "own" / "study" / "mine.yaml").write_text(text)
        return ["train", "--config-dir", str(tmp_path / "own"), "+study=mine", f"outputs={outputs}", *SMALL]

    (tmp_path / "own" / "study").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    with contextlib.chdir(tmp_path / "empty"):
        yield request


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Collect what a sweep would run instead of running it."""
    found: list[Plan] = []
    monkeypatch.setattr(Scheduler, "run", lambda self: found.extend(self.queue) or 0)
    return found


def test_the_study_of_the_readme(own: Callable[..., list[str]], plans: list[Plan]) -> None:
    (text,) = re.findall(r"```yaml\n(# @package _global_\n.*?)```", README.read_text(), re.DOTALL)
    assert cli.main(own(text)) == 0
    assert len(plans) == 20 and {plan.study for plan in plans} == {"mine"}
    both = next(plan.config["model"] for plan in plans if plan.arm == "both")
    assert both["norm"] == "batch" and both["dropout"]["fc"] == 0.5
    plans.clear()
    assert cli.main([*own(text), "+arm=baseline,both", "seed=3"]) == 0
    assert [(plan.arm, plan.seed) for plan in plans] == [("baseline", 3), ("both", 3)]


STUDY = """\
# @package _global_
defaults: [{override /optimizer: sgd}, {override /augmentation: flip}]
optimizer: {lr: 0.3}
epochs: 3ep
study:
  name: mine
  arms: {one: {}, two: {optimizer: adam, epochs: 2ep, augmentation.ops: []}}
"""


def test_an_arm_wins_over_its_study_and_loses_to_what_was_typed(
    own: Callable[..., list[str]], plans: list[Plan]
) -> None:
    assert cli.main(own(STUDY)) == 0
    one, two = (plan.config for plan in plans)
    assert one["optimizer"]["_target_"].endswith(".sgd") and two["optimizer"]["_target_"].endswith(".adam")
    assert (one["optimizer"]["lr"], two["optimizer"]["lr"]) == (0.3, 0.3)
    assert (one["epochs"], two["epochs"], two["augmentation"]["ops"]) == ("3ep", "2ep", [])
    assert "arms" not in one["study"] and one["study"]["arm"] == "one"
    plans.clear()
    assert cli.main([*own(STUDY), "+arm=two", "optimizer=rmsprop", "epochs=1ep", "aug=crop"]) == 0
    (plan,) = plans
    assert plan.config["optimizer"]["_target_"].endswith(".rmsprop") and plan.config["epochs"] == "1ep"
    assert plan.seed == 0 and plan.changes == ["optimizer=adam", "epochs=2ep", "augmentation.ops=[]"]


def test_an_arm_with_an_own_target_has_no_setting_of_the_default_choice(
    own: Callable[..., list[str]], plans: list[Plan]
) -> None:
    text = """\
# @package _global_
study:
  name: mine
  arms:
    one: {optimizer._target_: torch.optim.NAdam, scheduler: {_target_: torch.optim.lr_scheduler.StepLR, step_size: 2}}
    two: [one, {optimizer.lr: 0.2}]
"""
    assert cli.main(own(text)) == 0
    one, two = (plan.config for plan in plans)
    assert one["optimizer"] == {"_target_": "torch.optim.NAdam"}
    assert two["optimizer"] == {"_target_": "torch.optim.NAdam", "lr": 0.2}
    assert two["scheduler"] == {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (STUDY.replace("epochs: 2ep", "model.nrm: batch"), "model.nrm: unknown key 'nrm'; choose one of "),
        (STUDY.replace("epochs: 2ep", "model.nrm: batch"), "(did you mean 'norm'?) (in +arm=two)"),
        (
            STUDY.replace("adam,", "adm,"),
            "cnnexp: optimizer: unknown choice 'adm'; choose one of adagrad, adam, ",
        ),
        (STUDY.replace("# @package _global_\n", ""), "study: the first line of its file must be '# @package _global_'"),
        ("study: {name: mine, arms: {a: {}}}\n", "study/mine.yaml: its first line must be '# @package _global_'"),
        (STUDY.replace("augmentation.ops: []", "nowhere: 1"), "study.arms.two.nowhere: unknown key 'nowhere'"),
        (
            STUDY.replace("name: mine", "name: mine\n  baseline: [1]"),
            "study.baseline: given [1]; allowed: text or null",
        ),
    ],
)
def test_a_wrong_study_is_one_line(
    own: Callable[..., list[str]], plans: list[Plan], capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    assert cli.main(own(text)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("cnnexp: ") and message in error
    assert not plans


ONE = "# @package _global_\nstudy: {name: mine, arms: {a: {}}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ONE.replace("arms", "arm"), "study/mine.yaml: study.arm: lists the arms; write arms:, with an s"),
        (ONE + "arms: {a: {}}\n", "study/mine.yaml: arms: belongs below study:, indented, as every key of a study"),
        (ONE + "seeds: [1]\n", "study/mine.yaml: seeds: belongs below study:"),
        ("", "study/mine.yaml: is empty; it needs study: with its name, arms and seeds"),
        ("# @package _global_\n\n# study:\n", "study/mine.yaml: is empty; it needs study:"),
        (ONE.replace("{}", "{lr: 0.1}"), "study.arms.a.lr: unknown key 'lr'; write optimizer.lr: 0.1"),
        (ONE + "model: [1]\n", "study/mine.yaml: model: given [1]; allowed: settings by key"),
        (ONE + "model: null\n", "study/mine.yaml: model: given null; allowed: settings by key"),
        (ONE + "mix: 3\n", "study/mine.yaml: mix: given 3; allowed: settings by key, such as mix: {mixup: 0.2}"),
        (
            ONE + "model: resnet18\n",
            "study/mine.yaml: model: given 'resnet18'; to choose it, write defaults: [{override /model: resnet18}]",
        ),
        (ONE + "model: resnet19\n", "study/mine.yaml: model: unknown choice 'resnet19'; choose one of conv2_norm, "),
        ("# @package _global_\n- a\n", "study/mine.yaml: given ['a']; allowed: settings by key"),
        ("# @package _global_\nstudy: [1]\n", "study/mine.yaml: study: given [1]; allowed: settings by key"),
        (
            ONE.replace("{}", "{model.dropout: [0.5]}"),
            "study.arms.a.model.dropout: given [0.5]; allowed: settings by k",
        ),
        (ONE.replace("{}", "{epochs: '${'}"), "study.arms.a.epochs: given '${'; a reference to another key is written"),
        (
            "# @package _global_\nstudy: {name: mine, grid: {augmentation: [1, null]}}\n",
            "study.grid.augmentation: given 1; allowed: choices, such as [crop, flip]",
        ),
        (ONE + "data: {sise: 8}\n", "data.sise: unknown key 'sise'; choose one of num_train, ... (in study/mine.yaml)"),
        (ONE + "epoch: 1\n", "epoch: unknown key 'epoch'; ... (did you mean 'epochs'?) (in study/mine.yaml)"),
        (ONE + "epochs: x\n", "epochs: given 'x'; allowed: a duration of ... (in study/mine.yaml)"),
        (ONE.replace("{}", "{epochs: x}"), "epochs: given 'x'; allowed: a duration of ... (in +arm=a)"),
        (ONE + "defaults: [{override /loss: mse}]\n", "loss: unknown choice 'mse'; ... focal (in study/mine.yaml)"),
        (ONE.replace("{}", "{loss: mse}"), "loss: unknown choice 'mse'; choose one of ... focal (in +arm=a)"),
    ],
)
def test_a_wrong_value_is_said_to_be_where_it_is(
    own: Callable[..., list[str]], plans: list[Plan], capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    assert cli.main(own(text)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    first, _, last = message.partition("... ")
    assert error.startswith(f"cnnexp: {first}") and (not last or error.endswith(last)) and not plans


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "# @package _global_\nstudy:\n  name: mine\n  arms:\n    a: {}\n   b: {epochs: 2}\n",
            "line 6, column 4: cannot be read as YAML (expected <block end>, but found '<block mapping start>'); "
            "check the indentation: keys of one mapping begin in the same column",
        ),
        (
            "# @package _global_\nstudy:\n\tname: mine\n",
            "line 3, column 1: cannot be read as YAML (found character '\\t' that cannot start any token); "
            "indent with spaces, not with tabs",
        ),
        (
            ONE.replace("{}", "{epochs: 2, epochs: 3}"),
            "line 2, column 43: cannot be read as YAML (found duplicate key epochs)",
        ),
    ],
)
def test_a_file_that_is_not_yaml_is_named_with_its_line(
    own: Callable[..., list[str]], plans: list[Plan], capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    assert cli.main(own(text)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(rf"cnnexp: \S+/study/mine\.yaml: {re.escape(message)}", error) and not plans


def test_a_wrong_word_is_no_error_of_an_arm_or_a_study(
    own: Callable[..., list[str]], plans: list[Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*own(ONE), "epochs=x"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("epochs (15ep) or steps (500st)")


def test_what_messages_name_as_an_example_can_be_written(own: Callable[..., list[str]], plans: list[Plan]) -> None:
    numbered = enumerate(EXAMPLES.items(), 4)  # some change no number of a run by themselves
    arms = "".join(f"    a_{key}: {{{key}: {value}, batch_size: {number}}}\n" for number, (key, value) in numbered)
    chosen = "defaults: [{override /model: mlp}]"
    assert cli.main(own(f"# @package _global_\n{chosen}\nstudy:\n  name: mine\n  arms:\n{arms}")) == 0
    assert len(plans) == len(EXAMPLES)


def test_the_folder_of_a_name_with_other_characters_is_printed(
    own: Callable[..., list[str]], plans: list[Plan], outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, folder in (("my study", r"my-study-\w{8}"), ("../x", r"x-\w{8}")):
        assert cli.main(own(ONE.replace("name: mine", f"name: '{name}'"))) == 0
        line = rf"study.name: the folder of '{re.escape(name)}' is {re.escape(str(outputs))}/{folder}\n"
        assert re.search(line, capsys.readouterr().out)
    assert cli.main(own(ONE)) == 0 and "study.name" not in capsys.readouterr().out


def test_a_patience_that_never_ends_a_run_is_noted(
    own: Callable[..., list[str]],
    plans: list[Plan],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cnnexp.errors._warned", set())
    words = ["batch_size=8", "early_stopping.patience=3"]
    for more in (["epochs=3"], ["epochs=30st"], ["+preset=small", "epochs=1"]):
        assert cli.main([*own(ONE), *words, *more]) == 0
        assert "patience" not in capsys.readouterr().err
    assert cli.main([*own(ONE), *words, "epochs=2"]) == 0
    given = "cnnexp: early_stopping.patience: given 3, longer than the 2 epochs of the run, which never stops early\n"
    assert capsys.readouterr().err.count(given) == 1


def test_an_own_study_is_trained_from_an_empty_folder(
    own: Callable[..., list[str]], only: Callable[[], RunRecord]
) -> None:
    request = [*own(STUDY), "hydra.mode=RUN", "+arm=two", "seed=5", "epochs=2st", "batch_size=8"]
    assert cli.main(request) == 0
    run = only()
    assert (run.status, run.info["study"], run.info["arm"], run.info["seed"]) == ("done", "mine", "two", 5)
    assert run.info["changes"] == ["optimizer=adam", "epochs=2ep", "augmentation.ops=[]"]
