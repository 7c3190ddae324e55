"""The forms that an own augmentation and an own data set can have, and one line for a wrong one."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset
from torchvision.transforms import v2

from cnnexp.data.images import Split
from cnnexp.data.torch_dataset import from_datasets
from cnnexp.data.user_augmentation import UserAugmentation
from cnnexp.errors import UserError
from cnnexp.records.run_record import RunRecord

Train = Callable[..., int]
CODE = """
import torch
from torch.utils.data import Dataset

def noise(images, generator, strength=0.1):
    return images + strength * torch.randn(images.shape, generator=generator)

def forgetful(images):
    return images

class Noise:
    def __call__(self, images, generator):
        return noise(images, generator)

class OneArgument:
    def __call__(self, images):
        return images

class Two(Dataset):
    classes = ["dark", "light"]
    def __init__(self, train, count=40):
        self.first, self.count = (0 if train else 1000), count
    def __len__(self):
        return self.count
    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(self.first + index)
        return torch.rand(3, 8, 8, generator=generator) / 2 + index % 2 / 2, index % 2

class Named(Two):
    def __init__(self, split, count=40):
        assert split in ("train", "valid", "test"), split
        super().__init__(split == "train", count)

def Net(image, classes, depth: int):
    return None

class Rare(Two):
    classes = ["dark"]

class Numbers(Two):
    def __init__(self, count=40):
        super().__init__(True, count)

def arrays(count=40):
    from cnnexp.data.arrays import image_data
    data = [Two(True, count)[index] for index in range(count)]
    images = (torch.stack([x for x, _ in data]) * 255).byte().permute(0, 2, 3, 1).numpy()
    labels = torch.tensor([k for _, k in data]).numpy()
    return image_data("arrays", ["dark", "light"], (images, labels), (images, labels))

def pair(count):
    return Two(True, count), Two(False, count)

def whole(count):
    return Two(True, count)
