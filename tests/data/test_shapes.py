"""Images that are not square: every step gives what an independent library does, and commands take them."""

import numpy as np
import pytest
import torch
from image_folders import picture
from PIL import Image
from torchvision.transforms import v2

from cnnexp import cli
from cnnexp.config import compose
from cnnexp.config.checks import check
from cnnexp.data.decode import decode
from cnnexp.data.pixels import fit
from cnnexp.data.transforms import apply_crop, apply_rotation
from cnnexp.errors import UserError
from cnnexp.records.run_record import find_runs
from cnnexp.training import inference


@pytest.mark.parametrize(("width", "height"), [(62, 40), (40, 62), (200, 30), (30, 200), (64, 48)])
@pytest.mark.parametrize("size", [(24, 32), (32, 24), (30, 30)])
def test_crop_takes_the_largest_centred_part(width, height, size):
    image = picture(3, size=(5, 5)).resize((width, height), Image.Resampling.BICUBIC)  # smooth
    part = min(height / size[0], width / size[1])  # pixels of the image for one of the result
    middle = v2.functional.center_crop(image, [int(part * size[0] + 1e-9), int(part * size[1] + 1e-9)])
    expected = np.asarray(v2.functional.resize(v2.functional.pil_to_tensor(middle), list(size), antialias=True))
    found = np.asarray(fit(image, list(size), "crop")).transpose(2, 0, 1)
    assert found.shape == (3, *size)
    assert np.abs(found.astype(int) - expected).mean() < 1  # rounding


def test_squash_takes_all_and_the_right_size_stays(tmp_path):
    image = picture(4, size=(64, 48))
    image.save(tmp_path / "x.png")
    expected = np.asarray(image.resize((32, 20), Image.Resampling.BILINEAR))
    assert np.array_equal(decode(tmp_path / "x.png", [20, 32], "squash", 3), expected)
    for resize in ("crop", "squash"):
        assert np.array_equal(decode(tmp_path / "x.png", [48, 64], resize, 3), np.asarray(image))


def test_rotation_is_torchvisions_for_other_shapes():
    x = torch.rand(3, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    for angle in (90.0, 17.0, -140.0):
        found = apply_rotation(x.clone(), torch.full((3,), angle))
        expected = v2.functional.rotate(x, angle, interpolation=v2.InterpolationMode.BILINEAR)
        assert (found - expected).abs().max() < 1e-4


def test_crops_keep_the_shape():
    x = torch.rand(2, 3, 5, 9)
    found = apply_crop(x, torch.tensor([[0, 3], [4, 2]]), 2)
    padded = torch.nn.functional.pad(x, (2,) * 4)
    assert torch.equal(found[0], padded[0, :, 0:5, 4:13]) and torch.equal(found[1], padded[1, :, 3:8, 2:11])


@pytest.mark.parametrize("size", ["[4,32]", "[24,32,3]", "[24]", "24x32", "[2000,8]"])
def test_a_wrong_size_is_one_line(size):
    with pytest.raises(UserError, match=r"data.size: given .*allowed: .* 2 values"):
        check(compose.resolve(compose.compose([f"data.size={size}"])))


def test_a_network_that_is_too_deep_for_one_side_says_so():
    with pytest.raises(UserError, match=r"model.kernels.2: 5 is larger than the image that reaches it \(2x30"):
        check(compose.resolve(compose.compose(["model=conv4_unpadded", "data.size=[8,64]"])))


@pytest.mark.integration
@pytest.mark.parametrize("model", ["custom", "resnet18"])
def test_a_run_is_trained_evaluated_and_used(tmp_path, model, capsys):
    for k, title in enumerate(("cat", "dog")):
        (tmp_path / "photos" / title).mkdir(parents=True)
        for i in range(14):
            picture(50 * k + i, size=(40, 30)).save(tmp_path / "photos" / title / f"{i}.png")
    words = [f"data.root={tmp_path / 'photos'}", "data=folder", "data.size=[12,20]", "data.val_fraction=0.2"]
    words += [f"model={model}", "augmentation=full", "epochs=1", "batch_size=8", "device=cpu", "device.threads=1"]
    assert cli.main(["train", *words, f"outputs={tmp_path / 'outputs'}", "shift_pixels=1"]) == 0
    (run,) = find_runs(tmp_path / "outputs")
    assert run.info["data"]["image"] == [3, 12, 20]
    capsys.readouterr()
    assert cli.main(["evaluate", str(run.folder)]) == 0 and "as recorded" in capsys.readouterr().out
    assert cli.main(["predict", str(run.folder), str(tmp_path / "photos" / "cat")]) == 0
    loaded = inference.load(run.folder)
    assert loaded.transform(tmp_path / "photos" / "cat" / "0.png").shape == (3, 12, 20)
    capsys.readouterr()
    assert cli.main(["summary", f"model={model}", "data.size=[12,20]"]) == 0
    assert "x12x20" in capsys.readouterr().out or model == "resnet18"
