"""What a shell's Tab offers: commands, their flags, data sets and paths. Hydra offers the settings after these."""

import contextlib
import importlib
import io
import re
from collections.abc import Mapping
from pathlib import Path

from cnnexp.config.words import choices_of, config_folders

WITH_SETTINGS = ("train", "data", "summary")  # commands that take overrides
PATHS = ("model.weights", "backbone.weights", "data.root", "data.cache", "outputs")
VALUED = ("--config-dir", "-cd", "--cfg", "-c", "--budget")  # flags of these commands that take a value


def offers(line: str, commands: Mapping[str, tuple[str, str]]) -> tuple[list[str], str | None]:
    """Return what completes the last word of a line, and what Hydra is to complete instead, None for nothing.

    commands: {name: (module, description)}. An empty list lets the shell offer files.
    """
    *before, last = (line + " ." if line.endswith(" ") else line).split()
    last = "" if line.endswith(" ") else last
    if len(before) <= 1:
        return ([name for name in commands if name.startswith(last)] if before else []), None
    command, typed = before[1], before[2:]
    if command not in commands or before[-1] in VALUED:
        return [], None
    if last.startswith("-") and "=" not in last:
        return [flag for flag in flags_of(commands[command][0]) if flag.startswith(last)], None
    key, equals, value = last.partition("=")
    if command not in WITH_SETTINGS:
        return [], None
    if equals and key.lstrip("+") in PATHS and (value or key != "model.weights"):
        return [f"{key}={path}" for path in paths(value)], None
    settings = [word for word in typed if "=" in word and not word.startswith("-")]
    if command == "data" and not equals:
        named = [name for name in choices_of(config_folders(typed)).get("data", []) if name.startswith(last)]
        if named and not settings and not set(typed) & set(named):
            return named, None
    places = [f"--config-dir={folder}" for folder in config_folders(typed)]
    return [], " ".join([before[0], *places, *settings, last])


def flags_of(module: str) -> list[str]:
    """Return the long flags in a command's help."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):  # argparse leaves so
        importlib.import_module(module).main(["--help"])
    return sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text.getvalue())))


def paths(start: str) -> list[str]:
    """Return the files and folders whose path starts so; folders end in a slash."""
    folder, _, name = start.rpartition("/")
    place = Path(folder + "/" if start.startswith("/") or folder else ".").expanduser()
    try:
        found = sorted(file for file in place.iterdir() if file.name.startswith(name))
    except OSError:
        return []
    head = start[: len(start) - len(name)]
    return [f"{head}{file.name}{'/' if file.is_dir() else ''}" for file in found if name or file.name[0] != "."]
