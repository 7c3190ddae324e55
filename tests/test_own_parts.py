"""A person's own data set, augmentation and optimiser, by `_target_`, from a folder of configs."""

from pathlib import Path

import numpy as np
import pytest

from cnnexp import cli, record
from cnnexp.data.arrays import image_data
from cnnexp.errors import UserError

FILES = {
    "data/stripes.yaml": "_target_: own_parts.stripes\ncount: 40\nsize: 12\n",
    "augmentation/noise.yaml": "_target_: own_parts.Noise\nstrength: 0.05\n",
    "optimizer/nadam.yaml": "_target_: torch.optim.NAdam\nlr: 0.01\n",
}
BLOCKS = "model.blocks=[{conv: {out: 4, kernel: 3}},{global_pool: {}}]"


@pytest.fixture
def configs(tmp_path: Path) -> list[str]:
    for name, text in FILES.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True)
        (tmp_path / "conf" / name).write_text(text)
    place = ["--config-dir", str(tmp_path / "conf"), f"outputs={tmp_path / 'out'}", "device.threads=1", "batch_size=8"]
    return [*place, "data=stripes", "augmentation=noise", "optimizer=nadam", BLOCKS]


def test_own_data_augmentation_and_optimizer_train(configs: list[str], tmp_path: Path) -> None:
    assert cli.main(["train", *configs, "epochs=12", "model.norm=batch"]) == 0
    (run,) = record.find_runs(tmp_path / "out")
    assert run.info["data"]["classes"] == ["level", "upright"]
    assert (run.info["data"]["train"], run.info["data"]["val"], run.info["data"]["test"]) == (72, 8, 40)
    assert run.info["result"]["test_accuracy"] > 0.9, "a stripe's direction is easily learnt"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("data.cuont=3", "data.cuont: no such key (did you mean 'data.count'?)"),
        ("+augmentation.strenght=1", "augmentation.strenght: unknown key 'strenght'"),
        ("augmentation.strength=much", "augmentation.strength: given 'much'; allowed: a number"),
        ("data.count=many", "data.count: given 'many'; allowed: a whole number"),
    ],
)
def test_own_signatures_are_schemas(
    configs: list[str], wrong: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", *configs, wrong]) == 2
    assert message in capsys.readouterr().err


def test_arrays_are_checked() -> None:
    images, labels = np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, 0, 1])
    data = image_data("own", ["a", "b"], (images, labels), (images + 255, labels), val=(images, labels))
    assert [len(split) for split in data.splits().values()] == [4, 4, 4]
    other = image_data("own", ["a", "b"], (images, labels), (images + 254, labels), val=(images, labels))
    assert data.fingerprint != other.fingerprint
    for wrong in ((images.astype(float), labels), (images[0], labels), (images[:, :4], labels)):
        with pytest.raises(UserError, match=r"own\.test: given images"):
            image_data("own", ["a", "b"], (images, labels), wrong)
    for bad in (labels[:3], labels + 1, labels * 0):
        with pytest.raises(UserError, match=r"own\.test: given \d labels"):
            image_data("own", ["a", "b"], (images, labels), (images, bad))
