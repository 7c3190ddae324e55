"""The common form of every command's help, and the arguments that several commands share. Imports no torch."""

import argparse
import re
from collections.abc import Callable
from typing import Any, NoReturn

from cnnexp.errors import EXIT_REQUEST, one_line

RUN = "its folder, its name=, study/arm/seed, the first digits of its fingerprint, or latest"
PLACES = ("data.root", "data.cache", "data.file")  # settings that say where the data is, and not what it is
PLACES_TYPED = "data.root=DIR, data.cache=DIR, data.file=FILE"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line with an example."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with the words, with the first example of the help, and exit with 2."""
        message = re.sub("the following arguments are required: (.*)", r"\1: missing", message)
        message = re.sub("unrecognized arguments: (.*)", r"\1: no such option or word", message)
        example = next((line for line in (self.epilog or "").splitlines() if line.startswith("  cnnexp ")), "")
        example = re.split(r"\s{3,}", example.strip())[0]
        such = f"; for example: {example}" if example else ""
        self.exit(EXIT_REQUEST, f"{one_line(f'{self.prog}: {message}{such}; see {self.prog} --help')}\n")


def parser(command: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """Return the argument parser of `cnnexp COMMAND`. epilog: the end of its help, printed as it is."""
    return Parser(
        prog=f"cnnexp {command}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def whole(fewest: int, most: int | None = None) -> Callable[[str], int]:
    """Return the type of an option that takes a whole number, for argparse."""
    allowed = f"a whole number >= {fewest}" if most is None else f"a whole number from {fewest} to {most:,}"

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = fewest - 1
        if number < fewest or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"given {text}; allowed: {allowed}")
        return number

    return read


def add_device(arguments: argparse.ArgumentParser, default: str | None, meaning: str) -> None:
    """Add --device and --allow, for a command that rebuilds a run. meaning: what the default device is."""
    arguments.add_argument("--device", default=default, metavar="KIND", help=f"cpu, cuda, mps, cuda:1; {meaning}")
    add_allow(arguments)


def add_allow(arguments: argparse.ArgumentParser) -> None:
    """Add --allow, for a command that rebuilds a run."""
    arguments.add_argument(
        "--allow", action="append", default=[], metavar="TARGET", help="allow the run's config to build this"
    )


def add_config_dir(arguments: argparse.ArgumentParser) -> None:
    """Add --config-dir, for a command that composes a config."""
    arguments.add_argument(
        "--config-dir", "-cd", metavar="DIR", action="append", default=[], help="look for configs in DIR too"
    )


def composed(overrides: list[str], folders: list[str]) -> dict[str, Any]:
    """Compose and resolve a config. folders: those of --config-dir. Raises UserError, and Hydra's own errors."""
    from cnnexp.config import compose as configs

    places = configs.search_path([f"--config-dir={folder}" for folder in folders])
    return configs.resolve(configs.compose([*places, *overrides]))
