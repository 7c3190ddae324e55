"""A disk that fails, and files that may not be read: one line that names the file, never a traceback."""

import builtins
import contextlib
import errno
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnnexp import cli, storage
from cnnexp.records.run_record import RunRecord, find_runs

pytestmark = pytest.mark.integration

pytest_plugins = ["trained_runs"]
Train = Callable[..., int]


def refuse(patch: pytest.MonkeyPatch, function: tuple[Any, str], wanted: Callable[[str], bool], number: int) -> None:
    """Let a function raise an error for those of its paths that are wanted."""
    before = getattr(*function)

    def failing(path: Any, *given: Any, **named: Any) -> Any:
        if isinstance(path, (str, os.PathLike)) and wanted(os.fspath(path)):
            raise OSError(number, os.strerror(number), os.fspath(path))
        return before(path, *given, **named)

    as_if_of_python(failing)
    patch.setattr(*function, failing)


def as_if_of_python(function: Any) -> None:
    """Let the frames of a function be Python's own: an error in one of a test would be that of a user's code."""
    function.__code__ = function.__code__.replace(co_filename=os.__file__)


FILES = ["run.json", "config.yaml", "metrics.jsonl", "predictions.npz", "checkpoints/best.pt", ".lock"]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        *((name, (errno.EACCES, errno.EIO)[i % 2]) for i, name in enumerate(FILES)),
        *(pytest.param(name, (errno.EIO, errno.EACCES)[i % 2], marks=pytest.mark.slow) for i, name in enumerate(FILES)),
    ],
)
def test_a_file_of_a_run_that_cannot_be_read(
    trained_run: Path,
    tmp_path: Path,
    name: str,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "outputs" / "study" / trained_run.name
    shutil.copytree(trained_run, run)
    for command in ("verify", "diff", "rerun", "evaluate", "gc", "runs", "report", "predict"):
        words = [command, str(run), *{"diff": [str(trained_run)], "predict": [str(run)]}.get(command, [])]
        with monkeypatch.context() as patch, contextlib.chdir(tmp_path):
            for function in ((builtins, "open"), (io, "open"), (os, "open")):
                refuse(patch, function, lambda path: path == str(run / name), number)
            code = cli.main(words)
        said = capsys.readouterr()
        assert code in (0, 2, 3), (command, said)
        if code and name != ".lock" and command != "predict":
            assert name.rpartition("/")[2] in said.err + said.out, command
        assert "Traceback" not in said.err


@pytest.mark.parametrize("number", [errno.ESTALE, pytest.param(errno.EIO, marks=pytest.mark.slow)])
@pytest.mark.parametrize("function", ["stat", "close", "open", "scandir", "lstat", "fsync", "lseek"])
def test_a_system_call_that_fails_is_one_line(
    function: str,
    number: int,
    train: Train,
    outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At the n-th call that has to do with the outputs; the same command then makes the run."""
    for turn in (2, 11, 29):
        shutil.rmtree(outputs, ignore_errors=True)
        before, left, failed = getattr(os, function), [turn], [False]

        def failing(
            path: Any, *given: Any, own: Any = before, left: Any = left, failed: Any = failed, **named: Any
        ) -> Any:
            try:
                name = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fspath(path)  # noqa: PTH115
            except OSError:
                name = ""
            if isinstance(name, str) and name.startswith(str(outputs)):
                left[0] -= 1
                if left[0] == 0:
                    failed[0] = True
                    if function == "close":
                        own(path)
                    raise OSError(number, os.strerror(number), *([] if isinstance(path, int) else [name]))
            return own(path, *given, **named)

        as_if_of_python(failing)
        with monkeypatch.context() as patch:
            patch.setattr(os, function, failing)
            code = train()
        said = capsys.readouterr().err
        assert code in (0, 2, 3) and (code == 0 or failed[0])
        assert "Traceback" not in said
        if code:
            assert said.splitlines()[-1].startswith("cnnexp: ")
        assert train() == 0
        (run,) = find_runs(outputs)
        assert run.status == "done" and not list(outputs.rglob("*.tmp"))
        capsys.readouterr()


def test_a_failed_save_leaves_no_draft(
    train: Train, outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cnnexp.training import checkpoint

    draft = checkpoint.draft

    def fails(path: Path, content: Any) -> Path:
        if path.name == "last.pt":
            raise storage.StorageError(path, OSError(errno.EIO, os.strerror(errno.EIO)))
        return draft(path, content)

    monkeypatch.setattr(checkpoint, "draft", fails)
    assert train() == 3
    assert "last.pt: cannot be written (Input/output error); the disk or the network" in capsys.readouterr().err
    assert not list(outputs.rglob(".*.tmp"))


def test_a_run_that_is_a_link_is_named_and_not_followed(
    train: Train, outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("epochs=1st") == 0
    (run,) = find_runs(outputs)
    moved = tmp_path / "moved"
    run.folder.rename(moved)
    run.folder.symlink_to(moved)
    assert train("epochs=1st") == 2
    assert f"{run.folder}: is a link; runs are made only in folders; move {moved} here" in capsys.readouterr().err
    for command, code in (("runs", 0), ("report", 2), ("gc", 0), ("verify", 2)):
        from cnnexp import errors

        errors._warned.clear()
        assert cli.main([command, str(outputs)]) == code
        assert f"cnnexp: {run.folder}: is a link, which is not followed" in capsys.readouterr().err, command
    assert cli.main(["evaluate", str(run.folder)]) == 0, "a link that is named is followed"
    assert RunRecord.read(run.folder).status == "done"
