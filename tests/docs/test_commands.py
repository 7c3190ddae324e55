"""Every command and file in the README, the tutorial and the how-to pages works as written, on small data.

A page is run from top to bottom in one empty folder. Blocks that start with `# path/file.yaml`
(below `# @package _global_`, if that is there) become that file.
Lines and words in code that start with `cnnexp` are run. Below `$ cnnexp ...` stands its output.
"""

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.image_folders import picture
from helpers.public_sets import mnist

from cnnexp import cli

PROJECT = Path(__file__).resolve().parents[2]
PAGES = [
    "README.md",
    "docs/tutorial.md",
    "docs/commands.md",
    "docs/clusters.md",
    *sorted(str(p.relative_to(PROJECT)) for p in PROJECT.glob("docs/howto/*.md")),
]
COMPARISON = "docs/comparison.md"
REPORT_PAGE = "docs/page.md"
IMAGENETTE = ["n01440764", "n02102040", "n02979186", "n03000684", "n03028079",
              "n03394916", "n03417042", "n03425413", "n03445777", "n03888257"]  # fmt: skip
EXTRAS = {
    "--to onnx": "onnxscript",
    "--to safetensors": "safetensors",
    "tensorboard": "tensorboard",
    "model=timm": "timm",
    "+search=": "optuna",
}  # words that need an optional library
# Needs more than a test has: composed only.
NEEDS_MORE = re.compile(r"device=cuda|cluster=slurm|cluster=ray|slots=\S*cuda|weights=imagenet")
WORDS = {"RUN RUN": "ablation/baseline/0 ablation/dropout/0", "RUN": "ablation/baseline/0"}
BEFORE = {"docs/commands.md": ["cnnexp train +study=ablation +arm=baseline,dropout"]}  # what a page takes as there


@dataclass(frozen=True)
class Block:
    language: str
    text: str

    @property
    def file(self) -> str | None:
        first = re.match(r"(?:# @package _global_\n)?# ([\w./-]+\.(?:yaml|py))\b", self.text)
        return first.group(1) if first and self.language in ("yaml", "python") else None


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page, in order. A command within a line, as in a table, is a block too."""
    pattern = r"^```(\w*)\n(.*?)^```$|`(cnnexp [^`\n]+)`"
    found = re.findall(pattern, (PROJECT / page).read_text(), re.DOTALL | re.MULTILINE)
    return [Block(language, text or inline) for language, text, inline in found]


def commands(block: Block) -> list[tuple[str, str | None]]:
    """Return (command, the line that it prints first if that is an error)."""
    lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
    found = []
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if match := re.match(r"(?:\$ )?(cnnexp .*)", line):
            error = below if line.startswith("$ ") and below.startswith("cnnexp: ") else None
            found.append((re.split(r"\s+#", match.group(1))[0].strip(), error))
    return found


def smaller(command: str) -> str:
    """Return a training command with one epoch and one seed, where its page means many."""
    if not command.startswith("cnnexp train") or re.search(r"--plan|--cfg|--help", command):
        return command
    command = re.sub(r"epochs=(\d+)", lambda m: f"epochs={min(int(m.group(1)), 2)}", command)
    command += "" if "epochs=" in command else " epochs=1"
    command = command.replace("batch_size=256", "batch_size=32")  # the small Imagenette has 140 to train on
    command += " batch_size=4" if "data=torchvision" in command else ""  # a set is drawn with 20 images
    command += " search.trials=2" if "+search=" in command else ""
    if "--until-decided" in command:
        two_arms = " +arm=baseline,dropout" if "+study=ablation" in command and "+arm=" not in command else ""
        return re.sub(r" --max-seeds \d+", "", command) + two_arms + " --max-seeds 3"
    command += " data=postcards" if "+study=width" in command else ""  # its own data cannot be downloaded in a test
    return command + (" seed=0" if "+study=" in command and "seed=" not in command else "")


@pytest.fixture
def folder(tmp_path):
    """An empty folder with photographs, a small Imagenette and a virtual environment's `cnnexp` on the path."""
    for root, classes, count in [("photos", ["cat", "dog", "fox"], 20), ("new-photos", ["cat", "dog", "fox"], 2)]:
        for k, name in enumerate(classes):
            (tmp_path / root / name).mkdir(parents=True)
            for i in range(count):
                picture(100 * k + i, size=(40, 32)).save(tmp_path / root / name / f"{name}{i}.jpg")
    picture(7, size=(40, 32)).save(tmp_path / "photo.jpg")
    for part, count in [("train", 16), ("val", 3)]:
        for k, name in enumerate(IMAGENETTE):
            target = tmp_path / "data" / "imagenette2-160" / part / name
            target.mkdir(parents=True)
            for i in range(count):
                picture(1000 * k + 10 * i + len(part), size=(40, 32)).save(target / f"{i}.JPEG")
    mnist(tmp_path / "data", "FashionMNIST")
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.glob("photos/*/*.jpg"))
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(f"{f},{f.parent.name}\n" for f in files))
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "cnnexp"
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom cnnexp.cli import entry\n"
                      'if __name__ == "__main__":\n    sys.exit(entry())\n')  # fmt: skip
    script.chmod(0o755)
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(PROJECT), "COLUMNS": "120"}


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=300
    )


