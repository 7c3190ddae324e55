"""`cnnexp` as one of the processes that torchrun starts: python one_of_several.py SILENT_SECONDS PREPARE WORDS...

A process is given up after SILENT_SECONDS. PREPARE: what happens in process 0 when a planned run's data is prepared:
`slow`: it takes twice that time; `slow_elsewhere`: in the others; `refused`: a UserError; `killed`: the process ends.
"""

import os
import sys
import time

from cnnexp.cli import entry
from cnnexp.errors import UserError
from cnnexp.training import build, processes


def main() -> None:
    import cnnexp.training.run  # noqa: F401  # planning a run prepares its data too, with the function imported here

    seconds, prepare = float(sys.argv[1]), sys.argv[2]
    processes.SILENT_SECONDS = seconds
    make, first = build.build_data, os.environ["RANK"] == "0"

    def prepared(config: object) -> object:
        if prepare == ("slow" if first else "slow_elsewhere"):
            time.sleep(2 * seconds)
        if prepare == "refused" and first:
            time.sleep(1)
            raise UserError("data.root: given 'away'; allowed: a folder")
        if prepare == "killed" and first:
            os.kill(os.getpid(), 9)
        return make(config)  # type: ignore[arg-type]

    build.build_data = prepared  # type: ignore[assignment]
    entry(sys.argv[3:])


if __name__ == "__main__":
    main()
