"""`cnnexp models`: the networks that can be chosen by name, their parameters and input size. It builds no weights."""

import json
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase

from cnnexp.commands import arguments
from cnnexp.config.words import choices_of
from cnnexp.errors import EXIT_DONE, UserError, did_you_mean
from cnnexp.text import DASH, align, large, plural
from cnnexp.version import version_of

EXAMPLES = """\
examples:
  cnnexp models resnet              names that contain a word
  cnnexp models 'vit_*_224'         names of a form; * stands for any text
  cnnexp train model=torchvision model.name=resnet34        use one of torchvision's
  cnnexp train model=timm model.name=convnext_atto          use one of timm's (pip install 'cnnexp[timm]')
"""
MAX_COUNTED = 25  # networks of timm whose parameters are counted: they are built without memory, half a second each


@dataclass(frozen=True)
class Entry:
    """A network. input: (C, H, W) of its own config. weights: the names of its pretrained ones."""

    library: str
    name: str
    parameters: int | None
    input: list[int]
    weights: list[str]


def main(argv: list[str]) -> int:
    """List the networks. Raises UserError if no name matches."""
    parser = arguments.parser("models", "List the networks of torchvision, and of timm if it is installed.", EXAMPLES)
    parser.add_argument(
        "pattern", nargs="?", default="*", metavar="PATTERN", help="a part of the name, or with * a form"
    )
    parser.add_argument("--json", action="store_true", help="print the list as JSON")
    given = parser.parse_args(argv)
    pattern = given.pattern.lower() if set(given.pattern) & set("*?[") else f"*{given.pattern.lower()}*"
    entries = [*of_torchvision(pattern), *of_timm(pattern)]
    if not entries:
        configs = [f"model={name}" for name in choices_of()["model"] if fnmatchcase(name, pattern)]
        guess = f"; as configs there are {', '.join(configs)}" if configs else did_you_mean(given.pattern, names())
        raise UserError(f"no network is called '{given.pattern}'{guess}; cnnexp models lists all")
    print(json.dumps([asdict(entry) for entry in entries], indent=1) if given.json else as_text(entries))
    return EXIT_DONE


def names() -> list[str]:
    """Return all names."""
    import torchvision

    found: list[str] = torchvision.models.list_models(module=torchvision.models)
    return found + (_timm_names("*") if version_of("timm") else [])


def of_torchvision(pattern: str) -> list[Entry]:
    """Return torchvision's classifiers, with what it states of their weights."""
    import torchvision

    from cnnexp.models.weights import imagenet_weights

    found = []
    for name in torchvision.models.list_models(module=torchvision.models):
        if fnmatchcase(name, pattern):
            weights = imagenet_weights(name)
            side = weights.transforms().crop_size[0]
            tags = [w.name.lower() for w in torchvision.models.get_model_weights(name)]
            found.append(Entry("torchvision", name, weights.meta["num_params"], [3, side, side], tags))
    return found


def _timm_names(pattern: str) -> list[str]:
    import timm

    found: list[str] = timm.list_models(pattern)
    return found


def of_timm(pattern: str) -> list[Entry]:
    """Return timm's classifiers, those of a tag too if the pattern names one; counted if there are few."""
    if version_of("timm") is None:
        return []
    import timm

    tagged = timm.list_models(pretrained=True)
    chosen = _timm_names(pattern) or [name for name in tagged if fnmatchcase(name, pattern)]
    tags: dict[str, list[str]] = {}
    for name in tagged:
        base, _, tag = name.partition(".")
        tags.setdefault(base, []).append(tag)
    entries = []
    for name in chosen:
        size = timm.models.get_pretrained_cfg(name).input_size
        count = _parameters(name) if len(chosen) <= MAX_COUNTED else None
        entries.append(Entry("timm", name, count, list(size), tags.get(name, [name.partition(".")[2]])))
    return entries


def _parameters(name: str) -> int:
    """Count the parameters of one of timm's networks, built without memory for its weights."""
    import timm
    import torch

    with torch.device("meta"):
        return sum(p.numel() for p in timm.create_model(name).parameters())


def as_text(entries: list[Entry]) -> str:
    """Return a table, and what else to type."""
    rows = [("model=", "model.name=", "parameters", "input", "pretrained weights")]
    for e in entries:
        count = DASH if e.parameters is None else large(e.parameters)
        rows.append((e.library, e.name, count, "x".join(map(str, e.input)), ", ".join(e.weights) or DASH))
    lines = [align(rows, right=(2,)), "", plural(len(entries), "network")]
    if any(e.parameters is None for e in entries):
        lines.append(f"Parameters of timm's are counted where a PATTERN leaves at most {MAX_COUNTED}.")
    if version_of("timm") is None:
        lines.append("More, from timm: pip install 'cnnexp[timm]'")
    return "\n".join(lines)
