"""Shell completion: `cnnexp` completes its commands, Hydra completes overrides after `cnnexp train`."""

import os
import sys


def main(argv: list[str], commands: list[str]) -> int:
    """Answer `cnnexp -sc install=bash`, `uninstall=bash` and the shell's own `query=bash`; returns the exit code."""
    if any(word.startswith("query=") for word in argv):
        line = os.environ.get("COMP_LINE", "")
        words = line.split()
        if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
            print("\n".join(name for name in commands if name.startswith(words[1] if len(words) == 2 else "")))
            return 0
        if words[1] != "train":
            return 0
        os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]]) + (" " if line.endswith(" ") else "")
    from cnnexp.train import launch

    sys.argv[0] = "cnnexp"
    return launch(argv)
