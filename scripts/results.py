"""Run the studies of docs/results.md at full size, keep their records, and write the page's tables from them.

Run: python scripts/results.py run [STUDY ...]     trains; the same command continues; days for all studies
     python scripts/results.py pack [STUDY ...]    outputs/STUDY -> docs/results/STUDY.tar.xz
     python scripts/results.py page                the tables of docs/results.md from docs/results/*.tar.xz

`run` needs the images in data/imagenette2-160 and data/cifar10-jpeg (CIFAR-10 as a folder of JPEG files). An archive
holds the records of each run: config.yaml, run.json, metrics.jsonl, and for the studies in PREDICTIONS predictions.npz.
Unpacked, it is a folder for `cnnexp report`. Claims about precision, recall and F1 need the predictions.
"""

import io
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pandas as pd

from cnnexp.cli import main as cnnexp
from cnnexp.data.archive import extract_tar
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.records.study import read_study
from cnnexp.text import large

HERE = Path(__file__).resolve().parent.parent
PAGE, ARCHIVES = HERE / "docs" / "results.md", HERE / "docs" / "results"
OUTPUTS = Path("outputs")
CIFAR, BF16 = "data=cifar10_jpeg", "device.precision=bf16"
STUDIES = {  # folder of the study: what is typed after `cnnexp train`; cheapest first
    "mlp_dropout": ["+study=mlp_dropout", CIFAR],
    "mlp_norm_batch": ["+study=mlp_norm_batch", CIFAR],
    "mlp_optimizers": ["+study=mlp_optimizers", CIFAR],
    "mlp_grid": ["+study=mlp_grid", CIFAR],
    "mlp_norm_scale": ["+study=mlp_norm_scale", CIFAR],
    "mlp_norm_batch-10k": ["+study=mlp_norm_batch", CIFAR, "data.train_limit=10000", "study.name=mlp_norm_batch-10k"],
    "tuning-10k": ["+study=tuning", CIFAR, "data.train_limit=10000", "study.name=tuning-10k"],
    "shifts-10k": ["+study=shifts", CIFAR, "data.train_limit=10000", "epochs=15ep", "study.name=shifts-10k"],
    "lenet_vgg-10k": ["+study=lenet_vgg", CIFAR, "data.train_limit=10000", "epochs=15ep", "study.name=lenet_vgg-10k"],
    "activation-3k": ["+study=activation", "data.train_limit=3000", "study.name=activation-3k"],
    "pretrained-cifar10": [  # one run: the backbone of resnet-3k
        CIFAR,
        "data.size=64",
        "model=resnet18",
        "+aug=flip",
        "scheduler=cosine",
        "epochs=4ep",
        "study.name=pretrained-cifar10",
        "study.arm=resnet18",
    ],
    "resnet-3k": [
        "+study=resnet",
        "data.size=64",
        "data.train_limit=3000",
        "study.name=resnet-3k",
        "backbone.weights=pretrained-cifar10/resnet18/0",
    ],
    "mlp_norm_batch-all": ["+study=mlp_norm_batch", CIFAR, "data.train_limit=null", "study.name=mlp_norm_batch-all"],
    "activation": ["+study=activation", BF16],
    "ablation-imagenette": [
        "+study=ablation",
        "+arm=baseline,batchnorm,dropout,augmentation,combined",
        "data=imagenette",
        "study.name=ablation-imagenette",
        BF16,
    ],
    "width": ["+study=width", BF16],
    "regularization": ["+study=regularization", BF16],
    "optimizers": ["+study=optimizers", CIFAR, BF16],
    "factorial": ["+study=factorial", CIFAR, BF16],
    "tuning": ["+study=tuning", CIFAR, BF16],
    "shifts": ["+study=shifts", CIFAR, BF16],
    "lenet_vgg": ["+study=lenet_vgg", CIFAR, BF16],
    "vgg_variants": ["+study=vgg_variants", CIFAR, BF16],
}
RECORDS = ("config.yaml", "run.json", "metrics.jsonl")
PREDICTIONS = ("ablation-imagenette",)  # 70 KB a run
DECIDED = ("holds", "does not hold")
MARK = re.compile(r"(<!-- table: (\w+)(?: ([\w-]+))? -->\n).*?(<!-- end -->)", re.DOTALL)


def run(names: list[str]) -> int:
    """Train the studies, one after the other, two runs at a time. Returns the exit code of the first that stops."""
    for name in names or STUDIES:
        command = ["train", *STUDIES[name], "slots=cpu:2", "device.threads=1"]
        print("$ cnnexp", *command, flush=True)
        if code := subprocess.run([sys.executable, "-m", "cnnexp", *command], check=False).returncode:
            return code
    return 0


def pack(names: list[str]) -> None:
    """Write the records of each study that is done to its archive; the same records give the same bytes."""
    ARCHIVES.mkdir(exist_ok=True)
    for folder in [OUTPUTS / name for name in names or STUDIES]:
        if not (folder / "study.json").is_file():  # not made here, or a single run
            continue
        runs = find_runs(folder)
        if unfinished := [record.folder.name for record in runs if record.status not in ("done", "diverged")]:
            sys.exit(f"{folder}: not done: {', '.join(unfinished)}")
        kept = (*RECORDS, "predictions.npz") if folder.name in PREDICTIONS else RECORDS
        files = [folder / "study.json", *(f for r in runs for name in kept if (f := r.folder / name).is_file())]
        with tarfile.open(ARCHIVES / f"{folder.name}.tar.xz", "w:xz", preset=9) as archive:
            for file in sorted(files):
                entry = tarfile.TarInfo(str(file.relative_to(folder.parent)))
                entry.size = file.stat().st_size
                archive.addfile(entry, io.BytesIO(file.read_bytes()))
        print(f"{folder}: {len(runs)} runs, {(ARCHIVES / f'{folder.name}.tar.xz').stat().st_size / 1024:,.0f} KiB")


