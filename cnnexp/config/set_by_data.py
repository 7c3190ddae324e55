"""What a data set's file sets beside the data, and a network's own config of the images. No torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cnnexp.config import checks
from cnnexp.config.keys import flatten
from cnnexp.config.signature import parameters_of
from cnnexp.errors import UserError

FOLLOWS = ("size", "normalize")  # of the data: with the word `model`, as the network's own config has them


def follow_model(config: Mapping[str, Any]) -> None:
    """Replace `model` in FOLLOWS by what the network's builder says: its `images(node)` returns {size, normalize}.

    A data set that does not take one of the two goes on without it. Raises UserError for a network that does not say
    what its images are.
    """
    data, model = config.get("data"), config.get("model")
    if not isinstance(data, dict) or not isinstance(model, dict):
        return
    asked = [key for key in FOLLOWS if data.get(key) == "model"]
    takes = {*parameters_of(checks.target("data", data)), "normalize"} if asked else set()
    for key in [key for key in asked if key not in takes]:
        del data[key]
    if not (asked := [key for key in asked if key in data]):
        return
    own = getattr(checks.target("model", model), "images", None)
    if own is None:
        raise UserError(f"data.{asked[0]}: given model; {model['_target_']} does not say what images it is for")
    data.update({key: value for key, value in own(model).items() if key in asked})


def data_file(hydra_node: DictConfig) -> Path | None:
    """Return the file of the chosen data. hydra_node: the `hydra` node of a composed config."""
    runtime = hydra_node.runtime
    places = [Path(source.path) for source in runtime.config_sources if source.schema == "file"]
    files = [place / "data" / f"{runtime.choices.get('data')}.yaml" for place in places]
    return next((file for file in files if file.exists()), None)


def print_set_by_data(runs: Sequence[tuple[Mapping[str, Any], DictConfig]]) -> None:
    """Print what else the file of each data set sets, for the first run with that data set, and what networks set.

    runs: each a resolved config and its `hydra` node. Settings that a study or a typed value replaced are left out.
    """
    first = {str(node.runtime.choices.get("data")): (config, node) for config, node in reversed(runs)}
    for name, (config, node) in first.items():
        file = data_file(node)
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
    for line in dict.fromkeys(_of_model(config) for config, _ in runs):
        if line:
            print(line, flush=True)


def _of_model(config: Mapping[str, Any]) -> str:
    """Return a line that says what images a run gets because its network's own config names them; "" if it does not."""
    data, model = config["data"], config["model"]
    if not isinstance(data.get("normalize"), Mapping):
        return ""
    own = getattr(checks.target("model", model), "images", None)
    if own is None or (expected := own(model))["normalize"] != data["normalize"]:
        return ""
    same = ["size"] if data.get("size") == expected["size"] else []
    values = [f"data.{key}={data[key]}" for key in [*same, "normalize"]]
    return f"model.name={model['name']} sets {', '.join(values)}; type others, as data.size=64 data.normalize=dataset"
