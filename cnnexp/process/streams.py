"""Standard streams that cannot be written: closed, on a full disk, or with a reader that has ended.

The command goes on without them: a run's numbers are in its own files. What was lost is reported in one line on the
other stream, and by the exit code. A closed stream is one that the user does not want: it is /dev/null.
"""

import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING

from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

BROKEN_PIPE = 141  # what a shell reports of a tool that SIGPIPE ended


class Output(io.FileIO):
    """A standard stream, unbuffered. Its first error is reported, and nothing is written after it."""

    def __init__(self, descriptor: int, name: str, quiet_pipe: bool):
        """quiet_pipe: report nothing if the reader has ended, as in `cnnexp runs | head`."""
        super().__init__(descriptor, "w", closefd=False)
        self.title, self.quiet_pipe = name, quiet_pipe
        self.lost: OSError | None = None
        self.others: list[Output] = []  # on which errors are reported
        self.written: list[int | None] = []  # by a write that a signal's exception left before it could return

    def write(self, content: "ReadableBuffer") -> int:
        """Write some or all of `content`; return the number of bytes that are dealt with.

        A signal handler may raise between any two calls here; the buffer then calls again with the same content. So the
        number of bytes is kept by the call that writes them, and no byte is written twice.
        """
        while self.lost is None:
            try:
                if not self.written:
                    self.written.extend(map(super().write, (content,)))
                written, self.written = self.written[0], []
                if written is not None:
                    return written
                select.select([], [self.fileno()], [])  # it does not block, and its reader is slow
            except OSError as error:
                self.lost = error
                if not (self.quiet_pipe and error.errno == errno.EPIPE) and all(o.lost is None for o in self.others):
                    other = sys.stdout if self.title == "standard error" else sys.stderr
                    print(f"cnnexp: {self.title}: cannot be written ({error.strerror})", file=other, flush=True)
        return memoryview(content).nbytes


def open_closed() -> None:
    """Open /dev/null as each standard stream that is closed, so that no other file gets its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def guard(quiet_pipe: bool) -> Output:
    """Replace standard output and standard error by streams that bear every error; return the former.

    Names may contain bytes that are not text: they are written escaped.
    """
    open_closed()
    found = []
    for descriptor, name, before in ((1, "standard output", sys.stdout), (2, "standard error", sys.stderr)):
        raw = Output(descriptor, name, quiet_pipe)
        encoding = getattr(before, "encoding", "utf-8")
        lines = raw.isatty() or descriptor == 2 or getattr(before, "write_through", False)
        text = io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=lines)
        setattr(sys, ("stdout", "stderr")[descriptor - 1], text)
        found.append(raw)
    for raw in found:
        raw.others = [other for other in found if other is not raw]
    return found[0]


def exit_code(code: int, output: Output) -> int:
    """Return a command's exit code: one that would say "done" says that its output was lost, if it was."""
    if code != EXIT_DONE or output.lost is None:
        return code
    return BROKEN_PIPE if output.lost.errno == errno.EPIPE else EXIT_SOME_FAILED
