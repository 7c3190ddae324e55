"""The command table. It imports only the command that is called, so that `cnnexp --help` never imports torch."""

import atexit
import importlib
import os
import sys
from contextlib import redirect_stderr, suppress
from io import StringIO

from cnnexp.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_REQUEST,
    EXIT_SOME_FAILED,
    STOPPED,
    Interrupted,
    UserError,
    did_you_mean,
    is_out_of_memory,
    one_line,
)
from cnnexp.process import limits, signals, streams
from cnnexp.text import at_home, visible
from cnnexp.version import __version__

COMMANDS = {
    "train": ("cnnexp.train", "train one network, or a sweep of them"),
    "work": ("cnnexp.commands.work", "make the planned runs of a study, beside other workers"),
    "lr-find": ("cnnexp.commands.lr_find", "draw the loss against the learning rate, and suggest one"),
    "report": ("cnnexp.commands.report", "compare the runs of a study: tables, figures, a page"),
    "track": ("cnnexp.commands.track", "send the records of runs to TensorBoard, MLflow or W&B"),
    "data": ("cnnexp.commands.data", "prepare a data set, print and show what is in it"),
    "summary": ("cnnexp.commands.summary", "print a network's layers, parameters and cost"),
    "models": ("cnnexp.commands.models", "list networks by name: parameters, input size, pretrained weights"),
    "ops": ("cnnexp.commands.ops", "compare the from-scratch operations with torch: differences, times"),
    "runs": ("cnnexp.commands.runs", "list the runs with their status and results"),
    "evaluate": ("cnnexp.commands.evaluate", "evaluate a trained model on a split, or on other data"),
    "predict": ("cnnexp.commands.predict", "predict the classes of images"),
    "mistakes": ("cnnexp.commands.mistakes", "list every wrong test image of a run, or show them on a page"),
    "export": ("cnnexp.commands.export", "write a trained model for other programs: ONNX, torch.export, safetensors"),
    "rerun": ("cnnexp.commands.rerun", "repeat a run from its record and compare the numbers"),
    "verify": ("cnnexp.commands.verify", "recompute a report's numbers from the stored logits"),
    "diff": ("cnnexp.commands.diff", "show how two runs differ: config, versions, numbers"),
    "gc": ("cnnexp.commands.gc", "find and delete what no study needs any more"),
}
PRINTS = ("-h", "--help", "-c=", "--cfg", "-i", "--info", "--plan", "--version")  # flags of train that train nothing
EXAMPLES = """\
examples:
  cnnexp train model=custom aug=full           one run
  cnnexp train +study=ablation                 a study: arms x seeds
  cnnexp report outputs/ablation               compare its runs
"""


