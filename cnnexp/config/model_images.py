"""`data.size: model` and `data.normalize: model`: the images that a network's own config names. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from cnnexp.config import checks
from cnnexp.config.signature import parameters_of
from cnnexp.errors import UserError

FOLLOWS = ("size", "normalize")


def follow_model(config: Mapping[str, Any]) -> None:
    """Replace these words by what the network's builder says: its `images(node)` returns {size, normalize}.

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


def of_model(config: Mapping[str, Any]) -> str:
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
