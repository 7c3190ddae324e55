"""What is recorded of the code and its packages, whatever lies in the working directory or the environment."""

import importlib.metadata
import importlib.util
from pathlib import Path

import pytest

from cnnexp import trackers
from cnnexp.errors import UserError
from cnnexp.records import provenance
from cnnexp.version import version_of


@pytest.mark.integration
def test_a_folder_is_no_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tracker_of_nobody").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(trackers, "TRACKERS", ("tracker_of_nobody",))
    assert importlib.util.find_spec("tracker_of_nobody"), "it can be imported"
    assert version_of("tracker_of_nobody") is None and version_of("not_even_a_folder") is None
    with pytest.raises(UserError, match="tracker_of_nobody is not installed"):
        trackers.check("tracker_of_nobody")
    assert version_of("torch") == importlib.metadata.version("torch")
    assert version_of("hydra") == importlib.metadata.version("hydra-core"), "imported by another name"


def test_the_repository_of_a_git_hook_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if (own := provenance._commit()) is None:
        pytest.skip("no checkout with git")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "other"))
    assert provenance._commit() == own
