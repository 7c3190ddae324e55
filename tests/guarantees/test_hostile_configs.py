"""Configs of a stranger's run that would build something else than a network: nothing else is built, or imported."""

import pathlib
import pkgutil
import sys

import pytest
import yaml
from hostile import edit_config, untrained_run, with_answers

import cnnexp
from cnnexp import cli, storage
from cnnexp.config import compose as configs
from cnnexp.data.download import CIFAR10, IMAGENETTE
from cnnexp.errors import UserError
from cnnexp.records.run_record import RunRecord
from cnnexp.training import allowed as fence

pytestmark = pytest.mark.counts("fixtures")

BUILDER = "cnnexp.models.convnet.convnet"
# Names that are there to be called, by every way that leads to them; a test holds them to that.
CALLABLE = [
    *("os.system", "posix.system", "subprocess.run", "subprocess.os.system", "builtins.eval", "builtins.exec"),
    *(
        "builtins.open",
        "pickle.loads",
        "shutil.rmtree",
        "shutil.os.remove",
        "importlib.import_module",
        "runpy.run_path",
    ),
    *("torch.load", "torch.save", "torch.hub.load", "torch.serialization.os.system", "torch.hub.os.remove"),
    *("torch.nn.modules.module.torch.load", "torch.nn.functional.torch.hub.load", "torch.nn.init.warnings.warn"),
    *("torchvision.models.get_model", "torchvision.models._api.importlib.import_module", "torchvision.models.resnet18"),
    *("torchvision.models.vgg.torch.hub.load", "torchvision.datasets.CIFAR10", "numpy.load", "numpy.fromfile"),
    *("pathlib.Path.unlink", "pathlib.Path.write_text", "tarfile.open", "zipfile.ZipFile", "logging.FileHandler"),
    *("hydra.utils.instantiate", "hydra.utils.get_method", "hydra.utils.call", "omegaconf.OmegaConf.load"),
    *("omegaconf.OmegaConf.save", "yaml.unsafe_load", "functools.partial", "operator.methodcaller", "eval"),
    *("cnnexp.training.build.make", "cnnexp.cli.main", "cnnexp.storage.remove", "cnnexp.storage.disk.shutil.rmtree"),
    *(
        "cnnexp.training.build.inspect.os.system",
        "cnnexp.records.provenance.subprocess.run",
        "cnnexp.models.convnet.signature.re.compile",
    ),
    *("cnnexp.data.sources.imagenette", "cnnexp.data.sources.cifar10", "cnnexp.data.sources.postcards"),
    *("cnnexp.optim.optimizers.adam", "cnnexp.models.convnet.convnet.__call__", "torch.optim.Adam"),
    *("torch.nn.Linear", "torch.nn.modules.Linear", "torch.nn.parameter.Parameter", "torch.nn.utils.clip_grad_norm_"),
]
SPELLINGS = [
    *(f" {BUILDER}", f"{BUILDER} ", f"{BUILDER}\n", f"{BUILDER}.", f".{BUILDER}", BUILDER.upper(), f"{BUILDER}\x00"),
    *("cnnexp.models.convnеt.convnet", "cnnexp․models․convnet․convnet", "cnnexp/models/convnet.convnet"),
    *("", ".", "..", "torch.nn.", "torch.nn..", "torch.nn.modules.", "torch.nn.modules.linear.Linear.__init__"),
    *("torch.nn.modules.linear.Linear.__class__", "torch.nn.modules.linear.Linear()", "torch.nn.../evil.Net"),
    *("torch.nn./tmp/evil.Net", "torchvision.models.__builtins__", "torch.nn.__loader__.load_module", "torch.nnx.Net"),
]
OTHERS = [None, 5, True, ["os.system"], {"_target_": "os.system"}, {"os": "system"}, pathlib.PurePath("os.system")]
INNER = {"_target_": "os.system", "command": "true"}
AROUND = {
    "in a mapping": {"a": {"b": INNER}},
    "in a list": {"a": [[INNER]]},
    "in a network": {"_target_": BUILDER, "blocks": [{"conv": INNER}]},
    "_args_": {"_target_": "torch.nn.modules.container.Sequential", "_args_": [INNER]},
    "_partial_": {"_target_": "os.system", "_partial_": True},
    "_partial_ within": {"_target_": "torchvision.models.resnet.ResNet", "block": {**INNER, "_partial_": True}},
    "not _recursive_": {"_target_": BUILDER, "_recursive_": False, "blocks": [INNER]},
    "_convert_": {"_target_": BUILDER, "_convert_": "object", "norm": INNER},
    "last of its keys": {"command": "true", "_target_": "os.system"},
    "a data set in a network": {"_target_": BUILDER, "blocks": [{"_target_": "cnnexp.data.sources.imagenette"}]},
}
INTERPOLATIONS = [
    *(
        "${oc.env:HOME}",
        "${oc.env:AWS_SECRET_ACCESS_KEY,none}",
        "x ${oc.env:HOME}",
        "${oc.create:{_target_:os.system}}",
    ),
    *("${oc.decode:'{_target_: os.system}'}", "${hydra:runtime.cwd}", "${seed}", "${.width}", "${oc.deprecated:seed}"),
    *("${oc.dict.values:model}", "\\${seed}", "${${oc.env:HOME}}"),
]


