"""Config -> objects: the only caller of Hydra's instantiate."""

import copy
import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cnnexp.config import checks
from cnnexp.config.signature import parameters_of
from cnnexp.config.user_code import PACKAGE, builders, user_frames
from cnnexp.data.folders import split_of
from cnnexp.data.images import PARTS, ImageData
from cnnexp.errors import UserError, is_out_of_memory
from cnnexp.records.find import weights_path

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn
    from torch.optim import Optimizer

    from cnnexp.optim.schedules import Schedule


def make(where: str, node: Mapping[str, Any], **given: Any) -> Any:
    """Call the `_target_` of a node with the node's settings, and with those of `given` that its signature has.

    Hydra builds what the node nests, and checks and imports the target. Plain settings and `given` do not pass through
    OmegaConf, which would wrap each value of each list, and every parameter of a network.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    parameters = parameters_of(checks.target(where, node))
    given = {name: value for name, value in given.items() if name in parameters}
    for_hydra = {key: value for key, value in node.items() if key.startswith("_") or any(builders(value))}
    plain = {key: copy.deepcopy(value) for key, value in node.items() if key not in for_hydra}
    try:
        call = instantiate(for_hydra | {"_partial_": True}, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, Exception):
            raise error.__cause__ from error
        raise UserError(f"{where}: {str(error).splitlines()[0]}") from error
    return functools.partial(call, **plain, **given) if node.get("_partial_") else call(**plain, **given)


@contextmanager
def refused(where: str, config: Mapping[str, Any], name: str) -> Iterator[None]:
    """Raise what torch, or another library, raises in this block as a UserError; the user's own errors stay."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if user_frames(error) or raised_here(error) or is_out_of_memory(error):
            raise
        raise UserError(f"{where}: {config[name]['_target_']}: {first_line(error)}") from error


