"""config.yaml of a run: what is written is what OmegaConf reads."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from cnnexp.records.files import read_config, to_yaml, write_config

NO_REFERENCE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12).filter(
    lambda text: "${" not in text
)
LIKE_NUMBERS = st.text("0123456789.eE+-_:xobyYnNinfa~", max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | NO_REFERENCE | LIKE_NUMBERS
VALUES = st.recursive(
    SCALARS,
    lambda one: (
        st.lists(one, max_size=3) | st.dictionaries(st.from_regex("[a-z_]{1,8}", fullmatch=True), one, max_size=3)
    ),
)


@pytest.mark.integration
@given(VALUES)
@example("1e3")
@example("y")
@example("1_0e3")
@example("2026-01-01")
@example("1:30")
@example(["same", "same"])
def test_a_config_is_read_as_it_was(value: Any) -> None:
    assert OmegaConf.to_container(OmegaConf.create(to_yaml({"value": value}))) == {"value": value}


def test_it_is_written_as_omegaconf_writes_it() -> None:
    config = {
        "_target_": "cnnexp.models.convnet.ConvNet",
        "lr": 1e-05,
        "epochs": "12ep",
        "size": [64, 96],
        "dropout": {"pool": 0.3, "fc": None},
        "name": "größe, 1",
        "text": "1e3",
        "nothing": {},
        "no": "off",
        "long": "word " * 40,
    }
    assert to_yaml(config) == OmegaConf.to_yaml(OmegaConf.create(config))


def test_a_name_that_is_no_text_is_written_as_omegaconf_writes_it(tmp_path: Path) -> None:
    config = {"root": "tree \udcfe", "note": "1e3"}
    write_config(tmp_path / "config.yaml", config)
    assert to_yaml(config) == OmegaConf.to_yaml(OmegaConf.create(config))
    assert read_config(tmp_path / "config.yaml") == config


def test_values_that_are_one_object_are_written_twice(tmp_path: Path) -> None:
    shared = [1, 2]
    write_config(tmp_path / "config.yaml", {"first": shared, "second": shared})
    assert read_config(tmp_path / "config.yaml") == {"first": [1, 2], "second": [1, 2]}


def test_a_value_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="cannot represent"):
        write_config(tmp_path / "config.yaml", {"value": object()})
