"""Pretrained weights for a network's backbone: torchvision's ImageNet weights, or those of a checkpoint."""

import logging
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnnexp import storage
from cnnexp.errors import Skipped, UserError, warn_once
from cnnexp.storage import fetch, torch_files
from cnnexp.text import listed, plural

log = logging.getLogger(__name__)
HOLDERS = ("model", "state_dict", "model_state_dict", "model_state", "net", "weights")  # of weights, in checkpoints
MAX_LISTED = 8  # names of tensors of a kind
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)")  # its file has norm.1 for norm1


def head_name(model: nn.Module) -> str:
    """Return the name of the last fully connected layer or convolution: in a classifier, the one of the logits."""
    layers: list[str] = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    assert layers, f"{type(model).__name__} has no layer that could be its head"
    return layers[-1]


def to_channels(model: nn.Module, channels: int) -> None:
    """Make a network for RGB images take `channels`: for 1, sum the first convolution's weights over its channels.

    Raises UserError unless `channels` is 1 or 3.
    """
    if channels == 3:
        return
    if channels != 1:
        raise UserError(f"model: torchvision's networks take images of 3 channels or 1, the data's have {channels}")
    _, old = _first_convolution(model)
    old.weight = nn.Parameter(old.weight.detach().sum(1, keepdim=True))
    old.in_channels = 1


def imagenet_weights(name: str) -> Any:
    """Return torchvision's entry of a network's ImageNet weights, IMAGENET1K_V1 if there is one.

    Raises UserError if there is none.
    """
    import torchvision

    choices = torchvision.models.get_model_weights(name)
    chosen: Any = next((w for w in choices if w.name == "IMAGENET1K_V1"), next(iter(choices), None))
    if chosen is None:
        raise UserError(f"model.weights: torchvision has no ImageNet weights for {name}; give none or a path")
    return chosen


def from_imagenet(name: str, build: Callable[[int], nn.Module]) -> dict[str, Tensor]:
    """Return torchvision's ImageNet weights (IMAGENET1K_V1 if there is one), from torch's folder or the server.

    build: makes the network for a number of classes; loading into it renames tensors of older versions of its layers.
    Raises Skipped, with the reason, if the weights are not available, and UserError if the file there is another one.
    """
    chosen = imagenet_weights(name)
    try:
        file = _downloaded(chosen.url)
    except OSError as error:
        raise Skipped(
            f"model.weights=imagenet: the weights of {name} are not available ({error}); give model.weights=PATH, "
            "or backbone.weights=PATH to all arms that transfer: a checkpoint or a run directory"
        ) from error
    state = torch_files.load(file, foreign=True)
    for key in list(state):  # in place: an attribute of the dict holds the versions of the layers
        tensor = state.pop(key)
        if not key.startswith(AUXILIARY):
            state[DENSENET.sub(r"\1", key)] = tensor
    with torch.random.fork_rng(devices=[]):
        model = build(len(chosen.meta["categories"]))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f"model.weights: {file} is of another network ({' '.join(str(error).split())[:200]})"
        ) from error
    return model.state_dict()


def _downloaded(url: str) -> Path:
    """Return the file of `url` in torch's folder of checkpoints, after downloading it if it is not there.

    Its name ends in the first digits of its SHA-256, which are compared each time. Raises OSError if it cannot be
    downloaded, and UserError if the file there is another one.
    """
    name = url.rpartition("/")[2]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file, digest = folder / name, f"sha256:{Path(name).stem.rpartition('-')[2]}"
    with fetch.reserved(folder, name):
        fetch.provide(url, file, digest)
    return file


def from_file(path: Path) -> dict[str, Tensor]:
    """Return the weights of a checkpoint: a file of torch.save, or a run directory, whose best checkpoint is read.

    The file holds a state dict, or a dict with one under one of HOLDERS. Only tensors and plain values are unpickled.
    Raises UserError, naming the file, if there is none or it holds something else.
    """
    file = path / "checkpoints" / "best.pt" if path.is_dir() else path
    if not file.exists():
        raise UserError(f"model.weights: there is no {file}")
    try:
        content = torch_files.load(file, foreign=not path.is_dir())
    except storage.Damaged as error:
        raise UserError(f"model.weights: {error}") from error
    if path.is_dir() and isinstance(content, Mapping) and "run" in content:
        run = storage.read_json(path / "run.json")
        if content["run"] != (expected := f"{run.get('fingerprint')}-s{run.get('seed')}"):
            raise UserError(f"model.weights: {file} is of another run ({content['run']}, not {expected})")
    holder = next(
        (key for key in HOLDERS if isinstance(content, Mapping) and isinstance(content.get(key), Mapping)), None
    )
    state = content if holder is None else content[holder]
    named = isinstance(state, dict) and all(isinstance(k, str) and isinstance(t, Tensor) for k, t in state.items())
    if not isinstance(state, dict) or not state or not named:
        raise UserError(f"model.weights: {file} holds no weights; a state dict, or a dict with one as 'model', is read")
    integers = (k for k, t in state.items() if k.endswith(".weight") and not t.is_floating_point())
    if numbers := next(integers, None) if not path.is_dir() else None:
        kind = str(state[numbers].dtype).removeprefix("torch.")
        raise UserError(f"model.weights: {file} holds {kind} numbers, as in {numbers}; give weights as floating point")
    bad = next((k for k, t in state.items() if not is_finite(t)), None)
    if bad is not None:
        raise UserError(f"model.weights: {file} has numbers that are not finite, as in {bad}; give another checkpoint")
    return dict(state)


