"""`cnnexp.load` and `cnnexp.runs`: a network from its run directory, as it was; and nothing else from there."""

import shutil

import numpy as np
import pytest
import torch
from fake_records import write_run
from PIL import Image

import cnnexp
from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.records import run_record as record
from cnnexp.training import allowed as fence
from cnnexp.training.build import build_data

pytest_plugins = ["trained_runs"]


@pytest.fixture
def copy(trained_run, tmp_path):
    """Return a copy of the trained run that a test may spoil."""
    folder = tmp_path / "study" / trained_run.name
    shutil.copytree(trained_run, folder)
    return folder


def edit(folder, **changes):
    """Write other lines in place of some in config.yaml."""
    config = folder / "config.yaml"
    text = config.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    storage.write_text(config, text)


def forget(folder, fact):
    """Drop a fact of the data from run.json."""
    info = storage.read_json(folder / "run.json")
    del info["data"][fact]
    storage.write_json(folder / "run.json", info)


def test_loaded_network_gives_the_recorded_logits(trained_run):
    before = torch.random.get_rng_state()
    model = cnnexp.load(trained_run)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not model.model.training and model.classes[0] == "arrow" and model.config["seed"] == 0
    test = build_data(model.config).test
    images, stored = test.images[test.indices], record.RunRecord.read(trained_run).predictions()
    assert np.array_equal(model.logits(images), stored["logits"])
    exact = torch.from_numpy(stored["logits"]).double().softmax(1).numpy()
    np.testing.assert_allclose(model.predict(list(images[:7])), exact[:7], rtol=1e-6)
    assert model.predict(images[0]).shape == (1, 10)


def test_checkpoint_path_is_enough(trained_run):
    model = cnnexp.load(str(trained_run / "checkpoints" / "best.pt"))
    assert model.record.info["status"] == "done"


def test_transform_is_that_of_the_data(trained_run, tmp_path):
    model = cnnexp.load(trained_run)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    data = build_data(model.config)
    own = data.train.images[data.train.indices] / 255
    expected = (pixels / 255 - own.mean((0, 1, 2))) / own.std((0, 1, 2))  # an independent truth, in float64
    for image in (tmp_path / "image.png", str(tmp_path / "image.png"), Image.fromarray(pixels), pixels):
        x = model.transform(image)
        assert x.shape == (3, 8, 8) and x.dtype == torch.float32
        np.testing.assert_allclose(x.numpy().transpose(1, 2, 0), expected, atol=1e-5)
    gray = np.full((40, 20), 51, np.uint8)  # of another size, and of one channel
    np.testing.assert_allclose(
        model.transform(gray)[:, 3, 4], (0.2 - own.mean((0, 1, 2))) / own.std((0, 1, 2)), atol=1e-5
    )


def test_transform_crops_where_the_data_was_cropped(trained_run):
    from dataclasses import replace

    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 255
    transform = cnnexp.load(trained_run).transform
    assert (replace(transform, resize="crop").pixels(wide) == 255).all()
    assert transform.pixels(wide).min() == 0
    assert replace(transform, resize="crop", image=(1, 8, 8)).pixels(wide).shape == (8, 8, 1)


@pytest.mark.parametrize("wrong", [np.zeros((3, 8, 8), np.uint8), np.zeros((8, 8, 3)), None, 5])
def test_what_is_no_image_is_told(trained_run, wrong):
    with pytest.raises(UserError, match="allowed: a path, a Pillow image"):
        cnnexp.load(trained_run).transform(wrong)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: shutil.rmtree(f / "checkpoints"), "has no checkpoints/best.pt"),
        (lambda f: storage.write_text(f / "checkpoints" / "best.pt", "x"), "cannot be read as a checkpoint"),
        (lambda f: edit(f, **{"out: 8": "out: 9"}), "does not fit the network of config.yaml"),
        (lambda f: edit(f, **{"norm: batch": "norm: some"}), "model.norm: given 'some'"),
        (lambda f: edit(f, **{"out: 8": "out: ${oc.env:HOME}"}), "has values, not interpolations"),
        (lambda f: storage.write_text(f / "config.yaml", "seed: 1"), "config.yaml: data is missing"),
        (lambda f: storage.write_json(f / "run.json", {"status": "done"}), "does not say what data.classes"),
        (lambda f: forget(f, "mean"), "does not say what data.mean and data.std are"),
        (lambda f: storage.write_text(f / "run.json", "{"), "run.json"),
    ],
)
def test_spoilt_runs_are_told_in_one_line(copy, spoil, message):
    spoil(copy)
    with pytest.raises(UserError, match=message) as told:
        cnnexp.load(copy)
    assert "\n" not in str(told.value)