def usage() -> str:
    """Return the help text."""
    width = max(map(len, COMMANDS))
    table = "\n".join(f"  {name:<{width}}  {words}" for name, (_, words) in COMMANDS.items())
    return (
        "usage: cnnexp COMMAND ...\n\nConvolutional-network experiments, from YAML to a verdict.\n\n"
        f"commands:\n{table}\n\n{EXAMPLES}\nMore: cnnexp COMMAND --help. This is version {__version__}.\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code. A user's mistake is one line, a bug shows its traceback."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return EXIT_DONE if argv else EXIT_REQUEST
    if argv[0] in ("-V", "--version"):
        print(__version__)
        return EXIT_DONE
    if argv[0] in ("-sc", "--shell-completion"):
        return complete(argv)
    if odd := [word for word in argv if word.startswith("-") and visible(word) != word]:  # a file name, expanded from *
        return fail(f"given '{odd[0]}'; not an option (for a file write ./NAME)")
    if argv[0] not in COMMANDS:
        return fail(f"no command '{argv[0]}'{did_you_mean(argv[0], COMMANDS)}; see cnnexp --help")
    try:
        limits.check_address_space(argv[0])
        code: int = importlib.import_module(COMMANDS[argv[0]][0]).main([home_in(word) for word in argv[1:]])
        sys.stdout.flush()
        return code
    except UserError as error:
        return fail(error)
    except Interrupted as error:
        return fail(error, error.exit_code)
    except KeyboardInterrupt as error:
        words = STOPPED if argv[0] in ("train", "work") else "interrupted"
        return fail(words, error.exit_code if isinstance(error, signals.Stop) else EXIT_INTERRUPTED)
    except Exception as error:
        if "hydra" in sys.modules and (message := in_user_code(error)):
            print(message, file=sys.stderr)
            return EXIT_SOME_FAILED
        if is_out_of_memory(error):
            return fail(
                f"out of memory ({error or 'MemoryError'}); allow more, see ulimit -v and ulimit -u", EXIT_SOME_FAILED
            )
        from cnnexp.storage import MACHINE, StorageError

        if isinstance(error, OSError) and error.errno in MACHINE:
            return fail(StorageError(error.filename or "a file", error, "used"))
        if "hydra" not in sys.modules:
            raise
        from cnnexp.config.hydra_errors import of_a_reader, translate

        if not of_a_reader(error):
            raise
        return fail(translate(error, argv))


def home_in(word: str) -> str:
    """Return a word with the user's home folder for a `~` that the shell left there: in quotes, or after --out=."""
    flag, equals, path = word.partition("=") if word.startswith("-") else ("", "", word)
    return flag + equals + at_home(path)


def fail(message: object, code: int = EXIT_REQUEST) -> int:
    """Print a message as one line to standard error, and return the exit code."""
    print(f"cnnexp: {one_line(message)}", file=sys.stderr)
    return code


def complete(argv: list[str]) -> int:
    """Complete words in a shell: Hydra completes the settings, commands/completion.py all else.

    argv: `-sc install=bash`, `-sc uninstall=bash`, or the shell's own `-sc query=bash`. Returns the exit code.
    """
    line: str | None = None
    if any(word.startswith("query=") for word in argv):
        from cnnexp.commands.completion import offers

        found, line = offers(os.environ.get("COMP_LINE", ""), COMMANDS)
        if line is None:
            print("\n".join(found))
            return EXIT_DONE
        os.environ["COMP_LINE"] = line
    from cnnexp.config.compose import ask_hydra, register_for_completion

    sys.argv[0] = "cnnexp"
    if line is None:
        return ask_hydra(argv)
    with redirect_stderr(StringIO()), suppress(Exception, SystemExit):  # half a line is no mistake
        register_for_completion(line.split())
        ask_hydra(argv)
    return EXIT_DONE


def in_user_code(error: Exception) -> str:
    """Describe an error that was raised in the user's code, and its place there; "" for any other error."""
    from cnnexp.config.user_code import user_frames

    frames = user_frames(error)
    if not frames:
        return ""
    path = "".join(f"  {visible(frame.filename)}:{frame.lineno}, in {frame.name}: {frame.line}\n" for frame in frames)
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", []))
    return f"in your code:\n{path}cnnexp: {type(error).__name__}: {one_line(f'{error}{notes}')}"


def entry(argv: list[str] | None = None) -> None:
    """Run the command `cnnexp`, and exit the process.

    After importing torch, Python takes half a second to exit; os._exit skips that, because all files are written and
    the temporary ones are deleted.
    """
    signals.end_quietly()
    words = sys.argv[1:] if argv is None else argv
    prints = words[:1] != ["train"] or any(word.startswith(PRINTS) for word in words)
    output = streams.guard(quiet_pipe=prints)
    try:
        code = main(argv)
    except signals.Stop as stop:  # after the command's end, before this line
        code = stop.exit_code
    except SystemExit as stop:  # raised by argparse
        if not isinstance(stop.code, int):
            raise
        code = stop.code
    signals.ignore()
    sys.stdout.flush()
    code = streams.exit_code(code, output)
    if "torch" in sys.modules:
        atexit._run_exitfuncs()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
