"""What a data set's file sets beside the data, and a network's own config: printed when runs start."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cnnexp.config.keys import flatten
from cnnexp.config.model_images import of_model


def chosen_file(hydra_node: DictConfig, group: str) -> Path | None:
    """Return the file of a group's choice. hydra_node: the `hydra` node of a composed config."""
    runtime = hydra_node.runtime
    places = [Path(source.path) for source in runtime.config_sources if source.schema == "file"]
    files = [place / group / f"{runtime.choices.get(group)}.yaml" for place in places]
    return next((file for file in files if file.exists()), None)


def print_set_by_data(runs: Sequence[tuple[Mapping[str, Any], DictConfig]]) -> None:
    """Print what else the file of each data set sets, for the first run with that data set, and what networks set.

    runs: each a resolved config and its `hydra` node. Settings that a study or a typed value replaced are left out.
    """
    first = {str(node.runtime.choices.get("data")): (config, node) for config, node in reversed(runs)}
    for name, (config, node) in first.items():
        file = chosen_file(node, "data")
        content = OmegaConf.to_container(OmegaConf.load(file)) if file else None
        if isinstance(content, dict) and "data" in content:
            values = flatten({key: value for key, value in content.items() if key not in ("data", "defaults")})
            used = flatten(config)
            words = [f"{key}={value}" for key, value in values.items() if used.get(key) == value]
            for entry in content.get("defaults", []):
                for key, choice in entry.items() if isinstance(entry, dict) else ():
                    group = str(key).removeprefix("override /")
                    words += [f"{group}={choice}"] if node.runtime.choices.get(group) == choice else []
            if words:
                print(f"data={name} sets {', '.join(words)}", flush=True)
    for line in dict.fromkeys(of_model(config) for config, _ in runs):
        if line:
            print(line, flush=True)
