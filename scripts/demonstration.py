"""Repeat the ablation of the embedded images with other seeds; show the verdicts in docs/ablation/repetitions.md.

Run: python scripts/demonstration.py           ten repetitions, seeds 5-9 to 50-54: half an hour on two free cores
     python scripts/demonstration.py 0-4 60-64                          these, with five seeds each
     ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python scripts/demonstration.py 0-4     other CPU kernels

A repetition is a folder in outputs/demonstration. What is done there is not made again. The page shows all of them.
"""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import mean, stdev

import torch

from cnnexp.records.run_record import find_runs
from cnnexp.report.analysis.findings import Findings, analyse
from cnnexp.report.read.collect import collect

ROOT = Path(__file__).resolve().parent.parent
OUTPUTS = ROOT / "outputs" / "demonstration"
PAGE = ROOT / "docs" / "ablation" / "repetitions.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
SEEDS = [f"{first}-{first + 4}" for first in range(5, 55, 5)]
FIGURES = ["Seeds", "CPU kernels", "Test (%)", "Training, best epoch (%)", "Training, last epoch (%)", "Minutes"]


@dataclass(frozen=True)
class Repetition:
    """One study. kernels: torch's instruction set. verdicts: of every arm and claim. minutes: pretraining included."""

    seeds: str
    kernels: str
    findings: Findings
    minutes: float

    @property
    def verdicts(self) -> dict[str, str]:
        """Return {arm or claim: verdict}, without the numbers in it."""
        arms = {row.arm.label: row.verdict for row in self.findings.rows if not row.is_baseline}
        claims = {judged.evidence.text: judged.verdict for judged in self.findings.judged}
        return {name: verdict.partition(" (")[0] for name, verdict in (arms | claims).items()}

    def figures(self) -> list[str]:
        """Return the baseline's row of the first table. Training accuracies are means, with that of the worst seed."""
        assert self.findings.baseline is not None
        runs = self.findings.baseline.runs
        test = [100 * run.test_accuracy for run in runs]
        best = [100 * run.number("result", "train_accuracy") for run in runs]
        last = [100 * list(run.curve("train", "accuracy").values())[-1] for run in runs]
        training = [f"{mean(values):.1f} (worst {min(values):.1f})" for values in (best, last)]
        cells = [f"{mean(test):.2f} ± {stdev(test):.2f}", *training, f"{self.minutes:.1f}"]
        return [self.seeds, self.kernels, *cells]


def make(seeds: str) -> None:
    """Run the study with seeds such as 5-9, its pretraining included, into a folder of its own."""
    first, last = map(int, seeds.split("-"))
    folder = (OUTPUTS / f"{seeds}-{torch.backends.cpu.get_cpu_capability()}").relative_to(ROOT)
    words = ["+study=ablation", f"seed={','.join(map(str, range(first, last + 1)))}", f"outputs={folder}"]
    print("$ cnnexp train", *words, flush=True)
    subprocess.run([sys.executable, "-m", "cnnexp", "train", *words], cwd=ROOT, check=True)


def read(folder: Path) -> Repetition:
    """Read a repetition from its outputs."""
    seeds, kernels = re.fullmatch(r"(\d+-\d+)-(\w+)", folder.name).groups()  # type: ignore[union-attr]
    infos = [run.info for run in find_runs(folder)]
    started, finished = ([datetime.fromisoformat(info[key]) for info in infos] for key in ("started", "finished"))
    study = folder / "ablation"
    findings = analyse(collect(study, find_runs(study)))
    return Repetition(seeds, kernels, findings, (max(finished) - min(started)).total_seconds() / 60)


def tables(repetitions: Sequence[Repetition]) -> str:
    """Return two tables in Markdown: the baseline's figures, and how often each verdict came out."""
    names = list(dict.fromkeys(name for repetition in repetitions for name in repetition.verdicts))
    kernels = list(dict.fromkeys(repetition.kernels for repetition in repetitions))
    counts = []
    for name in names:
        cells = [[r.verdicts[name] for r in repetitions if r.kernels == k and name in r.verdicts] for k in kernels]
        counts.append([name, *(", ".join(f"{n} {v}" for v, n in Counter(c).most_common()) for c in cells)])
    figures = _markdown([FIGURES, *(repetition.figures() for repetition in repetitions)])
    return f"{figures}\n\n{_markdown([['Arm or claim', *(f'Verdicts, {k}' for k in kernels)], *counts])}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main(words: list[str]) -> int:
    """Make the repetitions one after another; write the page after each."""
    if wrong := [word for word in words if not re.fullmatch(r"\d+-\d+", word)]:
        print(f"{wrong[0]}: give the first and the last seed, as 5-9\n\n{__doc__}", file=sys.stderr)
        return 2
    for seeds in words or SEEDS:
        make(seeds)
        done = sorted(map(read, OUTPUTS.iterdir()), key=lambda r: (r.kernels != "AVX512", int(r.seeds.split("-")[0])))
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n{tables(done)}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
