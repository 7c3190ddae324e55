"""`cnnexp.load` and `cnnexp.runs`: a network from its run directory, as it was; and nothing else from there."""

import shutil
import warnings

import numpy as np
import pytest
import torch
from hostile import edit_config
from PIL import Image

import cnnexp
from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.records import run_record as record
from cnnexp.training.build import build_data

pytest_plugins = ["trained_runs"]


def forget(folder, fact):
    """Drop a fact of the data from run.json."""
    info = storage.read_json(folder / "run.json")
    del info["data"][fact]
    storage.write_json(folder / "run.json", info)


def test_loaded_network_gives_the_recorded_logits(trained_run):
    before = torch.random.get_rng_state()
    model = cnnexp.load(trained_run)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not model.model.training and model.classes[0] == "sailboat" and model.config["seed"] == 0
    test = build_data(model.config).test
    images, stored = test.images[test.indices], record.RunRecord.read(trained_run).predictions()
    assert np.array_equal(model.logits(images), stored["logits"])
    exact = torch.from_numpy(stored["logits"]).double().softmax(1).numpy()
    np.testing.assert_allclose(model.predict(list(images[:7])), exact[:7], rtol=1e-6)
    assert model.predict(images[0]).shape == (1, 10)


def test_checkpoint_path_is_enough(trained_run):
    model = cnnexp.load(str(trained_run / "checkpoints" / "best.pt"))
    assert model.record.info["status"] == "done"


def test_a_path_a_picture_and_an_array_give_the_same_to_the_last_bit(trained_run, tmp_path):
    model, generator = cnnexp.load(trained_run), np.random.default_rng(0)
    file, exif = tmp_path / "large.jpg", Image.Exif()
    small = Image.fromarray(generator.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    for orientation in (1, 6):  # larger than the network's 8 pixels; upright, and turned
        exif[0x0112] = orientation
        small.resize((71, 47)).save(file, exif=exif)  # below 6 times its size, where a file is decoded in full
        opened = Image.open(file)
        expected = model.predict(file)
        for _ in range(2):  # before and after its pixels are read
            assert (model.predict(opened) == expected).all()
            opened.load()
        if orientation == 1:
            assert (model.predict(np.asarray(opened)) == expected).all()


def test_a_large_file_decoded_at_reduced_size_gives_almost_what_its_picture_gives(trained_run, tmp_path):
    model, generator = cnnexp.load(trained_run), np.random.default_rng(0)
    small = Image.fromarray(generator.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    small.resize((900, 600)).save(tmp_path / "large.jpg")
    in_full = model.predict(Image.open(tmp_path / "large.jpg"))
    assert np.abs(model.predict(tmp_path / "large.jpg") - in_full).max() < 1e-3


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
        (lambda f: edit_config(f, "out: 8", "out: 9"), "does not fit the network of config.yaml"),
        (lambda f: edit_config(f, "norm: batch", "norm: some"), "model.norm: given 'some'"),
        (lambda f: edit_config(f, "out: 8", "out: ${oc.env:HOME}"), "has values, not interpolations"),
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
    with pytest.raises(UserError, match="no such run"):
        cnnexp.load(copy / "gone")
    stray = copy.parent / "weights.pt"
    shutil.copy(copy / "checkpoints" / "best.pt", stray)
    with pytest.raises(UserError, match="is not in a run directory"):
        cnnexp.load(stray)


@pytest.mark.integration
def test_a_network_of_one_s_own_is_loaded(own_run):
    with pytest.raises(UserError, match="is not built from a run directory"):
        cnnexp.load(own_run)
    model = cnnexp.load(own_run, allow=["own_network.OwnNetwork"])
    assert type(model.model).__name__ == "OwnNetwork"
    own = cnnexp.Run(own_run).load(allow=["own_network.OwnNetwork"])
    assert type(own.model) is type(model.model)
    stored = model.record.predictions()
    test = build_data(model.config).test
    assert np.array_equal(model.logits(test.images[test.indices]), stored["logits"])


@pytest.mark.integration
def test_torch_traces_and_exports_a_loaded_network(made):
    small = "model.blocks=[{conv:{out:8,kernel:3}},{pool:{kernel:2}},{pool:{kernel:2,kind:avg}},{fc:{out:16}}]"
    model = cnnexp.load(made("traced", small, "model.norm=batch", "model.dropout.fc=0.5")).model
    x, many = torch.rand(2, 3, 8, 8), torch.rand(4097, 3, 8, 8)  # a layer that looks at the size would say 4095 at most
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit")  # traces are deprecated
        traced = torch.jit.trace(model, x)
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    with torch.no_grad():
        for network in (traced, exported, torch.fx.symbolic_trace(model)):
            assert torch.equal(network(many), model(many))


@pytest.mark.integration
def test_torch_writes_a_loaded_network_as_onnx(trained_run, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model, x = cnnexp.load(trained_run).model, torch.rand(2, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own
        torch.onnx.export(
            model, (x,), tmp_path / "m.onnx", dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False
        )
    session = runtime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    many = torch.rand(7, 3, 8, 8)
    (found,) = session.run(None, {session.get_inputs()[0].name: many.numpy()})
    np.testing.assert_allclose(found, model(many).detach().numpy(), atol=1e-5)