@pytest.fixture
def run(tmp_path):
    """Return a run directory of a stranger's."""
    return with_answers(untrained_run(tmp_path / "outputs"))


@pytest.mark.parametrize("name", CALLABLE)
def test_nothing_that_can_be_called_is_built(name):
    for node in ({"_target_": name}, {"_target_": BUILDER, "blocks": [{"x": {"_target_": name}}]}):
        with pytest.raises(UserError, match="is not built from a run directory"):
            fence.check_targets("model", node)
    full = name if "." in name else f"builtins.{name}"
    assert callable(pkgutil.resolve_name(full)), "the control: there is something to be called"


@pytest.mark.parametrize("name", [*SPELLINGS, *OTHERS], ids=repr)
def test_no_spelling_gets_by(name):
    with pytest.raises(UserError, match="is not built from a run directory"):
        fence.check_targets("model", {"_target_": name})
    fence.check_targets("model", {"_target_": BUILDER})  # the control: the right spelling does


@pytest.mark.parametrize("node", AROUND.values(), ids=AROUND)
def test_nothing_is_hidden_by_what_is_around_it(node):
    with pytest.raises(UserError, match="is not built from a run directory"):
        fence.check_targets("model", node)


@pytest.mark.parametrize("text", INTERPOLATIONS)
def test_no_interpolation_is_resolved(text):
    for node in ({"_target_": BUILDER, "norm": text}, {"a": [{"b": [text]}]}):
        with pytest.raises(UserError, match="has values, not interpolations"):
            fence.check_targets("model", node)


def test_a_resolver_would_read_the_environment(monkeypatch):
    """The control of the interpolations: left to Hydra, they give what is not theirs."""
    from hydra.utils import instantiate

    monkeypatch.setenv("CANARY", "fired")
    assert instantiate({"_target_": "builtins.dict", "a": "${oc.env:CANARY}"}) == {"a": "fired"}


@pytest.fixture
def payload(tmp_path, monkeypatch):
    """Return a module of a stranger's that leaves a canary when it is imported, and another when it is called."""
    lines = ("import pathlib", "pathlib.Path(__file__ + '.imported').touch()", "def fire(**_):")
    (tmp_path / "strange_payload.py").write_text("\n".join([*lines, "    pathlib.Path(__file__ + '.called').touch()"]))
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda: {f.suffix for f in tmp_path.glob("strange_payload.py.*")}
    sys.modules.pop("strange_payload", None)


