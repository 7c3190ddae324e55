"""The page of a data set: its numbers against plain counting, its figures, and what it does with hostile names."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from image_folders import folder, picture, tree
from pages import HOSTILE, Page

from cnnexp.commands import data as command
from cnnexp.data.arrays import image_data
from cnnexp.data.batches import Normalise, as_float
from cnnexp.errors import UserError
from cnnexp.explore import charts, counts, facts, files, page, pictures, tables
from cnnexp.pages.style import style


def made(classes, sizes, side=4, channels=3, seed=0):
    """Return a data set of arrays: sizes[k] training images of class k, and half as many (at least one) to test."""
    generator = np.random.default_rng(seed)

    def part(numbers):
        labels = np.repeat(np.arange(len(classes)), numbers)
        return generator.integers(0, 256, (len(labels), side, side, channels), dtype=np.uint8), labels

    return image_data("made", classes, part(sizes), part([max(1, size // 2) for size in sizes]), val_fraction=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_counted_exactly(channels):
    data = made(["a", "b"], [200, 100], channels=channels)
    pixels = data.train.images[data.train.indices].reshape(-1, channels)
    found = counts.pixel_counts(data.train)
    for k in range(channels):
        assert np.array_equal(found[k], np.bincount(pixels[:, k], minlength=256))
    for k, channel in enumerate(counts.channels(found, data.mean, data.std)):
        np.testing.assert_allclose([channel.mean, channel.std], [pixels[:, k].mean(), pixels[:, k].std()], rtol=1e-12)
        np.testing.assert_allclose([channel.mean / 255, channel.std / 255], [data.mean[k], data.std[k]], rtol=1e-12)


def test_normalised_samples_are_what_the_network_gets():
    data = made(["a", "b"], [2, 2])
    image = data.train.images[0]
    batch = as_float(torch.from_numpy(image.copy())[None].permute(0, 3, 1, 2))
    seen = Normalise(data.mean, data.std, torch.device("cpu"))(batch)[0].permute(1, 2, 0).numpy()
    shown = pictures.normalised(image, data) / 255 * 2 * pictures.SHOWN_STD - pictures.SHOWN_STD
    inside = np.abs(seen) < pictures.SHOWN_STD
    assert inside.any() and np.abs(shown - seen)[inside].max() < 2 * pictures.SHOWN_STD / 255
    assert (np.abs(shown)[~inside] == pictures.SHOWN_STD).all()


def test_balance_in_words():
    names = ["cat", "dog", "owl"]
    assert [counts.balance(np.array(sizes), names) for sizes in ([9, 3, 6], [2, 2, 2], [4, 0, 0])] == [
        "the largest class, cat, has 9, the smallest, dog, 3 images (largest / smallest: 3.00)",
        "every class has 2 images (largest / smallest: 1)",
        "the largest class, cat, has 4; 2 classes, such as dog, have none",
    ]
    assert facts.warnings(facts.gather(made(names, [9, 3, 6]), None))[0].startswith(
        "Imbalance: the largest class has 3.0"
    )


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_class_counts_are_drawn_for_any_number_of_classes(classes):
    names = [f"{'a long name of a class ' * 3}{k}" for k in range(classes)]
    sizes = {"train": np.arange(1, classes + 1), "test": np.ones(classes, np.int64)}
    with style():
        figure = charts.class_counts(sizes, names)
    root = ElementTree.fromstring(figure.svg)
    height = float(root.attrib["height"].removesuffix("pt"))
    assert height < 72 * 11
    assert (names[-1] not in figure.svg.decode()) and (f"{classes:,}" in figure.svg.decode() + figure.caption)


def test_a_terminal_shows_the_first_of_many_classes():
    found = facts.gather(made([f"class {k:02}" for k in range(50)], [2] * 50), None)
    lines = tables.as_text(found).splitlines()
    assert [line.split()[:4] for line in lines if line.startswith("class 39")] == [["class", "39", "2", "1"]]
    assert "(the first 40 classes; --json lists the other 10)" in lines and "class 40" not in "".join(lines)
    assert ["all", "100", "50"] in [line.split() for line in lines], "the last row counts all classes"


def test_images_before_resizing_are_described(tmp_path):
    root = tree(tmp_path / "tree")
    picture(5, size=(30, 20), mode="L").save(root / "train/cat/wide.png")
    found = files.find(folder(root))
    assert found is not None and (found.count, found.sample) == (21, 21)
    assert (found.widths, found.heights) == ((12, 12, 30), (10, 10, 20))
    assert found.kinds == {"PNG, RGB": 20, "PNG, L": 1}
    assert found.bytes == sum(file.stat().st_size for file in root.rglob("*.png"))
    data = folder(root)
    (root / "train/cat/0.png").unlink()
    assert files.find(data) is None


def test_the_head_of_a_config_says_where_the_images_are_from(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "# Ten cats: all mine\n# From: my camera, CC0\n#       and a friend's   Look: there\n# Run: x\na: 1\n# No"
    )
    assert files.header(file) == {"about": "Ten cats: all mine", "from": "my camera, CC0 and a friend's", "run": "x"}
    assert files.header(None) == {}


def test_a_page_of_hostile_names_is_whole_offline_and_harmless(tmp_path):
    names = [name.replace("/", "") for name in HOSTILE]
    data = made(names, [4] * len(names))
    found = facts.gather(data, None)
    twin = [
        facts.duplicates.Member(split, name, k, 0)
        for k, (split, name) in enumerate([("train", HOSTILE[0]), ("test", HOSTILE[6])])
    ]
    found.duplicates.groups.append(twin)
    written = page.write(found, None, tmp_path / "out", "cnnexp data '<b>'")
    content = Page(written.read_text())
    assert {"script", "b"}.isdisjoint(content.tags) and not [a for a in content.attributes if a.startswith("on")]
    assert all(source.startswith("data:image/svg+xml;base64,") for source in content.sources)
    for link in content.links:
        assert link[1:] in content.ids if link.startswith("#") else (tmp_path / "out" / link).is_file()
    assert "<script>alert('x')<script>" in content.text and "\x1b" not in content.text
    for file in (tmp_path / "out/figures").glob("*.svg"):
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(file).iter()}
        assert "script" not in tags
    with (tmp_path / "out/tables/duplicates.csv").open() as lines:
        assert [row["split"] for row in csv.DictReader(lines)] == ["train", "test"]
    assert not re.search(r"^[=+@]", (tmp_path / "out/tables/classes.csv").read_text(), re.M)


def test_a_page_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="out/figures: cannot make this folder"):
        page.write(facts.gather(made(["a", "b"], [3, 3]), None), None, tmp_path / "out", "")


@pytest.fixture
def call(tmp_path, capsys):
    """Return a function that does `cnnexp data` on a small tree, with `more`, and returns what it prints."""
    root = tree(tmp_path / "tree", count=10)

    def run(*more):
        assert command.main(["folder", f"data.root={root}", "data.size=8", f"outputs={tmp_path / 'out'}", *more]) == 0
        return capsys.readouterr().out

    return run


def test_the_page_is_where_the_command_says(call, tmp_path):
    printed = call()
    index = tmp_path / "out/data/folder/index.html"
    assert printed.splitlines()[-1] == f"{'page':12} {index}" and index.exists()
    assert "augmented by +aug=full, as an example" in Page(index.read_text()).text
    assert "Your own images:" in index.read_text() and "From: your disk." not in printed


@pytest.fixture
def asked(monkeypatch):
    """Draw no pages; return the list of what they would have shown as augmented."""
    shown = []
    monkeypatch.setattr(page, "write", lambda found, augmented, out, command: shown.append(augmented) or out)
    return shown


def test_what_augments_is_what_was_asked_for(call, asked):
    for given in ([], ["+aug=crop"], ["augmentation=flip", "augmentation.ops.0.flip.p=1.0"], ["+aug=none"]):
        call(*given)
    example, crop, flip, none = asked
    assert example.name.startswith("+aug=full, as an example") and crop.name == "+aug=crop" and none is None
    assert flip.name == "augmentation=flip augmentation.ops.0.flip.p=1.0"
    x = torch.rand(2, 3, 4, 4)
    assert torch.equal(flip.apply(x.clone(), torch.Generator()), x.flip(3))


def test_samples_are_drawn_alike_every_time():
    data = made(["a", "b"], [6, 2], side=9)
    noise = pictures.Augmented("noise", lambda x, g: x + torch.randn(x.shape, generator=g))
    with style():
        first, second = (pictures.samples(data, noise) for _ in range(2))
    assert first == second and "augmented by noise, before normalising (seed 0)" in first.caption


def test_json_holds_the_numbers_and_makes_no_page(call, tmp_path):
    found = json.loads(call("--json"))
    assert found["counts"] == {"train": [9, 9], "val": [1, 1], "test": [10, 10]}
    assert found["image"]["stored"] == {"shape": [8, 8, 3], "dtype": "uint8"}
    assert found["duplicates"]["between"] == {"train, val": 0, "train, test": 0, "val, test": 0}
    assert found["source"].startswith("your disk.") and not (tmp_path / "out").exists()


def test_configs_of_ones_own_and_their_mistakes(call, asked, tmp_path):
    own = tmp_path / "conf/augmentation"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("_target_: cnnexp.data.augment.pipeline\nops: [flip: {p: 1.0}]\n")
    call("--config-dir", str(tmp_path / "conf"), "augmentation=mine")
    assert asked[0].name == "augmentation=mine"
    with pytest.raises(UserError, match=r"augmentation.ops\[0\]: unknown operation 'flop'"):
        call("augmentation.ops=[{flop: {p: 1.0}}]")


def test_text_alone_imports_neither_torch_nor_matplotlib(tmp_path):
    root = tree(tmp_path / "tree")
    words = ["folder", f"data.root={root}", "data.size=8", "data.val_fraction=0", "--no-page"]
    code = f"import sys; from cnnexp.commands.data import main; main({words!r})"
    code += "; assert not {'torch', 'matplotlib', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], capture_output=True)
