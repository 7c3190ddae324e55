"""The page of a data set: hostile names, what `cnnexp data` writes and prints."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from image_folders import array_data, tree
from pages import HOSTILE, Page

from cnnexp.commands import data as command
from cnnexp.errors import UserError
from cnnexp.explore import facts, page


@pytest.mark.integration
def test_a_page_of_hostile_names_is_whole_offline_and_harmless(tmp_path):
    names = [name.replace("/", "") for name in HOSTILE]
    data = array_data(names, [4] * len(names))
    found = facts.gather(data, None)
    twin = [
        facts.duplicates.Member(split, name, k, 0)
        for k, (split, name) in enumerate([("train", HOSTILE[0]), ("test", HOSTILE[6])])
    ]
    found.duplicates.groups.append(twin)
    written = page.write(found, None, tmp_path / "out", "cnnexp data '<b>'")
    content = Page(written.read_text())
    assert not content.strange and "b" not in content.tags and not [a for a in content.attributes if a.startswith("on")]
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


def test_a_page_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="out/figures: cannot make this folder"):
        page.write(facts.gather(array_data(["a", "b"], [3, 3]), None), None, tmp_path / "out", "")


@pytest.fixture
def call(tmp_path, capsys):
    """Return a function that does `cnnexp data` on a small tree, with `more`, and returns what it prints."""
    root = tree(tmp_path / "tree", count=10)

    def run(*more):
        assert command.main(["folder", f"data.root={root}", "data.size=8", f"outputs={tmp_path / 'out'}", *more]) == 0
        return capsys.readouterr().out

    return run


@pytest.mark.integration
def test_the_page_is_where_the_command_says(call, tmp_path):
    printed = call()
    index = tmp_path / "out/data/folder-tree/index.html"
    assert printed.splitlines()[-1] == f"{'page':12} {index}" and index.exists()
    assert "augmented by +aug=full, as an example" in Page(index.read_text()).text
    assert "Your own images:" in index.read_text() and "From: your disk." not in printed


@pytest.fixture
def asked(monkeypatch):
    """Draw no pages; return the list of what they would have shown as augmented."""
    shown = []
    monkeypatch.setattr(page, "write", lambda found, augmented, out, command: shown.append(augmented) or out)
    return shown


@pytest.mark.integration
def test_what_augments_is_what_was_asked_for(call, asked):
    for given in ([], ["+aug=crop"], ["augmentation=flip", "augmentation.ops.0.flip.p=1.0"], ["+aug=none"]):
        call(*given)
    example, crop, flip, none = asked
    assert example.name.startswith("+aug=full, as an example") and crop.name == "+aug=crop" and none is None
    assert flip.name == "augmentation=flip augmentation.ops.0.flip.p=1.0"
    x = torch.rand(2, 3, 4, 4)
    assert torch.equal(flip.apply(x.clone(), torch.Generator()), x.flip(3))


def test_json_holds_the_numbers_and_makes_no_page(call, tmp_path):
    found = json.loads(call("--json"))
    assert found["counts"] == {"train": [9, 9], "val": [1, 1], "test": [10, 10]}
    assert found["image"]["stored"] == {"shape": [8, 8, 3], "dtype": "uint8"}
    assert found["duplicates"]["between"] == {"train, val": 0, "train, test": 0, "val, test": 0}
    assert found["source"].startswith("your disk.") and not (tmp_path / "out").exists()


def test_user_configs_and_their_mistakes(call, asked, tmp_path):
    own = tmp_path / "conf/augmentation"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("_target_: cnnexp.data.augment.pipeline\nops: [flip: {p: 1.0}]\n")
    call("--config-dir", str(tmp_path / "conf"), "augmentation=mine")
    assert asked[0].name == "augmentation=mine"
    with pytest.raises(UserError, match=r"augmentation.ops\[0\]: unknown operation 'flop'"):
        call("augmentation.ops=[{flop: {p: 1.0}}]")


@pytest.mark.integration
def test_text_alone_imports_neither_torch_nor_matplotlib(tmp_path):
    root = tree(tmp_path / "tree")
    words = ["folder", f"data.root={root}", "data.size=8", "data.val_fraction=0", "--no-page"]
    code = f"import sys; from cnnexp.commands.data import main; main({words!r})"
    code += "; assert not {'torch', 'matplotlib', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], capture_output=True)
