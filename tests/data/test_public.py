"""Public data sets by name: what torchvision reads, its splits, and a download that is refused."""

import errno
import socket
from unittest.mock import Mock

import numpy as np
import pytest
from image_folders import settings
from public_sets import COUNTS, DRAWN, pixels
from torchvision import datasets

from cnnexp import cli
from cnnexp.data import public
from cnnexp.data.licences import LICENCES
from cnnexp.data.public import SETS
from cnnexp.errors import UserError
from cnnexp.training.build import make


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
    """Let torchvision read drawn files, whose MD5 is not the published one."""
    for module in ("cifar", "svhn", "stl10", "flowers102"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda path, md5=None: True)


def load(name, root, **changes):
    return make("data", settings("torchvision", name=name, root=str(root), **changes))


@pytest.mark.parametrize("name", DRAWN)
def test_it_is_what_torchvision_reads(name, tmp_path):
    DRAWN[name](tmp_path)
    data = load(name, tmp_path, val_fraction=0.0, **({"size": 30} if name in ("Flowers102", "Food101") else {}))
    size = SETS[name].size if name not in ("Flowers102", "Food101") else 30
    assert data.image == (SETS[name].channels, size, size) and data.name == name and LICENCES[name]
    if name == "EuroSAT":
        assert (len(data.train), len(data.test)) == (24, 6)
        assert sorted(np.bincount(data.test.labels)) == [3, 3]
        return
    assert (len(data.train), len(data.test)) == (COUNTS["train"], COUNTS["test"])
    assert len(data.val) == (COUNTS["val"] if name == "Flowers102" else 0)
    given = SETS[name].parts["test"]
    theirs = getattr(datasets, name)(str(tmp_path), **given)
    assert [theirs[i][1] for i in range(len(theirs))] == data.test.labels.tolist()
    if not data.files:
        for index, image in zip(data.test.indices, (theirs[i][0] for i in range(len(theirs))), strict=True):
            assert np.array_equal(data.test.images[index].squeeze(), np.asarray(image))
    else:
        assert (tmp_path / data.test.ids[0]).is_file()
    if name == "MNIST":
        assert np.array_equal(data.train.images[data.train.indices][..., 0], pixels("train", (20, 28, 28)))
        assert data.classes[3] == "3 - three"
    if name == "SVHN":  # 1 to 9, then 10 for the digit 0
        assert data.test.labels.tolist() == [1, 2, 3, 4, 5, 6] and data.train.labels[9] == 0


def test_other_files_are_other_data(tmp_path):
    for root in (tmp_path / "one", tmp_path / "two"):
        DRAWN["MNIST"](root)
    file = tmp_path / "two" / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1] + b"\x07")
    assert load("MNIST", tmp_path / "one").fingerprint != load("MNIST", tmp_path / "two").fingerprint


def test_a_damaged_set_is_not_downloaded_again(tmp_path):
    DRAWN["MNIST"](tmp_path)
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match="its MNIST is damaged or incomplete"):
        load("MNIST", tmp_path)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EIO, "Input/output error"), r"cannot be read \(Input/output error\); the disk or the network"),
        (AssertionError(), r"its MNIST is damaged or incomplete \(AssertionError\); delete it"),
    ],
)
def test_a_set_is_called_damaged_only_if_it_can_be_read(tmp_path, monkeypatch, error, message):
    monkeypatch.setattr(public, "_datasets", Mock(side_effect=error))
    with pytest.raises(UserError, match=message):
        public.public_listing("MNIST", tmp_path, 8, "crop")


@pytest.mark.integration
@pytest.mark.parametrize("name", DRAWN)
def test_a_refused_download_is_one_line_and_leaves_nothing(name, tmp_path, monkeypatch, capsys):
    def refused(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    for module in ("cifar", "svhn", "stl10", "flowers102"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", datasets.utils.check_integrity)
    root = tmp_path / "new" / "data"
    assert cli.main(["train", "data=torchvision", f"data.name={name}", f"data.root={root}"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert printed.err.startswith(f"cnnexp: data.root: {name} is not in {root} and cannot be downloaded (")
    assert list(tmp_path.rglob("*")) == []


def test_what_was_in_the_folder_stays(tmp_path, monkeypatch):
    (tmp_path / "photo.jpg").write_bytes(b"x")
    monkeypatch.setattr(
        datasets.MNIST, "download", lambda self: (tmp_path / "MNIST" / "raw").mkdir(parents=True) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        load("MNIST", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_summary_knows_the_images_of_a_set(capsys):
    assert cli.main(["summary", "data=torchvision", "data.name=MNIST"]) == 0
    assert "32x28x28" in capsys.readouterr().out
    assert cli.main(["summary", "data=torchvision", "data.name=STL10", "data.size=[24,32]"]) == 0
    assert "32x24x32" in capsys.readouterr().out
