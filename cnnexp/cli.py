"""The command table. Imports only the command that was asked for, so that `cnnexp --help` never imports torch."""

import importlib
import io
import os
import sys

from cnnexp import signals
from cnnexp.errors import (
    EXIT_BUG,
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_REQUEST,
    EXIT_SOME_FAILED,
    Interrupted,
    UserError,
    did_you_mean,
    one_line,
)
from cnnexp.text import visible
from cnnexp.version import __version__

COMMANDS = {
    "train": ("cnnexp.train", "train one network, or a sweep of them"),
    "report": ("cnnexp.commands.report", "compare the runs of a study: tables, figures, a page"),
    "data": ("cnnexp.commands.data", "prepare a dataset, say and show what is in it"),
    "summary": ("cnnexp.commands.summary", "print a network's layers, parameters and cost"),
    "ops": ("cnnexp.commands.ops", "hold the from-scratch operations to torch's: differences, times"),
    "runs": ("cnnexp.commands.runs", "list the runs and how they went"),
    "evaluate": ("cnnexp.commands.evaluate", "evaluate a trained model on a split, or on other data"),
    "predict": ("cnnexp.commands.predict", "name what is in images"),
    "rerun": ("cnnexp.commands.rerun", "repeat a run from its record: are the numbers the same?"),
    "verify": ("cnnexp.commands.verify", "recompute a report's numbers from the stored logits"),
    "diff": ("cnnexp.commands.diff", "say how two runs differ: config, versions, numbers"),
    "gc": ("cnnexp.commands.gc", "find and delete what no study needs any more"),
}
EXAMPLES = """\
examples:
  cnnexp train model=custom +aug=full          one run
  cnnexp train +study=ablation                 a study: arms x seeds
  cnnexp report outputs/ablation               what came out
"""


def usage() -> str:
    """Return the help text."""
    width = max(map(len, COMMANDS))
    table = "\n".join(f"  {name:<{width}}  {words}" for name, (_, words) in COMMANDS.items())
    return (
        "usage: cnnexp COMMAND ...\n\nConvolutional-network experiments, from YAML to a verdict.\n\n"
        f"commands:\n{table}\n\n{EXAMPLES}\n`cnnexp COMMAND --help` says more; this is version {__version__}.\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code. A person's mistake is one line, a bug shows its traceback."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names may hold what is no text
            stream.reconfigure(errors="backslashreplace")
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return EXIT_DONE if argv else EXIT_REQUEST
    if argv[0] in ("-V", "--version"):
        print(__version__)
        return EXIT_DONE
    if argv[0] in ("-sc", "--shell-completion"):
        return complete(argv)
    if odd := [word for word in argv if word.startswith("-") and visible(word) != word]:  # a file's name, by way of *
        print(f"cnnexp: given '{visible(odd[0])}'; an option has no such characters (a file: ./NAME)", file=sys.stderr)
        return EXIT_REQUEST
    if argv[0] not in COMMANDS:
        message = f"no command '{argv[0]}'{did_you_mean(argv[0], COMMANDS)}; see cnnexp --help"
        print(f"cnnexp: {one_line(message)}", file=sys.stderr)
        return EXIT_REQUEST
    try:
        code: int = importlib.import_module(COMMANDS[argv[0]][0]).main(argv[1:])
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"cnnexp: {one_line(error)}", file=sys.stderr)
        return EXIT_REQUEST
    except Interrupted as error:
        print(f"cnnexp: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as error:
        print("cnnexp: interrupted", file=sys.stderr)
        return error.exit_code if isinstance(error, signals.Stop) else EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BUG
    except Exception as error:
        if "hydra" not in sys.modules:
            raise
        if told := in_own_code(error):
            print(told, file=sys.stderr)
            return EXIT_SOME_FAILED
        from cnnexp.config.hydra_errors import of_a_reader, tell

        if not of_a_reader(error):
            raise
        print(f"cnnexp: {one_line(tell(error, argv))}", file=sys.stderr)
        return EXIT_REQUEST


def complete(argv: list[str]) -> int:
    """Complete words in a shell: `cnnexp` its commands, Hydra the overrides after `cnnexp train`.

    Answers `cnnexp -sc install=bash`, `uninstall=bash` and the shell's own `query=bash`; returns the exit code.
    """
    if any(word.startswith("query=") for word in argv):
        line = os.environ.get("COMP_LINE", "")
        words = line.split()
        if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
            print("\n".join(name for name in COMMANDS if name.startswith(words[1] if len(words) == 2 else "")))
            return 0
        if words[1] != "train":
            return 0
        os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]]) + (" " if line.endswith(" ") else "")
    from cnnexp.train import launch

    sys.argv[0] = "cnnexp"
    return launch(argv)


def in_own_code(error: Exception) -> str:
    """Tell an error of a person's own code: where it came through that, and what it is. "" for any other."""
    from cnnexp.config.user_code import own_frames

    frames = own_frames(error)
    if not frames:
        return ""
    path = "".join(f"  {visible(frame.filename)}:{frame.lineno}, in {frame.name}: {frame.line}\n" for frame in frames)
    return f"in your code:\n{path}cnnexp: {type(error).__name__}: {one_line(error)}"


def entry(argv: list[str] | None = None) -> None:
    """Start the command `cnnexp`, and end its process.

    Python's own end takes half a second once torch is there, for nothing: whatever a command made is written by now.
    """
    signals.end_quietly()
    try:
        code = main(argv)
    except signals.Stop as stop:  # between the command's end and this line
        code = stop.exit_code
    except SystemExit as stop:  # a sweep's exit code comes through Hydra
        if not isinstance(stop.code, int):
            raise
        code = stop.code
    signals.ignore()
    if "torch" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
