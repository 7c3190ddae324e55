"""What the tests of commands share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cnnexp import cli


@pytest.fixture
def cnnexp(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command in this process: (exit code, stdout, stderr)."""

    def run(*argv: str | Path) -> tuple[int, str, str]:
        try:
            code = cli.main([str(word) for word in argv])
        except SystemExit as stop:  # raised by argparse
            code = stop.code
        return code, *capsys.readouterr()

    return run
