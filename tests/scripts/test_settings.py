"""docs/settings.md is what scripts/settings.py makes of the code and the configs."""

import re
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from cnnexp.config.schema import RunConfig

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.delitem(sys.modules, "settings", raising=False)
    import settings

    return settings


@pytest.mark.integration
def test_the_page_is_up_to_date(settings: Any) -> None:
    assert settings.PAGE.read_text() == settings.page(), "python scripts/settings.py writes it"


def test_the_page_has_every_key(settings: Any) -> None:
    text, nodes = settings.PAGE.read_text(), settings.NODES
    for name in get_type_hints(RunConfig):
        keys = [f"{name}.{key}" for key in get_type_hints(nodes[name])] if name in nodes else [name]
        for key in [] if name in settings.GROUPS else keys:
            assert f"| `{key}` |" in text, key


def test_a_default_is_that_of_the_first_choice(settings: Any) -> None:
    checked = 0
    for section in re.split(r"^## ", settings.PAGE.read_text(), flags=re.MULTILINE):
        group = next((group for group, heading in settings.GROUPS.items() if section.startswith(heading)), None)
        for name, builder in re.findall(r"^### `(\w+)`.*?\n(.*?)(?=^###|\Z)", section, re.MULTILINE | re.DOTALL):
            file = settings.folder() / f"{group}/{name}.yaml"
            for key, value in (yaml.safe_load(file.read_text()) if file.exists() else {}).items():
                row = re.search(rf"^\| `{group}\.{key}` \| .*? \| `?(.*?)`? \| ", builder, re.MULTILINE)
                if row and "${" not in str(value) and not isinstance(value, (dict, list)):
                    checked += 1
                    assert (name, key, row[1]) == (name, key, settings.as_text(value))
    assert checked > 60


def test_a_key_without_a_meaning_is_named(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.meaning(["optimizer/adam.yaml"], "lr") == "learning rate; the schedule multiplies it"
    monkeypatch.setattr(settings, "comments", lambda file, group="": {})
    with pytest.raises(ValueError, match=r"lr: neither a comment in optimizer/adam\.yaml nor the docstring"):
        settings.meaning(["optimizer/adam.yaml"], "lr", "Adam.")
    assert settings.meaning([], "gamma", "Fall. every, gamma: how often and how far. floor: the end.") == (
        "how often and how far"
    )
