"""Files that grow by rows: what a kill leaves of a row, truncating, missing rows."""

from pathlib import Path

import pytest

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.storage import checksums

pytestmark = pytest.mark.counts("operations")


@pytest.mark.parametrize("cut", range(1, 16))
def test_a_row_that_a_kill_tore_is_dropped_and_written_over(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "metrics.jsonl"
    rows = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    for row in rows:
        storage.append_row(file, row)
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    assert storage.read_rows(file) == rows[:1]
    storage.keep_rows(file, 1)
    storage.append_row(file, rows[1])
    assert file.read_bytes() == whole


def test_reading_stops_at_what_is_no_row(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert storage.read_rows(file) == []
    first, third = checksums.encode({"a": 1}), checksums.encode({"a": 3})
    for second in (b"[2]\n", b"\xff\xfe\n", b'{"a": 2}\n'):
        file.write_bytes(first + second + third)
        assert storage.read_rows(file) == [{"a": 1}]


def test_rows_that_are_gone_are_missed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for number in range(3):
        storage.append_row(path, {"number": number})
    storage.keep_rows(path, 2)
    assert storage.read_rows(path) == [{"number": 0}, {"number": 1}]
    with pytest.raises(UserError, match="has 2 readable rows, but 3 are needed"):
        storage.keep_rows(path, 3)
    path.unlink()
    with pytest.raises(UserError, match="has 0 readable rows"):
        storage.keep_rows(path, 1)