def is_finite(tensor: Tensor) -> bool:
    """Tell whether all numbers of a tensor are finite; True for a kind of tensor that has no numbers to read."""
    dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return not dense or not tensor.is_floating_point() or bool(tensor.isfinite().all())


def without_prefix(state: Mapping[str, Tensor], known: Collection[str], source: str) -> dict[str, Tensor]:
    """Remove what a wrapper puts before each name: `module.` (DataParallel), `_orig_mod.` (compile), `model.`, ...

    known: the network's own names. Tensors without the prefix are left out: they belong to something else, such as a
    loss. Raises UserError if several prefixes lead to the network's names.
    """
    if any(key in known for key in state):
        return dict(state)
    first = next((name for name in known if any(key.endswith(f".{name}") for key in state)), None)
    if first is None:
        return dict(state)
    prefixes = [key.removesuffix(first) for key in state if key.endswith(f".{first}")]
    matches = [sum(f"{prefix}{name}" in state for name in known) for prefix in prefixes]
    most = [prefix for prefix, count in zip(prefixes, matches, strict=True) if count == max(matches)]
    if len(most) > 1:
        raise UserError(f"model.weights: {source} holds several networks ({', '.join(most)}); save the one to use")
    return {key.removeprefix(most[0]): tensor for key, tensor in state.items() if key.startswith(most[0])}


def load_all(model: nn.Module, state: Mapping[str, Tensor], source: str, strict: bool = True) -> list[str]:
    """Load all tensors, as torch's load_state_dict does; return the names of the loaded ones. See `load_backbone`."""
    own = model.state_dict()
    return _load(model, own, without_prefix(state, own, source), source, strict)


def load_backbone(
    model: nn.Module, state: Mapping[str, Tensor], head: str | tuple[str, ...], source: str, strict: bool = True
) -> list[str]:
    """Load all tensors but the head's, which stay as they are; return the names of the loaded ones.

    head: the name of the last layer, or the names of several. For a network of gray images, weights for RGB are summed
    over the channels, as in `to_channels`. Raises UserError if nothing fits, or if a tensor outside the head is
    missing, unexpected, or of another shape; if not `strict`, these are listed, and what fits is loaded.
    """
    names = (head,) if isinstance(head, str) else head
    heads = tuple(f"{name}." for name in names)
    own = {k: t for k, t in model.state_dict().items() if not k.startswith(heads)}
    state = without_prefix(state, own, source)
    given = {k: t for k, t in state.items() if not k.startswith((*heads, *AUXILIARY))}
    key = f"{_first_convolution(model)[0]}.weight"
    gray, colour = own.get(key), given.get(key)
    if gray is not None and colour is not None and colour.shape == (len(gray), 3, *gray.shape[2:]) != gray.shape:
        given[key] = colour.sum(1, keepdim=True)
    loaded = _load(model, own, given, source, strict)
    log.info("weights: %d tensors from %s; the head (%s) is fresh", len(loaded), source, ", ".join(names))
    return loaded


def _load(
    model: nn.Module, own: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str, strict: bool
) -> list[str]:
    fits = {name: given[name] for name in own if name in given and given[name].shape == own[name].shape}
    if not fits:
        held, wanted = (", ".join([*list(names)[:3], "..."]) for names in (given, own))
        raise UserError(
            f"model.weights: nothing in {source} fits this network; it holds {held}; the network has {wanted}"
        )
    wrong = misfits(own, given)
    if wrong and strict:
        rest = f"model.strict=false loads the {plural(len(fits), 'tensor')} that fit"
        raise UserError(f"model.weights: {source} does not fit this network: {wrong}; {rest}")
    try:
        model.load_state_dict(fits, strict=False)
    except RuntimeError as error:  # a kind of tensor that cannot be copied: sparse, quantised, meta
        raise UserError(f"model.weights: {source} cannot be loaded ({' '.join(str(error).split())[:200]})") from error
    if wrong:
        line = f"model.weights: {plural(len(fits), 'tensor')} of {source} loaded; not loaded: {wrong}"
        warn_once(line, f"cnnexp: {line}")
    return list(fits)


def misfits(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """List which tensors of a network are missing among the given ones, are unexpected, or have other shapes."""
    counts = ".num_batches_tracked"  # older files have none
    other = [f"{k} {tuple(given[k].shape)}, here {tuple(t.shape)}" for k, t in own.items() if k in given
             and given[k].shape != t.shape]  # fmt: skip
    kinds = {
        "missing": [name for name in own if name not in given and not name.endswith(counts)],
        "unexpected": [name for name in given if name not in own],
        "of another shape": other,
    }
    return "; ".join(f"{kind}: {listed(names, MAX_LISTED)}" for kind, names in kinds.items() if names)


def _first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d]:
    found = next(((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)), None)
    assert found is not None, f"{type(model).__name__} has no convolution"
    return found
