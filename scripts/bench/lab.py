"""Where and how much is measured: the folders, the sizes, the environment of what is started."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from bench.process import clean_environment

REPOSITORY = Path(__file__).resolve().parents[2]
BENCH = Path(__file__).resolve().parent
CNNEXP = (sys.executable, "-m", "cnnexp")


@dataclass(frozen=True)
class Lab:
    """work: scratch. data: the folder of the real images, if there is one. quick: tiny sizes, for a test of the script.

    repeats, epochs: in place of the rows' own. weights: of a ResNet-18 trained before, for rows that transfer.
    """

    work: Path
    data: Path | None = None
    quick: bool = False
    repeats: int | None = None
    epochs: int | None = None
    weights: Path | None = None

    def pick(self, full: int, quick: int) -> int:
        """Return a size: the full one, or the one for a test of the script."""
        return quick if self.quick else full

    def repeated(self, own: int = 5) -> int:
        """Return the number of repeats of a row whose own number is `own`."""
        return 1 if self.quick else self.repeats or own

    def trained(self, own: int) -> int:
        """Return the number of epochs of a row whose own number is `own`."""
        return 1 if self.quick else self.epochs or own

    def environment(self, gpu: bool = False) -> dict[str, str]:
        """Return the environment of a measured process. Rows about the CPU see no GPU."""
        more = {"CNNEXP_CACHE": str(self.folder("cache"))}
        if not gpu:
            more["CUDA_VISIBLE_DEVICES"] = ""
        if self.quick:
            more["OMP_NUM_THREADS"] = "1"
        return clean_environment(**more)

    def folder(self, name: str) -> Path:
        """Return a folder of the scratch, made if need be."""
        place = self.work / name
        place.mkdir(parents=True, exist_ok=True)
        return place

    def fresh(self) -> Path:
        """Return a new, empty folder for the outputs of one run; see `drop`."""
        return Path(mkdtemp(prefix="run-", dir=self.folder("outputs")))

    def drop(self, folder: Path) -> None:
        """Delete a folder of the scratch."""
        assert self.work in folder.parents, f"{folder} is not of the scratch"
        shutil.rmtree(folder, ignore_errors=True)

    def readable(self, command: Sequence[str | Path]) -> str:
        """Return a command as a reader can type it: WORK is the scratch, DATA the folder of the real images."""
        words = [str(word) for word in command]
        if tuple(words[:3]) == CNNEXP:
            words = ["cnnexp", *words[3:]]
        elif Path(words[0]).name.startswith("python"):
            words[0] = "python"
        names = {f"{self.work}": "WORK", f"{self.data}": "DATA", sys.prefix: "VENV", f"{REPOSITORY}/": ""}
        for place, name in names.items():
            words = [word.replace(place, name) for word in words]
        return shlex.join(words)


def tell(line: str) -> None:
    """Say what is going on."""
    print(f"  {line}", file=sys.stderr, flush=True)
