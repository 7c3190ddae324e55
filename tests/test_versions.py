"""pyproject.toml, constraints.txt and the README agree on versions."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
PINNED = dict(line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().split())
PINNED = {canonicalize_name(name): version for name, version in PINNED.items()}
OPTIONAL = PROJECT["optional-dependencies"]
INSTALLED = [name for given in OPTIONAL["dev"] for name in re.findall(r"cnnexp\[(.+)\]", given)]  # by `make install`
EXTRAS = ["dev", *(name for names in INSTALLED for name in names.split(","))]
NEEDED = [Requirement(text) for text in [*PROJECT["dependencies"], *(t for name in EXTRAS for t in OPTIONAL[name])]]


@pytest.mark.parametrize("needed", [r for r in NEEDED if r.name != "cnnexp"], ids=lambda r: r.name)
def test_what_is_pinned_is_allowed(needed: Requirement) -> None:
    pinned = PINNED.get(canonicalize_name(needed.name))
    assert pinned is not None, f"constraints.txt does not pin {needed.name}, which make install installs"
    assert needed.specifier.contains(pinned), f"{needed.name}=={pinned} of constraints.txt is not {needed.specifier}"


def test_every_dependency_has_a_lowest_version() -> None:
    open_ended = [r.name for r in map(Requirement, PROJECT["dependencies"]) if ">=" not in str(r.specifier)]
    assert open_ended == []


def test_the_readme_says_which_versions_are_tested() -> None:
    lowest = {r.name: str(r.specifier).removeprefix(">=") for r in map(Requirement, PROJECT["dependencies"])}
    text = " ".join((REPOSITORY / "README.md").read_text().split())
    assert f"torch {PINNED['torch']} and torchvision {PINNED['torchvision']}" in text
    assert f"torch {lowest['torch']} and torchvision {lowest['torchvision']}" in text
    assert f"Python {PROJECT['requires-python'].removeprefix('>=')}" in text
