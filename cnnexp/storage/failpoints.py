"""Named places where storage can be made to fail, so that tests can interrupt a run at every one of them.

    CNNEXP_FAILPOINT=replace.sync:kill:3 cnnexp train        is killed before it syncs a third new file
    CNNEXP_FAILPOINT='*:enospc:40+' cnnexp train             the disk is full from the 40th operation on

Every operation on the disk calls `reach` first, with the name `<role>.<operation>`: replace.write, rows.sync,
lock.open. There is no list of them: every function of `storage.disk` has its failpoint.
"""

import errno
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cnnexp.errors import UserError

VARIABLE = "CNNEXP_FAILPOINT"
ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO, "eacces": errno.EACCES}
ACTIONS = (*ERRORS, "kill", "short", "torn")  # short: half of a write, then ENOSPC; torn: half of a write, then kill
Content = bytes | memoryview


@dataclass(frozen=True)
class Passage:
    """The next operation. content, offset: of a write; to: the new name, of a rename or a link."""

    point: str
    path: Path
    content: Content = b""
    offset: int = 0
    to: Path | None = None


Observer = Callable[[Passage], int | None]


def reach(point: str, path: Path, content: Content = b"", offset: int = 0, to: Path | None = None) -> int | None:
    """Report the next operation to the observer, if there is one. It may kill the process, or raise OSError.

    Returns how many bytes to write before the next call; None for all of them.
    """
    return None if observer is None else observer(Passage(point, path, content, offset, to))


class Failpoint:
    """Fails at the n-th operation at a point ("*": at any point); with `onward`, at every later one too."""

    def __init__(self, point: str, action: str, number: int, onward: bool):
        self.point, self.action, self.number, self.onward = point, action, number, onward
        self.passed = 0

    def __call__(self, passage: Passage) -> int | None:
        """Count an operation, and fail if its turn has come."""
        if self.point not in ("*", passage.point):
            return None
        self.passed += 1
        halves = self.action in ("short", "torn")
        size = memoryview(passage.content).nbytes
        if self.passed == self.number and halves and size > 1:
            self.number += 1  # fail at the second half
            return size // 2
        if self.passed == self.number or (self.onward and self.passed > self.number):
            self.fail(passage.path)
        return None

    def fail(self, path: Path) -> None:
        """Kill the process, or raise the error."""
        if self.action in ("kill", "torn"):
            os.kill(os.getpid(), signal.SIGKILL)
        number = ERRORS.get(self.action, errno.ENOSPC)
        raise OSError(number, os.strerror(number), str(path))


def parse(text: str) -> Failpoint:
    """Parse POINT:ACTION:N, or POINT:ACTION:N+. Raises UserError for anything else."""
    point, action, number = [*text.split(":"), "", ""][:3]
    if not point or action not in ACTIONS or not number.removesuffix("+").isdigit():
        raise UserError(
            f"{VARIABLE}: given '{text}'; allowed: POINT:ACTION:N or N+, ACTION one of {', '.join(ACTIONS)}"
        )
    return Failpoint(point, action, int(number.removesuffix("+")), number.endswith("+"))


observer: Observer | None = parse(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None