@pytest.mark.parametrize("way", ["load", "evaluate", "predict"])
@pytest.mark.parametrize("place", ["model", "data"])
def test_no_command_builds_a_stranger_s_code(run, payload, way, place, capsys):
    edit_config(run, {"model": BUILDER, "data": "cnnexp.data.sources.postcards"}[place], "strange_payload.fire")
    if way == "load":
        if place == "model":
            with pytest.raises(UserError, match="is not built"):
                cnnexp.load(run)
    else:
        assert cli.main([way, str(run), *(["x.png"] if way == "predict" else [])]) == 2
    for reader in ("report --no-figures", "runs", f"diff {run}", "gc"):
        cli.main([*reader.split(), str(run)])
    assert payload() == set()


def test_without_the_fence_a_stranger_s_code_is_called(run, payload, monkeypatch):
    """The control: the same config, and no fence."""
    edit_config(run, BUILDER, "strange_payload.fire")
    monkeypatch.setattr(fence, "check_targets", lambda *given: None)
    with pytest.raises(UserError, match="must give a torch"):
        cnnexp.load(run)
    assert payload() == {".imported", ".called"}


TAGS = [
    *("!!python/object/apply:os.system ['touch CANARY']", "!!python/object/new:os.system ['touch CANARY']"),
    *("!!python/name:os.system ''", "!!python/module:os ''", "!!python/object:strange_payload.Thing {}"),
    "!!python/object/apply:subprocess.call [[touch, CANARY]]",
]


@pytest.mark.parametrize("tag", TAGS)
def test_no_tag_of_yaml_makes_an_object(run, tmp_path, tag):
    canary = tmp_path / "canary"
    with open(run / "config.yaml", "a", encoding="utf-8") as file:
        file.write(f"extra: {tag.replace('CANARY', str(canary))}\n")
    with pytest.raises(UserError, match=r"config\.yaml: cannot be read") as told:
        cnnexp.load(run)
    assert not canary.exists() and "\n" not in str(told.value)
    if "apply:" in tag:  # the control
        yaml.unsafe_load(f"extra: {tag.replace('CANARY', str(canary))}")
        assert canary.exists()


