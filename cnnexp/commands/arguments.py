"""The common form of every command's help, and the arguments that several commands share. Imports only argparse."""

import argparse

RUN = "its folder, study/arm/seed, the first digits of its fingerprint, or latest"
PLACES = ("data.root", "data.cache")  # settings that say where the data is, and not what it is


def parser(command: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """Return the argument parser of `cnnexp COMMAND`. epilog: the end of its help, printed as it is."""
    return argparse.ArgumentParser(
        prog=f"cnnexp {command}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_device(arguments: argparse.ArgumentParser, default: str | None, meaning: str) -> None:
    """Add --device and --allow, for a command that rebuilds a run. meaning: what the default device is."""
    arguments.add_argument("--device", default=default, metavar="KIND", help=f"cpu, cuda, mps, cuda:1; {meaning}")
    arguments.add_argument(
        "--allow", action="append", default=[], metavar="TARGET", help="allow the run's config to build this"
    )


def add_config_dir(arguments: argparse.ArgumentParser) -> None:
    """Add --config-dir, for a command that composes a config."""
    arguments.add_argument(
        "--config-dir", "-cd", metavar="DIR", action="append", default=[], help="look for configs in DIR too"
    )
