"""Virtual environments of the rivals that are libraries: made on demand, each apart, next to the scratch.

An environment sees the packages of this one (torch above all) behind its own, so that all sides measure the same
torch; what a library cannot take as it is, pip puts into the library's own environment.
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from bench.lab import Lab, tell
from bench.result import Failed

READY = ".ready"


def python_of(lab: Lab, name: str, packages: list[str]) -> Path:
    """Return the interpreter of the environment `name`. Raises Failed, with pip's last line, if it cannot be made."""
    folder = lab.folder("envs") / name
    python = folder / "bin" / "python"
    if (folder / READY).exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    tell(f"making an environment with {', '.join(packages)}")
    step([sys.executable, "-m", "venv", folder])
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = folder / "lib" / version / "site-packages"
    (own / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    step([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
    step([python, "-c", f"import torch, torchvision, {name}"])
    (folder / READY).touch()
    return python


def step(command: list[str | Path]) -> None:
    """Run one command of an installation. Raises Failed with its last line."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        raise Failed(f"{command[-1]} cannot be installed: {lines[-1][-300:]}")