"""
FILES = {
    "augmentation/function": "_target_: own_forms.noise\nstrength: 0.2\n",
    "augmentation/class": "_target_: own_forms.Noise\n",
    "augmentation/v2": "_target_: torchvision.transforms.v2.RandomErasing\np: 1.0\nscale: [0.1, 0.2]\n",
    "augmentation/composed": "_target_: torchvision.transforms.v2.Compose\ntransforms:\n"
    "  - {_target_: torchvision.transforms.v2.RandomHorizontalFlip}\n"
    "  - {_target_: torchvision.transforms.v2.GaussianNoise, sigma: 0.1}\n",
    "augmentation/no_generator": "_target_: own_forms.forgetful\n",
    "augmentation/one_argument": "_target_: own_forms.OneArgument\n",
    "augmentation/smaller": "_target_: torchvision.transforms.v2.CenterCrop\nsize: 4\n",
    "augmentation/integers": "_target_: torchvision.transforms.ToTensor\n",
    "augmentation/wrong_key": "_target_: torchvision.transforms.v2.RandomErasing\nprobability: 1.0\n",
    "data/dataset": "_target_: own_forms.Two\n",
    "data/pair": "_target_: own_forms.pair\ncount: 30\n",
    "data/whole": "_target_: own_forms.whole\ncount: 60\n",
    "data/named": "_target_: own_forms.Named\n",
    "data/alone": "_target_: own_forms.Numbers\n",
    "model/needy": "_target_: own_forms.Net\n",
    "data/rare": "_target_: own_forms.Rare\n",
    "data/arrays": "_target_: own_forms.arrays\n",
    "data/fake": "_target_: torchvision.datasets.FakeData\nsize: 60\nnum_classes: 2\nimage_size: [3, 8, 8]\n"
    "transform: {_target_: torchvision.transforms.v2.RandomHorizontalFlip}\n",
    "data/strange": "_target_: torchvision.datasets.FakeData\nsize: 60\nimage_size: [5, 8, 8]\n",
    "data/empty": "_target_: torch.utils.data.TensorDataset\n",
}


@pytest.fixture
def own(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    (tmp_path / "own_forms.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in FILES.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / f"{name}.yaml").write_text(text)
    return lambda *words: train("--config-dir", str(tmp_path / "conf"), "epochs=1", *words)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["function", "class", "v2", "composed"])
def test_an_own_augmentation_trains(name: str, own: Train, only: Callable[[], RunRecord]) -> None:
    assert own(f"augmentation={name}") == 0
    assert only().config()["augmentation"]["_target_"].split(".")[0] in ("own_forms", "torchvision")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("augmentation=no_generator", "a function that augments images itself takes (images, generator)"),
        ("augmentation=one_argument", "OneArgument takes (images); allowed: (images, generator)"),
        ("augmentation=smaller", "gave (3, 4, 4) torch.float32 for an image; allowed: (3, 8, 8) torch.float32"),
        ("augmentation=integers", "augmentation: ToTensor refuses a float image in [0, 1]: "),
        ("augmentation=wrong_key", "augmentation.probability: unknown key 'probability'"),
        ("data=fake", "gives another image each time; leave random changes to augmentation="),
        ("data=strange", "data: torchvision.datasets.FakeData: pic should not have > 4 channels. Got 5 channels."),
        ("data=empty", "data: torch.utils.data.TensorDataset: tuple index out of range"),
        ("data=dataset +data.train=false", "data.train: given False; leave it out, cnnexp builds every split"),
        ("data=named +data.split=valid", "data.split: given 'valid'; leave it out, cnnexp builds every split; name"),
        ("data=named +data.splits=[val]", "data.splits: given ['val']; allowed: train, val and test"),
        ("data=dataset +data.splits=[train,test]", "allowed only for a Dataset class that takes `split`"),
        ("data=dataset +data.val_fraction=2", "data.val_fraction: given 2; allowed: a number"),
        ("data=dataset +data.fraction=0.2", "data.fraction: unknown key 'fraction'; choose one of count"),
        ("data=dataset +data.normalize={mean:0.5}", "data.normalize"),
        ("data=alone +data.test_fraction=0.001", "data.test_fraction: 0.001 of 40 training images leaves no test"),
        ("data=rare", "Rare.train: given 40 labels; that of item 1 is 1; allowed: 0 to 0, 1 class: dark"),
        (
            "model=needy",
            "model.depth: is missing; allowed: a whole number; cnnexp passes image and classes; give",
        ),
        ("data=arrays +data.val_fraction=0.2", "data.val_fraction: own_forms.arrays divides its images itself"),
    ],
)
def test_a_wrong_form_is_one_line(word: str, message: str, own: Train, capsys: pytest.CaptureFixture[str]) -> None:
    assert own(*word.split()) == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1] and "Traceback" not in error


@pytest.mark.integration
@pytest.mark.parametrize(
    ("words", "sizes"),
    [
        ("data=dataset", (36, 4, 40)),
        ("data=pair", (27, 3, 30)),
        ("data=whole", (43, 5, 12)),
        ("data=dataset +data.val_fraction=0.25 +data.train_limit=20 +data.test_limit=10", (20, 10, 10)),
        ("data=alone +data.test_fraction=0.5 +data.val_fraction=0.2", (16, 4, 20)),
        ("data=named", (36, 4, 40)),
        ("data=named data.splits=[train,valid,test]", (40, 40, 40)),
        ("data=named data.splits=[train,valid]", (36, 4, 40)),
    ],
)
def test_a_torch_data_set_trains(
    words: str, sizes: tuple[int, int, int], own: Train, only: Callable[[], RunRecord]
) -> None:
    assert own(*words.replace(" data.", " +data.").split(), "augmentation=none") == 0
    facts = only().info["data"]
    assert facts["image"] == [3, 8, 8] and facts["classes"] == ["dark", "light"]
    assert (facts["train"], facts["val"], facts["test"]) == sizes


def test_torchvision_draws_for_each_image_and_repeatably() -> None:
    augment = UserAugmentation(v2.RandomErasing(p=1.0))
    x = torch.ones(6, 3, 16, 16)
    one, same, other = (augment(x.clone(), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert len({image.numpy().tobytes() for image in one}) > 1, "each image has its own rectangle"


def test_an_operation_that_is_called_twice_draws_anew_and_repeatably() -> None:
    def drawn(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        own = torch.rand(images.shape, generator=generator)
        numpys = torch.from_numpy(np.random.rand(*images.shape)).float()
        pythons = torch.tensor([random.random() for _ in range(images.numel())]).view(images.shape)
        return torch.cat([own, torch.rand(images.shape), numpys, pythons])[:: len(images)]

    x = torch.ones(4, 3, 16, 16)
    for augmentation in (v2.RandomErasing(p=1.0), drawn):
        runs = []
        for _ in range(2):
            augment, generator = UserAugmentation(augmentation), torch.Generator().manual_seed(0)
            runs.append([augment(x.clone(), generator) for _ in range(2)])
        (first, second), (again, second_again) = runs
        assert torch.equal(first, again) and torch.equal(second, second_again)
        assert not any(torch.equal(a, b) for a in first for b in second)
    assert len({image.numpy().tobytes() for image in first}) == 4, "no generator repeats the draws of another"


def test_items_of_a_data_set_are_read_exactly() -> None:
    generator = np.random.default_rng(0)
    arrays = generator.integers(0, 256, (20, 8, 8, 3), np.uint8)
    labels = np.arange(20) % 2
    tensors = [(torch.from_numpy(a).permute(2, 0, 1), int(k)) for a, k in zip(arrays, labels, strict=True)]
    floats = [(image.float() / 255, torch.tensor(k)) for image, k in tensors]
    for items in (list(zip(arrays, labels, strict=True)), tensors, floats):
        data = from_datasets("own", (items, items))
        assert data is not None
        np.testing.assert_array_equal(data.test.images[data.test.indices], arrays)
        np.testing.assert_array_equal(data.test.labels, labels)


@pytest.mark.parametrize("mode", ["P", "HSV", "YCbCr"])
def test_colours_of_another_kind_become_rgb(mode: str) -> None:
    colour = Image.new("RGB", (4, 4), (250, 120, 10))
    image = colour.quantize() if mode == "P" else colour.convert(mode)
    items = [(image, 0), (image, 1)] * 10
    data = from_datasets("own", (items, items))
    assert data is not None and data.image == (3, 4, 4)
    assert np.abs(data.test.images[0].astype(int) - (250, 120, 10)).max() <= 2


def shades(count: int, first: int) -> list[tuple[Any, int]]:
    """Return items of two classes, whose images are all of one brightness, from `first` on."""
    return [(np.full((4, 4), first + n, np.uint8), n % 2) for n in range(count)]


def brightnesses(split: Split) -> list[int]:
    return sorted(split.images[split.indices].max((1, 2, 3)).tolist())


TRAIN, VAL, TEST = shades(40, 0), shades(20, 100), shades(10, 200)


@pytest.mark.parametrize(
    ("given", "val", "test"),
    [
        ({"train": TRAIN, "test": TEST, "val": VAL}, VAL, TEST),
        ({"train": TRAIN, "validation": VAL, "test": TEST}, VAL, TEST),
        ({"Training": TRAIN, "valid": VAL, "testing": TEST}, VAL, TEST),
        ((TRAIN, TEST, VAL), VAL, TEST),
        ({"train": TRAIN, "test": TEST}, None, TEST),
        ({"train": TRAIN, "val": VAL}, None, VAL),
        ({"train": TRAIN, "dev": VAL}, None, VAL),
    ],
)
def test_every_data_set_that_is_given_is_used(given: Any, val: Any, test: Any) -> None:
    """As with folders: without a test split, val is used as test. Without another, val is drawn from train."""
    data = from_datasets("own", given)
    assert data is not None
    assert brightnesses(data.test) == [int(image.max()) for image, _ in test]
    if val:
        assert brightnesses(data.val) == list(range(100, 120)) and brightnesses(data.train) == list(range(40))
    else:
        assert len(data.val) == 4 and sorted(brightnesses(data.train) + brightnesses(data.val)) == list(range(40))


def test_val_that_is_used_as_test_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    from_datasets("own", {"train": TRAIN, "val": VAL}, test_fraction=0.3)
    assert caplog.messages == [
        "data: the test images are those of val, because there is no test; the validation images are taken from train",
        "data: data.test_fraction=0.3 has no effect: val is used as test",
    ]
    caplog.clear()
    from_datasets("own", {"train": TRAIN, "val": VAL}, val_fraction=0.0)
    assert caplog.messages == ["data: the test images are those of val, because there is no test"]
    caplog.clear()
    from_datasets("own", {"train": TRAIN, "val": VAL, "test": TEST})
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train", "test", "extra"), r"^data: gives the split 'extra'; allowed: train, test and val$"),
        (("trian", "test"), r"^data: gives the split 'trian'; allowed: train, test and val$"),
        (("train", 3), r"^data: gives the split 3; allowed: train, test and val$"),
        (("train", "val", "valid"), r"^data: gives the val split twice, as 'val' and 'valid'; keep one$"),
        (4, r"^data: gives 4 data sets; allowed: \(train, test\) or \(train, test, val\)$"),
    ],
)
def test_a_data_set_of_an_unknown_split_is_refused(names: Any, message: str) -> None:
    items = shades(20, 0)
    with pytest.raises(UserError, match=message):
        from_datasets("own", (items,) * 4 if names == 4 else dict.fromkeys(names, items))


def test_without_training_images_it_is_no_data_set() -> None:
    for given in ({"test": shades(20, 0)}, {}, (), 3, {"train": 3}, (3, 4, 5, 6)):
        assert from_datasets("own", given) is None


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ((torch.full((3, 8, 8), -1.0), 0), r"has numbers from -1 to -1; allowed: 0 to 1; leave out Normalize"),
        ((np.full((8, 8), 300), 0), r"has numbers from 300 to 300; allowed: 0 to 255"),
        ((np.zeros(8), 0), r"is float64 \(8,\); allowed: a PIL image"),
        ((np.zeros((8, 8)), "cat"), r"its label is 'cat'; allowed: the number of its class, from 0"),
        ((np.zeros((8, 8)), [0, 1]), r"its label is \[0, 1\]; allowed: the number"),
        ((np.zeros((8, 8)), torch.tensor([0.0, 1.0])), r"its label is \[0.0, 1.0\]; allowed: the number"),
        ((np.zeros((8, 8)), -1), r"its label is -1; allowed: the number"),
        ((np.zeros((8, 8)), 0.5), r"its label is 0.5; allowed: the number"),
        ((np.zeros((8, 8)), 0, 1), r"is a tuple of 3; allowed: \(image, label\)"),
        ({"image": 1}, r"is a dict; allowed: \(image, label\)"),
    ],
)
def test_a_wrong_item_is_named(item: object, message: str) -> None:
    with pytest.raises(UserError, match=rf"data \(train\): item 0: {message}"):
        from_datasets("own", [[item], [item]])


def test_an_unusable_label_is_named_by_its_file() -> None:
    class Files(list):  # type: ignore[type-arg]
        samples = (("photos/cat/1.png", 0), ("photos/dog/2.png", "dog"))

    items = Files([(np.zeros((8, 8)), 0), (np.zeros((8, 8)), "dog")])
    with pytest.raises(UserError, match=r"data \(train\): item 1 \(photos/dog/2.png\): its label is 'dog'; allowed"):
        from_datasets("own", [items, items])


def test_the_labels_of_each_data_set_are_matched_by_the_names_of_its_classes() -> None:
    """torchvision's ImageFolder numbers the classes that it finds: here no dog is in the test images."""

    class Items(list):  # type: ignore[type-arg]
        def __init__(self, classes: list[str] | None, labels: list[int]):
            super().__init__((np.full((8, 8), n, np.uint8), label) for n, label in enumerate(labels))
            self.classes = classes

    train = Items(["cat", "dog", "eel"], [0, 1, 2] * 10)
    data = from_datasets("own", (train, Items(["cat", "eel"], [0, 1, 1])))
    assert data is not None
    assert data.classes == ["cat", "dog", "eel"] and data.test.labels.tolist() == [0, 2, 2]
    with pytest.raises(UserError, match=r"data \(test\): has images of 'fox', a class that the training images do not"):
        from_datasets("own", (train, Items(["cat", "fox"], [0, 1])))
    with pytest.raises(UserError, match=r"data \(test\): has the label 2 but 2 classes"):
        from_datasets("own", (train, Items(["cat", "eel"], [0, 2])))
    plain = [(image, label) for image, label in Items(["eel", "cat"], [0, 1, 1])]
    unnamed = from_datasets("own", (train, plain))
    assert unnamed is not None and unnamed.test.labels.tolist() == [0, 1, 1], "without names the numbers count"
    for classes, labels in ((["cat", "eel", "fox"], [0, 2, 0]), (None, [0, 1, 0])):  # no image is of fox; no names
        other = from_datasets("own", (train, Items(classes, [0, 1, 0])))
        assert other is not None and other.test.labels.tolist() == labels
    equal = from_datasets("own", (Items(["a", "a"], [0, 1] * 10), Items(["a", "a", "a"], [0, 1])))
    assert equal is not None and equal.test.labels.tolist() == [0, 1]


def test_parts_of_a_data_set_keep_the_names_of_its_classes() -> None:
    """As torch's random_split makes them of an ImageFolder."""

    class Items(list):  # type: ignore[type-arg]
        def __init__(self, *labels: int):
            super().__init__((np.full((8, 8), n, np.uint8), label) for n, label in enumerate(labels))

    train, test = Items(*[0, 1, 2] * 10), Items(0, 1, 1)
    train.classes, test.classes = ["cat", "dog", "eel"], ["cat", "eel"]  # type: ignore[attr-defined]
    data = from_datasets("own", (Subset(Subset(train, range(25)), range(20)), Subset(test, range(3))))
    assert data is not None and data.classes == ["cat", "dog", "eel"]
    assert data.test.labels.tolist() == [0, 2, 2], "the number 1 of a test image is that of eel"
    without_eels = [n for n, (_, label) in enumerate(train) if label < 2]
    two = from_datasets("own", Subset(train, without_eels))
    assert two is not None and two.classes == ["cat", "dog"]
