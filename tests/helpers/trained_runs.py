"""Runs that tests of what reads them share: trained once a session, in this process. Tests do not change them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cnnexp import cli, report
from cnnexp.records.run_record import find_runs

SMALL = [
    *("data=postcards", "data.num_train=60", "data.num_test=50", "data.size=8", "data.val_fraction=0.2", "device=cpu"),
    *("device.threads=1", "epochs=2ep", "batch_size=16", "scheduler=constant", "eval_batch_size=32"),
]
NETWORK = ["model.blocks=[{conv:{out:8,kernel:3}},{pool:{kernel:2}},{fc:{out:16}}]", "model.norm=batch"]
STUDY = """\
# @package _global_
study:
  name: trained
  baseline: baseline
  arms:
    baseline: {}
    batchnorm: {model.norm: batch}
    dropout: {model.dropout: {pool: 0.3, fc: 0.3}}
    combined: [batchnorm, dropout]
  seeds: [0, 1]
  reported: {baseline: 50.0, combined: 60.0}
  claims: [batchnorm > baseline, baseline > 20 %, combined > baseline at every epoch]
"""
OWN = "_target_: own_network.OwnNetwork\nwidth: 4\n"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Callable[..., Path]:
    """Return a function that trains a small network and returns the run's directory."""

    def make(name: str, *overrides: str) -> Path:
        outputs = tmp_path_factory.mktemp("trained")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CNNEXP_CACHE", str(session_cache))
            command = ["train", *overrides, *SMALL, f"outputs={outputs}", f"study.name={name}", f"study.arm={name}"]
            assert cli.main(command) == 0
        (run,) = find_runs(outputs)
        return run.folder

    return make


@pytest.fixture(scope="session")
def trained_run(made: Callable[..., Path]) -> Path:
    """Return a run of a small network with batch norm, on embedded images."""
    return made("first", *NETWORK)


@pytest.fixture
def copy(trained_run: Path, tmp_path: Path) -> Path:
    """Return a copy of the trained run that a test may spoil."""
    return Path(shutil.copytree(trained_run, tmp_path / "study" / trained_run.name))


@pytest.fixture(scope="session")
def other_run(made: Callable[..., Path]) -> Path:
    """Return a run of another study: another seed, another learning rate."""
    return made("second", *NETWORK, "seed=1", "optimizer.lr=0.01")


@pytest.fixture(scope="session")
def trained_study(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Path:
    """Return a study of four arms, two seeds each, with probes, claims, reported numbers and a report."""
    outputs, configs = tmp_path_factory.mktemp("trained"), tmp_path_factory.mktemp("configs")
    (configs / "study").mkdir()
    (configs / "study" / "trained.yaml").write_text(STUDY)
    command = ["train", "--config-dir", str(configs), "+study=trained", "probes=all", f"outputs={outputs}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNEXP_CACHE", str(session_cache))
        assert cli.main([*command, *SMALL, NETWORK[0]]) == 0
    report.write(outputs / "trained", figures=False)
    return outputs / "trained"


@pytest.fixture(scope="session")
def own_run(made: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of a network that is a class of a person's own."""
    configs = tmp_path_factory.mktemp("configs")
    (configs / "model").mkdir()
    (configs / "model" / "own.yaml").write_text(OWN)
    return made("own", "--config-dir", str(configs), "model=own")
