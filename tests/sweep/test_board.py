"""What a sweep shows while it runs."""

import pytest

from cnnexp.process import bars
from cnnexp.sweep.board import Board


def test_the_bar_has_no_empty_part_before_the_first_run_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bars, "shown", lambda: True)
    board = Board(4, 0, lambda: None)
    board.show()
    board.close()
    assert ", running 0]" in (shown := capsys.readouterr().err) and ", ," not in shown
