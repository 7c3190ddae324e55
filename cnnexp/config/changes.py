"""What an arm changes, in words: read from the arm's own file, or from what was typed."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cnnexp.config.keys import flatten

# Overrides that name, place or repeat a run; they make no arm.
NAMING = ("seed=", "study.", "outputs=", "slots=", "device=", "device.", "+study=", "+pretrain=", "log.", "checkpoint.",
          "probes=", "probes.")  # fmt: skip


def arm_changes(hydra_node: Any, overrides: Iterable[str], swept: Iterable[str] = ()) -> list[str]:
    """Return what makes this run's arm, as overrides.

    hydra_node: the composed `hydra` node. overrides: of this run, without flags. swept: the keys that vary in a sweep;
    if given, what was typed for the whole sweep is left out.
    """
    arm = hydra_node.runtime.choices.get("arm")
    if arm:
        return file_changes(str(arm), [Path(s.path) for s in hydra_node.runtime.config_sources if s.schema == "file"])
    swept = {key for key in swept if not f"{key}=".startswith(NAMING)}  # more seeds are no other arms
    return [o for o in overrides if not o.startswith(NAMING) and (not swept or o.partition("=")[0] in swept)]


def file_changes(arm: str, sources: list[Path]) -> list[str]:
    """Return ["model=resnet18", "model.bn=frozen"] for an arm, those of the arms that it builds on first.

    Of a key that is set twice the last value is the arm's.
    sources: the folders that configs are looked for in, the first that has the arm counts.
    """
    file = next(source / "arm" / f"{arm}.yaml" for source in sources if (source / "arm" / f"{arm}.yaml").exists())
    content = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(content, dict)
    changes: list[str] = []
    for entry in content.pop("defaults", []):
        if isinstance(entry, dict):
            changes += [f"{k.removeprefix('override ').lstrip('/')}={_text(v)}" for k, v in entry.items()]
        elif entry != "_self_":
            changes += file_changes(entry, sources)
    changes += [f"{key}={_text(value)}" for key, value in flatten(content).items() if key]
    return list({change.partition("=")[0]: change for change in changes}.values())


def _text(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
