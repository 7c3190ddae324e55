"""Which command, code and machine made a number: recorded with every run."""

import functools
import hashlib
import importlib.metadata
import itertools
import os
import platform
import socket
import subprocess
from pathlib import Path
from typing import Any

from cnnexp.text import in_shell
from cnnexp.version import __version__, version_of

PACKAGE = Path(__file__).resolve().parents[1]
# Packages and modules that cannot change what a run computes: they request, show and report runs.
WITHOUT_EFFECT = ("cli.py", "commands", "sweep", "report", "explore", "pages", "explain", "export", "trackers")

TYPED: list[str] = []  # the words after `cnnexp train`, which sets them


def command() -> str:
    """Return the typed command, quoted for a shell."""
    return in_shell(["cnnexp", "train", *TYPED])


def folder_flags(words: list[str]) -> list[str]:
    """Return the words of a command that say where configs are: ["--config-dir", "mine"]."""
    flags = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")
    found = []
    for word, following in itertools.pairwise([*words, ""]):
        if word in flags:
            found += [word, following]
        elif word.partition("=")[0] in flags:
            found.append(word)
    return found


@functools.lru_cache(maxsize=1)
def digest() -> str:
    """Hash the source files that can change what a run computes, to 12 hexadecimal digits."""
    content = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        path = file.relative_to(PACKAGE)
        if path.parts[0] not in WITHOUT_EFFECT:
            content.update(path.as_posix().encode() + b"\0" + file.read_bytes())
    return content.hexdigest()[:12]


def made_by() -> dict[str, Any]:
    """Return {code, environment} as they are now."""
    return {"code": code(), "environment": environment()}


@functools.lru_cache(maxsize=1)
def code() -> dict[str, Any]:
    """Return {version, commit (null outside a checkout), digest of the sources}."""
    return {"version": __version__, "commit": _commit(), "digest": digest()}


def _commit() -> str | None:
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    foreign = {key for key in os.environ if key.startswith("GIT_") and not key.startswith("GIT_CONFIG")}  # of a hook
    environment = {key: value for key, value in os.environ.items() if key not in foreign}
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


@functools.lru_cache(maxsize=1)
def environment() -> dict[str, Any]:
    """Return the versions of Python and the packages, the platform, the host and its number of cores."""
    packages = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf")
    timm = version_of("timm")
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        **({"timm": timm} if timm else {}),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cores": os.cpu_count(),
    }