def serves(command: str, folder: Path) -> bool:
    """Return whether a command prints an address, and then ends by Ctrl-C."""
    with subprocess.Popen(command.split(), cwd=folder, env=environment(folder), stdout=-1, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline()  # pytest's time limit ends a command that prints nothing
        process.send_signal(signal.SIGINT)
        return process.wait(60) == 130 and address.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_page_from_top_to_bottom(page, folder):
    ran = 0
    for block in [*(Block("", command) for command in BEFORE.get(page, [])), *blocks(page)]:
        if block.file:
            (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.file).write_text(block.text)
        elif block.language == "python":
            done = run(f"{sys.executable} - <<'EOF'\n{block.text}EOF", folder)
            assert done.returncode == 0, f"{block.text}\n{done.stderr[-2000:]}"
        for command, error in commands(block):
            if command.startswith("cnnexp COMMAND"):
                continue
            if NEEDS_MORE.search(command):  # the first run of a sweep
                command = re.sub(r"=([^\s,\[]+),\S+", r"=\1", command.replace(" -m ", " ")) + " --cfg job"
            for word, value in WORDS.items():
                command = re.sub(rf"\b{word}\b", value, command)
            ran += 1
            if "--serve" in command:
                assert serves(command, folder)
                continue
            done = run(smaller(command), folder)
            if missing := [name for word, name in EXTRAS.items() if word in command and not find_spec(name)]:
                assert done.returncode == 2 and "pip install 'cnnexp[" in done.stderr, (command, missing, done.stderr)
            elif error:
                assert done.returncode == 2 and done.stderr.splitlines()[0] == error, (command, done.stderr)
            else:
                assert done.returncode == 0, f"{smaller(command)}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    lines = re.findall(r"^(?:\$ )?cnnexp ", (PROJECT / page).read_text(), re.MULTILINE)  # docs/commands.md has a table
    assert ran >= max(1, len(lines))


@pytest.mark.parametrize("page", [*PAGES, COMPARISON, REPORT_PAGE])
def test_links_of_a_page_exist(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (PROJECT / page).read_text()):
        assert ((PROJECT / page).parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_of_a_page_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    named = {t for block in blocks(page) for t in re.findall(r"^(?:\$ )?make ([a-z-]+)", block.text, re.MULTILINE)}
    assert named <= targets


def test_the_page_of_commands_has_every_command():
    shown = {command.split()[1] for block in blocks("docs/commands.md") for command, _ in commands(block)}
    assert set(cli.COMMANDS) - shown == set()


def test_the_plan_for_other_machines_has_the_words_that_the_probe_prints():
    probe, plan, *_ = (block.text for block in blocks("docs/clusters.md") if "device.threads" in block.text)
    assert set(probe.splitlines()[1].split()) <= set(plan.split())


def test_each_cell_of_the_comparison_names_a_source():
    tables, sources = (PROJECT / COMPARISON).read_text().split("\n## Sources\n")
    addresses = re.findall(r"^\[([A-Z]\d+)\]: https://\S+$", sources, re.MULTILINE)
    assert set(re.findall(r"\[([A-Z]\d+)\](?!\()", tables)) == set(addresses)
    rows = [row.strip("|").split(" | ") for row in tables.splitlines() if row.count(" | ") == 7]
    cells = [cell for feature, _, *others in rows if feature.strip(" -") for cell in others]
    unsourced = [cell for cell in cells if not re.search(r"\[[A-Z]\d+\]|not documented|own code", cell)]
    assert len(cells) > 200 and unsourced == []


def lines_of(path):
    """Return the number of lines of a module, or of all modules in a folder."""
    files = path.rglob("*.py") if path.is_dir() else [path]
    return sum(len(file.read_text().splitlines()) for file in files)


def test_the_comparison_states_about_as_many_lines_as_the_modules_have():
    rows = re.findall(r"^\|[^|]+\| ([^|]*`[^|]+) \| ([\d,]+) \|", (PROJECT / COMPARISON).read_text(), re.MULTILINE)
    package, counted = PROJECT / "cnnexp", dict[Path, int]()
    for where, stated in rows:
        folder, found = package, dict[Path, int]()
        for name in re.findall(r"`([\w/]+(?:\.py|/))`", where):
            path = package / name if "/" in name or (package / name).exists() else folder / name
            folder = path.parent
            found[path] = lines_of(path) - sum(n for file, n in counted.items() if path in file.parents)  # "the rest"
        counted |= found
        assert sum(found.values()) == pytest.approx(int(stated.replace(",", "")), rel=0.05, abs=10), where
    assert len(rows) > 20


# Words that a reader whose first language is not English would have to guess.
PRIVATE = r"\b(told|to be had|apart|mend|heeds?|settled?|doubtful|hires?|hands? on)\b|[Tt]he whole\b|[Ww]hat comes out"


@pytest.mark.parametrize("page", [*PAGES, COMPARISON, REPORT_PAGE, "docs/engines.md", "docs/architecture.md"])
def test_a_page_is_in_plain_words(page):
    text = " ".join((PROJECT / page).read_text().split())
    assert [match[0] for match in re.finditer(PRIVATE, text)] == []


def test_each_cell_about_a_rivals_page_names_a_source():
    section = (PROJECT / REPORT_PAGE).read_text().split("\n## Beside other tools' pages\n")[1]
    addresses = re.findall(r"^\[([A-Z]\d+)\]: https://\S+$", section, re.MULTILINE)
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]
    cells = [cell for _, _, *others in rows for cell in others]
    assert set(re.findall(r"\[([A-Z]\d+)\](?!:)", section)) == set(addresses)
    assert len(cells) == 4 * len(rows) > 60
    assert [cell for cell in cells if not re.search(r"\[[A-Z]\d+\]|^not documented$", cell.strip())] == []
