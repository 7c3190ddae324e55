"""The errors that a user can fix, and the exit codes of every command."""

import difflib
import errno
import sys
from collections.abc import Iterable

EXIT_DONE = 0  # 1 is a bug: Python's own code after a traceback
EXIT_REQUEST = 2
EXIT_SOME_FAILED = 3
EXIT_PREEMPTED = 75
EXIT_INTERRUPTED = 130


class UserError(ValueError):
    """The user can fix this. The command line shows it as one line without a traceback; exit code 2."""

    def _render_traceback_(self) -> list[str]:
        """Show a notebook the same line; IPython asks for it by this name."""
        return [f"cnnexp: {one_line(self)}"]


class Skipped(UserError):
    """A run cannot start here because something is missing, such as pretrained weights; the message names it."""


class BudgetTooShort(UserError):
    """The budget of a sweep lets none of its runs start."""


class Diverged(RuntimeError):
    """The loss is no longer finite. The run keeps its last good checkpoint and is recorded as `diverged`.

    step: the first step with a training loss that is not finite; None if it was the validation loss.
    samples: ids of the images of that step's batch.
    """

    def __init__(self, message: str, step: int | None = None):
        super().__init__(message)
        self.step = step
        self.samples: list[str] = []


STOPPED = "interrupted; the same command continues from here"


class Interrupted(RuntimeError):
    """A signal stopped the run; its state is saved. `exit_code` is 130 (Ctrl-C) or 75 (a scheduler's signal)."""

    def __init__(self, exit_code: int, number: int | None = None):
        """number: of the signal."""
        super().__init__(STOPPED)
        self.exit_code, self.number = exit_code, number


class ProcessLost(RuntimeError):
    """One of several processes of a run has ended, or does not answer; the run goes on from its last checkpoint."""


class Incomplete(RuntimeError):
    """Runs of a sweep failed or diverged, or are left to make. study: a cnnexp.Study of those that were made."""

    def __init__(self, message: str, study: object):
        super().__init__(message)
        self.study = study


OUT_OF_MEMORY = (  # of the system, the loader of libraries, CUDA and its libraries
    *("allocate memory", "bad_alloc", "failed to map segment", "cannot map", "can't start new thread"),
    *("out of memory", "STATUS_ALLOC_FAILED"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, of the machine, of a limit or of an accelerator."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is torch's
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, (RuntimeError, ImportError)) and any(words in str(error) for words in OUT_OF_MEMORY)


MAX_NAMES = 40  # longer lists of names are shortened to the closest ones


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest of `allowed`, or "" if none is close."""
    close = difflib.get_close_matches(str(given), [str(a) for a in allowed], n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""


def unknown(where: str, what: str, given: str, allowed: Iterable[str]) -> UserError:
    """Return the error for a name that is not in `allowed`: it says where, what was given, and what is allowed.

    It suggests the closest name. If there are more than MAX_NAMES, it lists only the closest ones.
    """
    allowed = [str(a) for a in allowed]
    listed = ", ".join(allowed)
    if len(allowed) > MAX_NAMES:
        near = difflib.get_close_matches(str(given), allowed, n=6, cutoff=0.3) or allowed[:6]
        listed = f"{', '.join(sorted(near))}, ... ({len(allowed)} in all)"
    return UserError(f"{where}: unknown {what} '{given}'; choose one of {listed}{did_you_mean(given, allowed)}")


_warned: set[str] = set()


def warn_once(kind: str, line: str) -> None:
    """Print a line to standard error, unless this process has printed one of the same kind before."""
    if kind not in _warned:
        _warned.add(kind)
        print(line, file=sys.stderr, flush=True)


MAX_MESSAGE = 800  # characters


def reason_of(error: object) -> str:
    """Return an error of a library as one printable line; its line ends are spaces. See `one_line`."""
    return one_line(" ".join(str(error).split()))


def one_line(message: object) -> str:
    """Return a message as one printable line: control characters are escaped, and a long message loses its middle.

    Names and values in a message may contain newlines, escape sequences, or bytes that are not text.
    """
    text = str(message).strip()
    if len(text) > MAX_MESSAGE:
        text = f"{text[: MAX_MESSAGE * 2 // 3]} ... {text[-MAX_MESSAGE // 3 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
