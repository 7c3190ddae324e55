"""A run is named after all of a person's own code that it trains with, and after nothing else."""

import importlib
from pathlib import Path

import pytest

from cnnexp.config.checks import import_builders
from cnnexp.config.user_code import imported, user_code


def write(folder: Path, **files: str) -> None:
    """Write modules, given by dotted name with three underscores for the dots."""
    for name, text in files.items():
        path = folder.joinpath(*name.split("___")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_what_is_shipped_is_not_a_persons_own() -> None:
    assert user_code([{"_target_": "cnnexp.optim.optimizers.adam"}, {"_target_": "torch.optim.Adam"}]) == {}


def test_one_file_and_those_beside_it_that_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, mended_net="import json\nfrom mended_blocks import Block\n", mended_other="")
    write(tmp_path, mended_blocks="class Block: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("mended_net")
    node = {"_target_": "mended_net.Net"}
    before = user_code([node])
    assert list(before) == ["mended_net", "mended_blocks.py"]
    for name in before:
        file = tmp_path / f"{name.removesuffix('.py')}.py"
        file.write_text(file.read_text() + "# changed\n")
        now = user_code([node])
        assert now != before, name
        before = now
    write(tmp_path, mended_other="width = 2")
    assert user_code([node]) == before, "what nothing imports does not count"


def test_builders_inside_another_node_and_files_that_a_node_names_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, inner_noise="def noise(images): ...\n", inner_net="class Net: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    stains, unrelated = tmp_path / "stains.txt", tmp_path / "unrelated.txt"
    stains.write_text("1")
    unrelated.write_text("1")
    inner = {
        "_target_": "inner_noise.noise",
        "files": [{"first": str(stains)}],
        "mode": "no such file",
        "long": "x" * 999,
    }
    got = {"_target_": "hydra.utils.get_method", "path": "inner_net.Net"}
    nodes = [{"_target_": "torchvision.transforms.v2.Compose", "transforms": [inner, got], "name": str(unrelated)}]
    import_builders(nodes)
    before = user_code(nodes)
    assert set(before) == {"inner_noise", str(stains), "inner_net"}
    stains.write_text("2")
    assert {name for name, found in user_code(nodes).items() if before[name] != found} == {str(stains)}


def test_imports_of_a_package_are_followed_whether_they_have_run_or_not(tmp_path: Path) -> None:
    write(
        tmp_path,
        parts_____init__="",
        parts___nets="from . import blocks\nfrom .deep import layers as own\nimport torch\n",
        parts___blocks="def f():\n    from parts.deep.late import g\n",
        parts___deep_____init__="from ..shared import x\n",
        parts___deep___layers="import parts.nets\n",
        parts___deep___late="broken (",
        parts___shared="x = 1\n",
        parts___apart="",
    )
    found = {str(file.relative_to(tmp_path)) for file in imported(tmp_path / "parts" / "nets.py", tmp_path)}
    names = ("__init__", "nets", "blocks", "deep/__init__", "deep/layers", "deep/late", "shared")
    assert found == {f"parts/{name}.py" for name in names}