def raised_here(error: BaseException) -> bool:
    """Tell whether this package raised an error, instead of a library that it called."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).resolve().is_relative_to(PACKAGE)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def wrong_type(where: str, result: Any, expected: str) -> UserError:
    """Return the error for a `_target_` whose result has the wrong type."""
    return UserError(f"{where}._target_: gave a {type(result).__name__}; it must give {expected}")


def build_data(config: Any) -> ImageData:
    """Build the data set of a config, preparing its cache if there is none. This process keeps the last two.

    With `validate_on: test` the validation split is the test images. Raises UserError if the data has other ones.
    """
    data = _remembered_data(json.dumps(config["data"]))
    if config.get("validate_on") != "test":
        return data
    if len(data.val):
        fix = "leave out data.folds" if config["data"].get("folds") else "set data.val_fraction=0"
        raise UserError(f"validate_on: given test; {data.name} has {len(data.val)} validation images: {fix}")
    return dataclasses.replace(data, val=dataclasses.replace(data.test))


def forget_data() -> None:
    """Let the next `build_data` look at the files again: a program that goes on may have changed them."""
    _remembered_data.cache_clear()


@functools.lru_cache(maxsize=2)
def _remembered_data(text: str) -> ImageData:
    from cnnexp.data.decode import warnings_that_name_images

    node, rest = checks.dividing(json.loads(text))
    foreign = nullcontext() if node["_target_"].startswith("cnnexp.") else refused("data", {"data": node}, "data")
    with warnings_that_name_images(), foreign:
        data = make_data(node, rest.pop("splits", None))
    if isinstance(data, ImageData):
        if rest:
            named = node["_target_"]
            raise UserError(f"data.{next(iter(rest))}: {named} divides its images itself, and does not take this")
        return data
    from cnnexp.data.torch_dataset import from_datasets

    name = str(node["_target_"]).rpartition(".")[2]
    with refused("data", {"data": node}, "data"):
        converted = from_datasets(name, data, **rest)
    if converted is None:
        raise wrong_type("data", data, "image_data(...), a torch Dataset, or a train and a test Dataset")
    return converted


def make_data(node: dict[str, Any], splits: list[str] | None) -> Any:
    """Call the builder of a data set; a Dataset class with `train` or `split` is built for every split.

    splits: the values of `split`; by default train and test. Raises UserError for splits that the class cannot have.
    """
    builder = checks.target("data", node)
    key = next(iter(checks.given_to("data", node, builder)), None)
    if splits and key != "split":
        raise UserError(f"data.splits: given {splits}; allowed only for a Dataset class that takes `split`")
    if key is None:
        return make("data", node)
    if key == "train":
        return {part: make("data", {**node, key: part == "train"}) for part in ("train", "test")}
    names = {split_of(name) or name: name for name in splits or ("train", "test")}
    if "train" not in names or set(names) - set(PARTS):
        raise UserError(f"data.splits: given {splits}; allowed: train, val and test, as the Dataset calls them")
    return {part: make("data", {**node, key: name}) for part, name in names.items()}


def build_model(config: Any, image: tuple[int, int, int], classes: int) -> "nn.Module":
    """Build the network for images of shape (C, H, W) and K classes, on the CPU."""
    from torch import nn

    node, loaded = checks.loading(config["model"])
    model = make("model", node, image=image, classes=classes)
    if not isinstance(model, nn.Module):
        raise wrong_type("model", model, "a torch.nn.Module")
    if lazy := [name for name, p in model.named_parameters() if nn.parameter.is_lazy(p)]:
        raise UserError(
            f"model._target_: {lazy[0]} has no size yet; lazy layers are not taken: give the layer its sizes"
        )
    if (weights := loaded.get("weights", "none")) != "none":
        start_from(model, weights, loaded.get("strict", True))
    return model


def start_from(model: "nn.Module", weights: Any, strict: bool) -> None:
    """Load the weights of a run or a checkpoint into a network of any kind. Raises UserError for what does not fit."""
    from cnnexp.models.weights import from_file, load_all

    if weights == "imagenet":
        raise UserError("model.weights: imagenet is for model=torchvision; give a checkpoint or a run")
    load_all(model, from_file(weights_path(weights)), weights, strict)


def build_augmentation(config: Any) -> Callable[..., Any]:
    """Build the augmentation: a callable of ((N, C, H, W) float32 in [0, 1], generator)."""
    node = config["augmentation"]
    augmentation: Callable[..., Any]
    if checks.is_augmentation(checks.target("augmentation", node)):
        settings = make("augmentation", {**node, "_partial_": True})
        augmentation = lambda images, generator: settings(images, generator=generator)  # noqa: E731
    else:
        augmentation = make("augmentation", node)
    if not callable(augmentation):
        raise wrong_type("augmentation", augmentation, "a callable")
    if not node["_target_"].startswith("cnnexp."):
        from cnnexp.data.user_augmentation import UserAugmentation

        return UserAugmentation(augmentation)
    return augmentation


def build_loss(config: Any, labels: "NDArray[Any]", device: Any) -> Callable[[Any, Any], Any]:
    """Build the loss: a callable of (logits (N, K), labels (N,)). labels: of all training images."""
    from torch import nn

    node, target = config["loss"], checks.target("loss", config["loss"])
    if checks.is_loss(target):
        settings = make("loss", {**node, "_partial_": True})
        return lambda logits, labels: settings(logits, labels)
    loss = make("loss", node, class_counts=[int(n) for n in np.bincount(labels)])
    if not callable(loss):
        raise wrong_type("loss", loss, "a callable")
    return loss.to(device) if isinstance(loss, nn.Module) else cast(Callable[[Any, Any], Any], loss)


def build_optimizer(config: Any, model: "nn.Module") -> "Optimizer":
    """Build the optimiser of the parameters that learn, now or later. Raises UserError if there are none."""
    from cnnexp.models.freeze import unfreezing
    from cnnexp.optim.groups import parameters
    from cnnexp.optim.lean import lean, spare_compiler

    later = unfreezing(model, config.get("unfreeze") or {}, 1)
    params = parameters(model, config.get("param_groups"), config["optimizer"], later)
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError(f"model: no parameter learns{' at first' if later else ''}; nothing can be trained")
    spare_compiler()
    optimizer: Optimizer = make("optimizer", config["optimizer"], params=params)
    if not callable(getattr(optimizer, "step", None)):
        raise wrong_type("optimizer", optimizer, "an Optimizer")
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UserError(f"optimizer._target_: {type(optimizer).__name__} needs a closure, and is stepped without one")
    return lean(optimizer)


def build_schedule(config: Any, optimizer: "Optimizer", total_steps: int, steps_per_epoch: int) -> "Schedule":
    """Build the learning-rate schedule.

    A class of torch's schedulers is stepped once per epoch, and its `total_steps` are epochs. A function's scheduler is
    stepped after every step if the function takes total_steps or steps_per_epoch, else once per epoch. Raises UserError
    for one of torch that gives all parameter groups, whose learning rates differ, the same.
    """
    from torch.optim.lr_scheduler import LRScheduler

    from cnnexp.optim.schedules import Schedule, TorchSchedule

    target = checks.target("scheduler", config["scheduler"])
    in_steps = not (inspect.isclass(target) and issubclass(target, LRScheduler))
    if not in_steps:
        total_steps, steps_per_epoch = -(-total_steps // steps_per_epoch), 1
    lengths = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
    before = {float(group["lr"]) for group in optimizer.param_groups}
    schedule = make("scheduler", config["scheduler"], optimizer=optimizer, **lengths)
    if isinstance(schedule, LRScheduler):
        after = {float(group["lr"]) for group in optimizer.param_groups}
        if len(before) > 1 and len(after) == 1 and after != {0.0}:  # 0: a warm-up from there
            raise UserError(
                f"param_groups: {type(schedule).__name__} gives all groups the same learning rate, so layer_decay and "
                "rates have no effect; leave them out, or choose another schedule, such as scheduler=onecycle"
            )
        takes_steps = bool(parameters_of(target).keys() & lengths)
        return TorchSchedule(optimizer, schedule, every_step=in_steps and takes_steps)
    if not isinstance(schedule, Schedule):
        raise wrong_type("scheduler", schedule, "an LRScheduler")
    return schedule