def unpacked(into: Path) -> list[Path]:
    """Unpack all archives and make their reports, without figures. Returns the folders of the studies."""
    folders = []
    for file in sorted(ARCHIVES.glob("*.tar.xz")):
        folders.append(into / file.name.removesuffix(".tar.xz"))
        extract_tar(file, folders[-1])
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            if code := cnnexp(["report", str(folders[-1]), "--no-figures"]):
                sys.exit(f"{file}: its report ended with exit code {code}")
    return folders


def filled(page: str, folders: list[Path]) -> str:
    """Return the page with each marked table made anew: `headline`, `sizes`, or one of a report, and its study."""

    def table(found: re.Match[str]) -> str:
        begin, name, study, end = found.groups()
        made = OF_ALL[name](folders) if name in OF_ALL else _of_report(folders, study, name)
        return f"{begin}{made}\n{end}"

    return MARK.sub(table, page)


def _of_report(folders: list[Path], study: str, name: str) -> str:
    (folder,) = [folder for folder in folders if folder.name == study]
    return (folder / "report" / "tables" / f"{name}.md").read_text().split("\n\n")[0].strip()


def _headline(folders: list[Path]) -> str:
    """One row for each claim: what the report says, the result here, and at which scale."""
    rows = []
    for folder in folders:
        study, runs = read_study(folder) or {}, find_runs(folder)
        for _, claim in _claims(folder).iterrows():
            digits = 3 if claim["unit"] == "nats" else 1
            reported = "-" if pd.isna(claim["reported"]) else f"{claim['reported']:+.{digits}f}"
            mean, low, high = (f"{claim[key]:+.{digits}f}" for key in ("mean", "low95", "high95"))
            found = f"{mean} \\[{low}, {high}\\] {claim['unit']}"
            source = ", ".join(re.findall(r"\b[A-E]\b", str(study.get("source") or "").partition("(")[0]))
            text = f"`{claim['claim']}`"
            verdict = f"**{claim['verdict']}**" if claim["verdict"].startswith(DECIDED) else claim["verdict"]
            rows.append([source, text, verdict, reported, found, str(int(claim["n"])), _scale(runs)])
    heads = ["Report", "Claim", "Verdict", "Reported", "Here, with its 95 % interval", "Seeds", "Scale"]
    return _markdown(heads, rows)


def _sizes(folders: list[Path]) -> str:
    rows = []
    for folder in folders:
        runs = find_runs(folder)
        minutes = sum(r.info["seconds"]["train"] for r in runs if r.status == "done") / 60
        verdicts = [v for v in _claims(folder)["verdict"] if v.startswith(DECIDED)] if _has_claims(folder) else []
        claims = f"{len(verdicts)} of {len(_claims(folder))}" if _has_claims(folder) else "no claim"
        rows.append([folder.name, _scale(runs), str(len(runs)), f"{minutes:,.1f}", claims])
    return _markdown(["Study", "Scale", "Runs", "Training (min)", "Claims decided"], rows)


def _arms(folders: list[Path]) -> str:
    """Return, for each study, its question and a short table of its arms."""
    parts = []
    for folder in folders:
        table = pd.read_csv(folder / "report" / "tables" / "comparison.csv")
        rows = [[f"`{arm.arm}`", *_against_the_baseline(arm)] for arm in table.itertuples()]
        arms = _markdown(["Arm", "Test accuracy (%)", "Difference (points)", "Verdict"], rows)
        question = (read_study(folder) or {})["question"]
        parts.append(f"#### {question}\n`{folder.name}`: {_scale(find_runs(folder))}.\n\n{arms}")
    return "\n\n".join(parts)


def _against_the_baseline(arm: Any) -> list[str]:
    accuracy = f"{arm.test_accuracy_mean_percent:.2f} ± {arm.test_accuracy_std_percent:.2f}"
    if arm.is_baseline:
        return [accuracy, "baseline", "-"]
    interval = f"\\[{arm.difference_low95_points:+.2f}, {arm.difference_high95_points:+.2f}\\]"
    return [accuracy, f"{arm.difference_mean_points:+.2f} {interval}", arm.verdict]


OF_ALL: dict[str, Callable[[list[Path]], str]] = {"headline": _headline, "sizes": _sizes, "arms": _arms}


def _has_claims(folder: Path) -> bool:
    return (folder / "report" / "tables" / "claims.csv").is_file()


def _claims(folder: Path) -> pd.DataFrame:
    """Return the claims of a study that its arms can test."""
    if not _has_claims(folder):
        return pd.DataFrame()
    claims = pd.read_csv(folder / "report" / "tables" / "claims.csv")
    return claims[claims["n"] > 0]


def _scale(runs: list[RunRecord]) -> str:
    """Say on how many images of which size, and for how many epochs, the runs of a study were trained."""
    info = runs[0].info
    data, epochs = info["data"], sorted({run.info["result"]["epochs"] for run in runs if run.status == "done"})
    return f"{data['name']}, {large(data['train'])} images of {data['image'][-1]} px, {epochs[-1]} epochs"


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main(words: list[str]) -> int:
    """Run one of the three commands of the module's docstring."""
    command, *names = words or [""]
    if command not in ("run", "pack", "page") or (unknown := [name for name in names if name not in STUDIES]):
        print(__doc__, *(unknown if command in ("run", "pack") else []), file=sys.stderr)
        return 2
    if command == "run":
        return run(names)
    if command == "pack":
        pack(names)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(filled(PAGE.read_text(), unpacked(Path(folder))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