def laughs(levels):
    """Return YAML of a few lines that stands for 10**levels values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (laughs(9), "it has aliases"),
        ("a: &a {b: 1}\nc: {<<: *a}\n", "it has aliases"),
        ("a: &a [*a]\n", "it has aliases"),
        ("a: " + "[" * 1500 + "]" * 1500 + "\n", "recursion"),
        ("a: " + "{b: " * 1000 + "}" * 1000 + "\n", "recursion"),
        ("- " * 1500 + "x\n", "recursion"),
        ("a: '" + "x" * 10**7 + "'\n", "allowed: 1 MiB"),
    ],
    ids=["laughs", "merge", "itself", "deep list", "deep mapping", "deep dashes", "10 MB"],
)
def test_no_bomb_of_yaml_goes_off(run, text, message):
    storage.write_text(run / "config.yaml", text)
    with pytest.raises(UserError, match=message):
        RunRecord.read(run).config()
    assert cli.main(["diff", str(run), str(run)]) == 2
    assert cli.main(["report", str(run), "--no-figures", "--quiet"]) == 0


def test_without_the_defence_a_bomb_of_yaml_grows(run):
    """The control: each level takes ten times the values of the one before."""
    from omegaconf import OmegaConf

    values = [len(OmegaConf.to_yaml(OmegaConf.create(laughs(levels)))) for levels in (1, 2, 3)]
    assert values[1] > 5 * values[0] and values[2] > 5 * values[1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("out: 4", "out: 1000000000000"),
        ("out: 4", "out: -1"),
        ("kernel: 3", "kernel: 10000000"),
        ("out: 8", "out: 123456789012345678901234567890"),
        ("out: 4", "out: .nan"),
        ("out: 4", "out: .inf"),
    ],
)
def test_a_network_that_cannot_be_is_told_in_one_line(run, old, new):
    edit_config(run, old, new)
    with pytest.raises(UserError, match="model") as told:
        cnnexp.load(run)
    assert "\n" not in str(told.value)


USES = {  # what builds the data of a recorded config
    "evaluate": lambda run, *words: cli.main(["evaluate", str(run), *words]),
    "rerun": lambda run, *words: cli.main(["rerun", str(run), "--out", str(run.parent / f"again{len(words)}"), *words]),
}


@pytest.mark.parametrize("use", USES)
def test_a_recorded_config_chooses_no_folder_to_write_in(run, tmp_path, use, capsys):
    """Neither for prepared images nor for a download; what a person types does. The last is the control."""
    victim = tmp_path / "victim"
    edit_config(run, "cache: null", f"cache: {victim}")
    assert USES[use](run) in (0, 2, 3) and not victim.exists()
    assert USES[use](run, f"data.cache={victim}") in (0, 3) and victim.exists()


@pytest.mark.parametrize("there", ["nothing", "a folder", "the archive"])
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("data", ["imagenette", "cifar10"])
def test_a_recorded_config_downloads_and_unpacks_nothing(run, tmp_path, data, use, there, capsys, monkeypatch):
    victim = tmp_path / "victim"
    archive = {"imagenette": IMAGENETTE, "cifar10": CIFAR10}[data]
    if there != "nothing":
        victim.mkdir()
    if there == "the archive":
        (victim / archive.name).write_bytes(b"it would be unpacked")
    before = sorted(tmp_path.rglob("victim*/*"))
    asked = []
    monkeypatch.setattr("cnnexp.storage.fetch.fetch", lambda *given: asked.append(given))
    monkeypatch.setattr("cnnexp.data.download.extract_tar", lambda *given: asked.append(given))
    node = configs.resolve(configs.compose([f"data={data}", f"data.root={victim}"]))["data"]
    config = RunRecord.read(run).config()
    storage.write_text(run / "config.yaml", yaml.safe_dump({**config, "data": node}))
    assert USES[use](run) == 2
    told = f"data.root: the run's data was at {victim / archive.folder}, which is not there; give data.root=DIR"
    assert told in capsys.readouterr().err
    assert not asked and sorted(tmp_path.rglob("victim*/*")) == before
    if there != "the archive":
        assert USES[use](run, f"data.root={victim}") == 2  # the control: now it would
        assert asked and victim.exists()


def test_a_record_names_no_config_whose_run_is_to_be_made_first(run, capsys):
    config = RunRecord.read(run).config()
    config["model"] |= {"weights": {"config": "cifar10"}}
    storage.write_text(run / "config.yaml", yaml.safe_dump(config))
    assert cli.main(["rerun", str(run)]) == 2
    assert "model.weights: given {'config': 'cifar10'}; allowed in a record: " in capsys.readouterr().err


def test_of_torchs_optimisers_those_are_built_that_stand_where_one_does() -> None:
    for group, name in (("optimizer", "NAdam"), ("optimizer", "adam.Adam"), ("scheduler", "lr_scheduler.StepLR")):
        fence.check_targets(group, {"_target_": f"torch.optim.{name}"})
        with pytest.raises(UserError, match="is not built from a run directory"):
            fence.check_targets("data", {"_target_": f"torch.optim.{name}"})
    for name in (
        "torch.optim.sgd.sgd",
        "torch.optim.SGD.step",
        "torch.nn.Linear",
        "torch.optim.swa_utils.AveragedModel",
    ):
        with pytest.raises(UserError, match="is not built from a run directory"):
            fence.check_targets("optimizer", {"_target_": name})


def test_all_that_is_refused_is_named_at_once() -> None:
    node = {
        "_target_": "one.Net",
        "parts": [{"_target_": "two.Block"}, {"_target_": "torch.nn.modules.activation.ReLU"}],
    }
    with pytest.raises(UserError, match=r"model\._target_: one\.Net, two\.Block are not built") as raised:
        fence.check_targets("model", node)
    assert "ReLU" not in str(raised.value)
    fence.check_targets("model", node, ["one.Net", "two.Block"])