def test_folders_that_are_no_run_say_what_is_below(copy):
    with pytest.raises(UserError, match=f"is not a run directory .* runs below it: .*{copy.name[:20]}"):
        cnnexp.load(copy.parent)
    with pytest.raises(UserError, match="no such folder"):
        cnnexp.load(copy / "gone")
    stray = copy.parent / "weights.pt"
    shutil.copy(copy / "checkpoints" / "best.pt", stray)
    with pytest.raises(UserError, match="is not in a run directory"):
        cnnexp.load(stray)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "torch.hub.load",
        "subprocess.Popen",
        "builtins.eval",
        "cnnexp.storage.remove",
        "cnnexp.models.network.assemble",
        "torch.nn.Linear",  # a Module, but this is not the module that defines it
        "torch.optim.Adam",
    ],
)
def test_recorded_configs_build_nothing_else(copy, name):
    edit(copy, **{"cnnexp.models.convnet.convnet": name})
    with pytest.raises(UserError, match=f"model._target_: {name} is not built from a run directory"):
        cnnexp.load(copy)


def test_the_fence_sees_nested_targets():
    inner = {"_target_": "os.system", "command": "true"}
    for node in (
        {"a": {"b": inner}},
        {"a": [{"b": inner}]},
        {"_target_": "cnnexp.models.convnet.convnet", "blocks": [inner]},
    ):
        with pytest.raises(UserError, match=r"_target_: os.system is not built"):
            fence.check_targets("model", node)
    with pytest.raises(UserError, match=r"model._target_: \['os.system'\] is not built"):
        fence.check_targets("model", {"_target_": ["os.system"]})
    fence.check_targets("model", {"layer": {"_target_": "torch.nn.modules.linear.Linear"}})
    with pytest.raises(UserError, match="allow it: --allow NAME"):
        fence.check_targets("model", {"_target_": "own_network.OwnNetwork"})
    fence.check_targets("model", {"_target_": "own_network.OwnNetwork"}, allow=["own_network.OwnNetwork"])
    fence.check_targets("model", {"_target_": "os.system"}, allow=["os.system"])


def test_a_person_s_module_is_not_even_imported_unless_allowed(tmp_path, monkeypatch):
    lines = ("from torch import nn", "open(__file__ + '.fired', 'w').close()", "class Net(nn.Module): pass")
    (tmp_path / "payload.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("payload.Net", "torch.nn.payload.Net", "torchvision.models.payload.Net"):
        with pytest.raises(UserError, match="is not built from a run directory"):
            fence.check_targets("model", {"_target_": name})
    assert not (tmp_path / "payload.py.fired").exists()


def test_every_shipped_config_passes_the_fence():
    from omegaconf import OmegaConf

    from cnnexp.config import compose as configs

    files = [(group, file) for group in configs.GIVEN for file in (configs.folder() / group).glob("*.yaml")]
    nodes = [content.get(group, content) for group, content in ((group, OmegaConf.load(file)) for group, file in files)]
    targets = {node["_target_"] for node in nodes if "_target_" in node}
    shipped = fence.shipped()
    assert targets == frozenset().union(*shipped.values()) and "cnnexp.models.convnet.convnet" in shipped["model"]


def test_a_network_of_one_s_own_is_loaded(own_run):
    with pytest.raises(UserError, match="is not built from a run directory"):
        cnnexp.load(own_run)
    model = cnnexp.load(own_run, allow=["own_network.OwnNetwork"])
    assert type(model.model).__name__ == "OwnNetwork"
    stored = model.record.predictions()
    test = build_data(model.config).test
    assert np.array_equal(model.logits(test.images[test.indices]), stored["logits"])


def test_runs_are_a_table(tmp_path):
    write_run(tmp_path, "baseline", 0, 0.61)
    write_run(tmp_path, "dropout", 1, status="failed", error={"type": "ValueError", "message": "no"})
    storage.make_folder(tmp_path / "demo" / "torn")
    storage.write_text(tmp_path / "demo" / "torn" / "run.json", "{")
    frame = cnnexp.runs(tmp_path)
    assert frame["status"].tolist() == ["done", "failed", "malformed"]
    assert frame["test_accuracy"].tolist()[0] == 0.61 and frame["test_accuracy"].isna().tolist() == [False, True, True]
    assert frame["seed"].dtype == "Int64" and frame["seed"].tolist()[:2] == [0, 1]
    assert frame.loc[1, "error"] == "no" and "run.json" in frame.loc[2, "error"]
    assert str(frame["started"].dtype).endswith("UTC]")
    assert frame.groupby("arm")["test_accuracy"].mean()["baseline"] == 0.61
    with pytest.raises(UserError, match="no such folder"):
        cnnexp.runs(tmp_path / "gone")


def test_a_table_of_no_runs_has_its_columns(tmp_path):
    frame = cnnexp.runs(tmp_path)
    assert len(frame) == 0 and {"study", "test_accuracy", "train_seconds", "folder"} <= set(frame.columns)
