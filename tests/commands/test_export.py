"""`cnnexp export`: the file computes what the run does, for any number of images, and its card says what is true."""

import json
import math
import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from image_folders import write_png
from PIL import Image

from cnnexp import metrics
from cnnexp.data.pixels import flatten
from cnnexp.export import card, check, formats, snippets
from cnnexp.export.portable import resize_rule
from cnnexp.models import zoo
from cnnexp.records.run_record import RunRecord
from cnnexp.training import inference
from cnnexp.training.build import build_data

pytest_plugins = ["trained_runs"]


def test_images(run):
    """Return the run's test images (N, H, W, C) and their recorded logits."""
    model = inference.load(run)
    test = build_data(model.config).test
    return test.images[test.indices], model.record.predictions()["logits"]


test_images.__test__ = False


def code_of(text):
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


@pytest.mark.integration
def test_pt2_computes_the_recorded_logits_for_any_number_of_images(cnnexp, trained_run, tmp_path):
    code, printed, _ = cnnexp("export", trained_run, "--to", "pt2", "--out", tmp_path)
    assert code == 0 and "the class of 50 of 50 as with torch" in printed
    said = {"classes": "", "resize": "", "input": ""}
    network = torch.export.load(tmp_path / "model.pt2", extra_files=said).module()
    images, logits = test_images(trained_run)
    for count in (1, 2, 50):
        np.testing.assert_allclose(network(torch.from_numpy(images[:count])).detach(), logits[:count], atol=1e-5)
    assert json.loads(said["classes"])[0] == "sailboat" and json.loads(said["input"])["shape"] == ["N", 8, 8, 3]
    assert "stretched" in said["resize"]


@pytest.mark.integration
def test_onnx_computes_the_recorded_logits_for_any_number_of_images(cnnexp, trained_run, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    code, printed, _ = cnnexp("export", trained_run, "--to", "onnx", "--out", tmp_path)
    assert code == 0 and "onnxruntime" in printed
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 8, 8, 3]
    images, logits = test_images(trained_run)
    for count in (1, 2, 50):
        np.testing.assert_allclose(session.run(None, {"images": images[:count]})[0], logits[:count], atol=1e-5)
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"])[0] == "sailboat"


