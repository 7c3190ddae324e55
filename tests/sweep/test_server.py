"""The process that workers are forked from: what its start leaves of this process."""

import signal

import pytest

from cnnexp.errors import UserError
from cnnexp.process.signals import CODES
from cnnexp.sweep import server


@pytest.mark.skipif(server.METHOD != "forkserver", reason="spawned workers have no server")
def test_signals_are_not_blocked_after_a_start_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise UserError("TMPDIR: no temporary folder can be made")

    monkeypatch.setattr(server, "temporary_files_here", fail)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        with pytest.raises(UserError):
            server.import_ahead()
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before and not before & set(CODES)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
