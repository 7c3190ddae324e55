"""The errors that a person can mend, and the exit codes of every command."""

import difflib
from collections.abc import Iterable

EXIT_DONE = 0
EXIT_BUG = 1
EXIT_REQUEST = 2
EXIT_SOME_FAILED = 3
EXIT_PREEMPTED = 75
EXIT_INTERRUPTED = 130


class UserError(ValueError):
    """The request cannot be done as asked. Shown as one line, without a traceback; exit code 2."""


class Skipped(UserError):
    """The needs of a run cannot be met here (weights that are not to be had, say); its message says which."""


class Diverged(RuntimeError):
    """The loss stopped being finite. The run keeps its last good checkpoint and is recorded as `diverged`.

    step: the first whose training loss is not finite, None if it was the validation loss. samples: ids of its batch.
    """

    def __init__(self, message: str, step: int | None = None):
        super().__init__(message)
        self.step = step
        self.samples: list[str] = []


class Interrupted(RuntimeError):
    """A signal asked the run to stop; its state is saved. `exit_code` is 130 (by hand) or 75 (by a scheduler)."""

    def __init__(self, exit_code: int):
        super().__init__("interrupted; the same command goes on from here")
        self.exit_code = exit_code


MANY = 30  # names that are not all told


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest of `allowed`, or "" if none is close."""
    close = difflib.get_close_matches(str(given), [str(a) for a in allowed], n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""


def unknown(where: str, what: str, given: str, allowed: Iterable[str]) -> UserError:
    """Build the error for a name that is not one of `allowed`: where, what was given, what is allowed, a guess.

    Of very many names those nearest to what was given are told.
    """
    allowed = [str(a) for a in allowed]
    told = ", ".join(allowed)
    if len(allowed) > MANY:
        near = difflib.get_close_matches(str(given), allowed, n=6, cutoff=0.3) or allowed[:6]
        told = f"{', '.join(sorted(near))}, ... ({len(allowed)} in all)"
    return UserError(f"{where}: unknown {what} '{given}'; choose one of {told}{did_you_mean(given, allowed)}")


LONGEST = 800  # characters of a message


def one_line(message: object) -> str:
    """Return a message as one printable line; what would steer a terminal is escaped, a long one loses its middle.

    Names and values in it may hold newlines, escape sequences, or bytes that are no text.
    """
    text = str(message).strip()
    if len(text) > LONGEST:
        text = f"{text[: LONGEST * 2 // 3]} ... {text[-LONGEST // 3 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