def test_safetensors_holds_the_weights_of_the_best_epoch(cnnexp, trained_run, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    assert cnnexp("export", trained_run, "--to", "safetensors", "--out", tmp_path)[0] == 0
    found, expected = (
        safetensors.load_file(tmp_path / "model.safetensors"),
        inference.load(trained_run).model.state_dict(),
    )
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.integration
def test_another_checkpoint_has_a_folder_and_a_card_of_its_own(cnnexp, made):
    run = made("checkpoints", "model.blocks=[{fc:{out:8}}]")
    best = RunRecord.read(run).info["result"]["best_epoch"]
    for weights in (run, run / "checkpoints/final.pt"):
        assert cnnexp("export", weights, "--to", "pt2")[0] == 0
    first, second = (run / "export" / name / "model_card.md" for name in ("pt2", "pt2-final"))
    assert f"weights of epoch {best} of run `{run.name}`" in first.read_text()
    assert f"weights in `final.pt` after 6 steps (3 an epoch) of run `{run.name}`" in second.read_text()
    said = {"weights": ""}
    torch.export.load(second.with_name("model.pt2"), extra_files=said)
    assert said["weights"] == "final.pt"


@pytest.mark.integration
def test_a_folder_of_one_format_is_not_used_for_another(cnnexp, trained_run, tmp_path):
    pytest.importorskip("safetensors.torch")
    assert cnnexp("export", trained_run, "--to", "pt2", "--out", tmp_path)[0] == 0
    card = (tmp_path / "model_card.md").read_text()
    code, _, error = cnnexp("export", trained_run, "--to", "safetensors", "--out", tmp_path)
    assert code == 2 and "model.pt2 is there, with its model_card.md; choose another folder for each format" in error
    assert (tmp_path / "model_card.md").read_text() == card and not (tmp_path / "model.safetensors").exists()
    assert cnnexp("export", trained_run, "--to", "pt2", "--out", tmp_path)[0] == 0, "the same format again"


def test_a_library_that_is_missing_is_one_line(cnnexp, trained_run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, error = cnnexp("export", trained_run, "--to", "onnx")
    assert (code, error) == (
        2, "cnnexp: --to onnx: needs onnx, onnxscript; type: pip install 'cnnexp[export]'\n"
    )  # fmt: skip


@pytest.mark.integration
def test_a_file_that_differs_is_not_written(cnnexp, trained_run, tmp_path, monkeypatch):
    pt2 = formats.FORMATS["pt2"]
    wrong = replace(pt2, read=lambda content, model: lambda pixels: pt2.read(content, model)(pixels) + 1)
    monkeypatch.setitem(formats.FORMATS, "pt2", wrong)
    code, _, error = cnnexp("export", trained_run, "--to", "pt2", "--out", tmp_path)
    assert code == 3 and "differs from torch" in error and not list(tmp_path.iterdir())


@pytest.mark.integration
def test_without_its_images_a_run_is_compared_on_noise(cnnexp, copy, tmp_path):
    text = (copy / "config.yaml").read_text().replace("cnnexp.data.sources.postcards", "cnnexp.data.sources.gone")
    (copy / "config.yaml").write_text(text)
    code, printed, error = cnnexp("export", copy, "--to", "pt2")
    assert code == 0 and "64 images" in printed and "compared on noise" in error
    assert (copy / "export" / "pt2" / "model.pt2").exists()


@pytest.mark.integration
@pytest.mark.parametrize("setting", ["model.impl=im2col", "device.precision=bf16"])
def test_other_layers_and_precisions_become_torchs_in_float32(cnnexp, made, tmp_path, setting):
    network = "model.blocks=[{conv:{out:8,kernel:3}},{pool:{kernel:2}},{fc:{out:16}}]"
    run = made("other", network, "model.norm=batch", setting)
    assert cnnexp("export", run, "--to", "pt2", "--out", tmp_path)[0] == 0
    network = torch.export.load(tmp_path / "model.pt2").module()
    images, logits = test_images(run)
    found = network(torch.from_numpy(images)).detach().numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, logits, atol=0.05 if "bf16" in setting else 1e-5)
    assert ("tested in bf16" in (tmp_path / "model_card.md").read_text()) == ("bf16" in setting)


@pytest.mark.integration
def test_the_card_says_what_is_true(cnnexp, trained_run, tmp_path):
    assert cnnexp("export", trained_run, "--to", "pt2", "--out", tmp_path)[0] == 0
    card = (tmp_path / "model_card.md").read_text()
    stored = RunRecord.read(trained_run).predictions()
    right, n, z = int((stored["logits"].argmax(1) == stored["labels"]).sum()), 50, 1.959963984540054
    p = right / n  # the interval of Wilson 1927, by his formula
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((centre + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    assert f"| test accuracy | {p:.2%} [{low:.2%}, {high:.2%}] |" in card
    scores = metrics.class_scores(stored["logits"], stored["labels"])
    for title, name in (("macro F1", "f1"), ("balanced accuracy", "balanced_accuracy")):
        value, low, high = re.search(rf"{title} \| ([\d.]+)% \[([\d.]+)%, ([\d.]+)%\]", card).groups()
        assert value == f"{100 * scores[name]:.2f}" and float(low) < float(value) < float(high)
    for text in ("MIT; drawn by cnnexp", "48 train, 12 val, 50 test", "50 of 50", "8 x 8 pixels", "lr: 0.001"):
        assert text in card, text


@pytest.mark.integration
def test_the_code_of_the_card_names_the_class(cnnexp, trained_run, tmp_path, capsys):
    assert cnnexp("export", trained_run, "--to", "pt2", "--out", tmp_path)[0] == 0
    photo = tmp_path / "photo.jpg"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)).save(photo)
    capsys.readouterr()
    code = code_of((tmp_path / "model_card.md").read_text())
    for name in ("photo.jpg", "model.pt2"):
        code = code.replace(f'"{name}"', repr(str(tmp_path / name)))
    exec(code, {})
    title, probability = capsys.readouterr().out.rsplit(maxsplit=1)
    (expected,), model = inference.load(trained_run).predict(photo), inference.load(trained_run)
    assert title == model.classes[expected.argmax()] and float(probability) == pytest.approx(expected.max(), abs=1e-5)


@pytest.mark.parametrize(
    ("network", "image"),
    [
        ("torchvision_model", {"name": "googlenet"}),
        ("timm_model", {"name": "test_vit"}),
        ("timm_model", {"name": "test_resnet", "image": (1, 32, 48)}),
    ],
)
def test_the_code_of_the_card_builds_the_network(trained_run, network, image):
    if network == "timm_model":
        pytest.importorskip("timm")
    shape, name = image.get("image", (3, 32, 48)), image["name"]
    built = getattr(zoo, network)(shape, 5, name, "none", "none", "train")
    model = inference.load(trained_run)
    node = {"_target_": f"cnnexp.models.zoo.{network}", "name": name}
    model.config["model"] = node
    model = replace(model, classes=list("abcde"), transform=replace(model.transform, image=shape))
    names = {}
    exec(snippets._network(model), names)
    names["network"].load_state_dict(built.state_dict())


def test_the_code_of_the_card_builds_a_network_of_ones_own(own_run):
    model = inference.load(own_run, allow=["own_network.OwnNetwork"])
    names = {}
    exec(snippets._network(model), names)
    names["network"].load_state_dict(model.model.state_dict())
    assert type(names["network"]).__name__ == "OwnNetwork"


def test_the_code_of_the_card_builds_an_own_network_with_the_name_of_a_librarys(own_run):
    model = inference.load(own_run, allow=["own_network.OwnNetwork"])
    model.config["model"]["_target_"] = "own.timm_model"
    assert "allow=['own.timm_model']" in snippets._network(model)


def test_the_code_of_the_card_gives_the_probabilities_of_large_logits():
    code = snippets.ANSWER.format(classes=["a", "b"])
    names = {"np": np, "logits": np.float32([[95, 3], [-95, -200]])}
    exec(code, names)
    assert names["probabilities"].ravel().tolist() == pytest.approx([1, 0, 1, 0])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_code_of_the_card_reads_an_image_as_the_data_was(trained_run, tmp_path, mode, channels):
    model = inference.load(trained_run)
    model = replace(model, transform=replace(model.transform, image=(channels, 20, 30), resize="squash"))
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    file = tmp_path / ("photo.tif" if mode == "CMYK" else "photo.png")
    Image.fromarray(pixels).convert(mode).save(file)
    with Image.open(file) as image:
        expected = np.asarray(flatten(image, "L" if channels == 1 else "RGB"))
    assert np.array_equal(read_as_the_card(model, file), expected.reshape(1, 20, 30, channels))


def read_as_the_card(model, file):
    """Return the pixels that the card's code makes of a file."""
    code = snippets.snippet(model, "model.pt2", "pt2").partition("import torch")[0].removeprefix("```python\n")
    names = {}
    try:
        exec(code.replace("photo.jpg", str(file)), names)
    finally:
        names["image"].close()
    return names["pixels"]


@pytest.mark.parametrize(("bits", "kind"), [(None, np.uint16), (12, np.uint16), (20, np.int32)])
@pytest.mark.parametrize(("suffix", "orientation"), [("png", 1), ("png", 6), ("tif", 6)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_code_of_the_card_reads_more_than_8_bits(trained_run, tmp_path, bits, kind, suffix, orientation, channels):
    model = inference.load(trained_run)
    transform = replace(model.transform, image=(channels, 20, 30), resize="squash", bits=bits)
    model = replace(model, transform=transform)
    deep = Image.fromarray(np.random.default_rng(0).integers(0, 1 << (bits or 16), (20, 30)).astype(kind))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"photo.{suffix if kind == np.uint16 else 'tif'}"
    deep.save(file, exif=exif)
    assert np.array_equal(read_as_the_card(model, file)[0], transform.pixels(file))
    if kind == np.uint16:  # Pillow reads no 32-bit files in which 0 is white
        deep.save(tmp_path / "xray.tif", tiffinfo={262: 0})
        xray = transform.pixels(tmp_path / "xray.tif")
        assert np.array_equal(read_as_the_card(model, tmp_path / "xray.tif")[0], xray)
    assert f"of more than 8 bits keep the upper 8 of {bits or 16}, " in resize_rule(transform)
    Image.fromarray(np.full((2, 2), 1 << (bits or 16), np.int32)).save(tmp_path / "more.tif")
    with pytest.raises(AssertionError):
        read_as_the_card(model, tmp_path / "more.tif")


def test_the_code_of_the_card_refuses_pixels_that_it_would_read_otherwise(trained_run, tmp_path):
    model = inference.load(trained_run)
    twelve = replace(model, transform=replace(model.transform, bits=12))
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / "floats.tif")
    Image.fromarray(np.full((2, 2), 500, np.uint16)).save(tmp_path / "transparent.png", transparency=500)
    write_png(tmp_path / "colours.png", np.random.default_rng(0).integers(0, 4096, (8, 8, 3)))
    for name in ("floats.tif", "transparent.png", "colours.png"):
        with pytest.raises(ValueError, match="this code does not read such pixels"):
            read_as_the_card(twelve, tmp_path / name)
    expected = model.transform.pixels(tmp_path / "colours.png")
    assert np.array_equal(read_as_the_card(model, tmp_path / "colours.png")[0], expected)


@pytest.mark.integration
def test_the_card_of_a_fold_names_it(cnnexp, made, tmp_path):
    run = made("fold", "model.blocks=[{fc:{out:8}}]", "data.folds=3", "data.fold=1")
    assert cnnexp("export", run, "--to", "pt2", "--out", tmp_path)[0] == 0
    assert "50 test; fold 1 of 3, counted from 0" in (tmp_path / "model_card.md").read_text()


def test_a_score_without_spread_has_no_bootstrap_interval():
    labels = np.arange(30) % 3
    assert card._of_classes(labels, labels, 3) == [("macro F1", "100.00%"), ("balanced accuracy", "100.00%")]
    assert "[" in card._of_classes(np.where(np.arange(30) < 20, labels, 0), labels, 3)[0][1]


@pytest.mark.integration
def test_the_card_has_the_mean_over_the_seeds_of_an_arm(cnnexp, trained_study, tmp_path):
    runs = sorted(trained_study.glob("baseline-s*"))
    assert cnnexp("export", runs[0], "--to", "pt2", "--out", tmp_path)[0] == 0
    accuracies = [RunRecord.read(run).info["result"]["test_accuracy"] for run in runs]
    assert f"mean of 2 seeds | {np.mean(accuracies):.2%} [" in (tmp_path / "model_card.md").read_text()


@pytest.mark.parametrize("shape", [(40, 61, 3), (61, 40, 3), (8, 8, 3), (9, 8, 3)])
@pytest.mark.parametrize("resize", ["crop", "squash"])
@pytest.mark.parametrize("image", [(3, 8, 8), (3, 8, 12), (3, 11, 9)])
def test_the_code_of_the_card_resizes_as_the_data_was(trained_run, shape, resize, image):
    model = inference.load(trained_run)
    model = replace(model, transform=replace(model.transform, resize=resize, image=image))
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    names = {"image": Image.fromarray(pixels), "Image": Image}
    exec(snippets._resize(model), names)
    assert np.array_equal(np.asarray(names["image"]), model.transform.pixels(pixels))
    assert ("centred" in resize_rule(model.transform)) == (resize == "crop")


def test_images_are_taken_from_all_of_a_split(trained_run):
    test = build_data(inference.load(trained_run).config).test
    assert np.array_equal(check.some_of(test), test.images[test.indices])
    many = replace(test, indices=np.arange(2000) % len(test.images))
    assert len(check.some_of(many)) == 500


def test_intervals_of_a_card_take_little_memory_for_many_images() -> None:
    labels = np.arange(20_000) % 3
    tracemalloc.start()
    rows = card._of_classes(np.where(labels == 2, 0, labels), labels, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * labels.nbytes, "and not a thousand draws at once"
    assert [name for name, _ in rows] == ["macro F1", "balanced accuracy"]
