"""Trained networks from run directories: `cnnexp.load(RUN)`.

A run directory may come from anyone: its config builds only what allowed.py permits, and its weights are read with
weights_only=True.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from cnnexp.config import checks, signature
from cnnexp.config.schema import GIVEN, DeviceConfig
from cnnexp.config.user_code import changed_code
from cnnexp.data.batches import Normalise, as_float
from cnnexp.data.decode import decode, warnings_that_name_images
from cnnexp.data.images import Pixels
from cnnexp.data.pixels import fit, flatten
from cnnexp.errors import UserError, reason_of, warn_once
from cnnexp.metrics import log_softmax
from cnnexp.models.pooling import as_torchs
from cnnexp.records.find import find_run
from cnnexp.records.run_record import RunRecord, one_run
from cnnexp.storage.untrusted import checked_file, checked_folder
from cnnexp.text import at_home
from cnnexp.training import allowed
from cnnexp.training import device as devices
from cnnexp.training.bf16 import keep_in_fp32
from cnnexp.training.build import build_model
from cnnexp.training.checkpoint import weights_in
from cnnexp.training.device import Device
from cnnexp.training.evaluation import logits_of

# A file; a Pillow image; (H, W[, C]) uint8. A large JPEG file is decoded at reduced size, see data/decode.py, so its
# pixels differ slightly from those of its picture.
AnyImage = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]
MAX_SIDE = 16_384  # pixels, or channels, of an image that a network is built for
MAX_THREADS = 4096


@dataclass(frozen=True)
class Transform:
    """Prepares an image as the test images were: the same decoding, size, channels and normalisation.

    image: (C, H, W). resize: "crop" or "squash", see cnnexp/data/decode.py. mean, std: C floats, of pixels / 255. bits:
    of images with more than 8, see cnnexp/data/pixels.py.
    """

    image: tuple[int, int, int]
    resize: str
    mean: list[float]
    std: list[float]
    bits: int | None = None

    def __call__(self, image: AnyImage) -> Tensor:
        """Return an image as (C, H, W) float32 on the CPU. Raises UserError for anything else."""
        return self.batch([self.pixels(image)])[0]

    def pixels(self, image: AnyImage) -> Pixels:
        """Return an image as (H, W, C) uint8. Raises UserError, naming the file, for anything else."""
        channels, height, width = self._of_pictures()
        if isinstance(image, (str, os.PathLike)):
            with warnings_that_name_images():
                return self.decoded(Path(image))
        if isinstance(image, np.ndarray) and image.dtype == np.uint8 and _is_picture(image.shape):
            image = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
        if not isinstance(image, Image.Image):
            given = f"{type(image).__name__} {getattr(image, 'dtype', '')} {tuple(getattr(image, 'shape', ()))}"
            raise UserError(f"image: given {given}; allowed: a path, a Pillow image, or (H, W[, 1, 3 or 4]) uint8")
        try:
            picture = flatten(image, "L" if channels == 1 else "RGB", self.bits)
        except ValueError as error:
            raise UserError(f"image: {error}") from error
        return np.asarray(fit(picture, (height, width), self.resize)).reshape(height, width, channels)

    def decoded(self, file: Path) -> Pixels:
        """Return an image file as `pixels` does. Threads may call it, within one `warnings_that_name_images`."""
        channels, height, width = self._of_pictures()
        return decode(file, (height, width), self.resize, channels, self.bits)

    def _of_pictures(self) -> tuple[int, int, int]:
        channels, height, width = self.image
        if channels not in (1, 3):
            raise UserError(
                f"images of {channels} x {height} x {width} are not made from pictures; give tensors to .model"
            )
        return self.image

    def batch(self, pixels: Sequence[Pixels], device: Any = "cpu") -> Tensor:
        """Return N images of (H, W, C) uint8 as (N, C, H, W) float32, normalised, channels_last, on a device."""
        there = torch.from_numpy(np.stack(pixels)).to(device).permute(0, 3, 1, 2)
        return Normalise(self.mean, self.std, there.device)(as_float(there))


def _is_picture(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))


@dataclass(frozen=True)
class TrainedModel:
    """A trained network, in eval mode, with the transform that prepares its input."""

    model: nn.Module = field(repr=False)
    transform: Transform
    classes: list[str]
    config: dict[str, Any] = field(repr=False)
    record: RunRecord = field(repr=False)
    device: Device
    weights: Path

    def logits(self, images: Any, batch_size: int = 256) -> NDArray[np.float32]:
        """Return the logits (N, K) of one image, of several, or of (N, H, W, C) uint8; see AnyImage for each."""
        several = _several(images)
        parts = (several[at : at + batch_size] for at in range(0, len(several), batch_size))
        inputs = (self.transform.batch([self.transform.pixels(i) for i in part], self.device.torch) for part in parts)
        return logits_of(self.model, inputs, self.device, len(several), batch_size)

    def predict(self, images: Any, batch_size: int = 256) -> NDArray[np.float64]:
        """Return the probabilities (N, K) of the classes; images: as for `logits`. Rows add up to 1."""
        return np.exp(log_softmax(self.logits(images, batch_size)))


def _several(images: Any) -> list[Any]:
    """Return a list of images. Raises UserError if it is empty."""
    single = isinstance(images, (str, os.PathLike, Image.Image)) or len(getattr(images, "shape", (0,) * 4)) < 4
    several = [images] if single else list(images)
    if not several:
        raise UserError("images: given none; allowed: at least one")
    return several


def load(run: str | os.PathLike[str], device: str = "cpu", allow: Iterable[str] = ()) -> TrainedModel:
    """Rebuild the network of a run with its best weights, in eval mode.

    torch.jit.trace, torch.export (with any batch size) and torch.onnx.export accept its `model`.
    run: a run directory, a checkpoint in it, or another name of a run: its name=, study/arm/seed, the first digits of
    its fingerprint, `latest`; these are looked up below outputs/. device: cpu, cuda, mps, cuda:1 or auto. allow: names
    of the user's functions that its config may build; cnnexp's builders and torchvision's networks are allowed.
    Raises UserError if there is no such run, if it has no weights, or if its config names what is not allowed.
    """
    record, weights = find(Path(at_home(os.fspath(run))))
    config = record.config()
    _check_model(config, set(allow))
    classes, image, mean, std = _data_facts(record)
    there = device_of(record, config, device)
    with torch.random.fork_rng(devices=[]):  # building draws first weights
        model = _built(config, image, len(classes))
    for name in changed_code(record.info.get("user_code"), config["model"]):
        warn_once(f"{record.folder} {name}", f"cnnexp: {name} has changed since {record.folder} was trained")
    _load_weights(model, weights, record.identity)
    as_torchs(model)
    if there.kind == "cpu" and there.precision == "bf16":
        try:
            keep_in_fp32(model, (record.info.get("device") or {}).get("fp32_layers") or [])
        except (AttributeError, KeyError, TypeError) as error:
            raise UserError(
                f"{record.folder / 'run.json'}: device.fp32_layers names no layers of its network"
            ) from error
    model = model.to(there.torch).eval()
    if there.channels_last:
        model = model.to(memory_format=torch.channels_last)
    resize = config["data"].get("resize", "squash")  # sources without this setting have images of one size
    transform = Transform(image, resize, mean, std, _bits(config["data"].get("bits")))
    return TrainedModel(model, transform, classes, config, record, there, weights)


def find(path: Path) -> tuple[RunRecord, Path]:
    """Return a run and its best checkpoint, or the checkpoint `path`. Raises UserError if there is none."""
    if path.suffix == ".pt" and not path.exists():
        raise UserError(f"{path}: no such checkpoint; give a run directory, or its checkpoints/best.pt")
    if path.is_file():
        folder = path.resolve().parent.parent
        if not (folder / "run.json").exists():
            raise UserError(f"{path}: is not in a run directory; give a run, or its checkpoints/best.pt")
        return one_run(folder), path.resolve()
    record = find_run(path)
    weights = checked_file(checked_folder(record.folder, "checkpoints"), "best.pt")
    if not weights.exists():
        finish = f"; finish it with: {record.info.get('repeat')}" if record.status == "interrupted" else ""
        raise UserError(f"{path}: has no checkpoints/best.pt (the run is {record.status}){finish}")
    return record, weights


def device_of(record: RunRecord, config: Mapping[str, Any], kind: str) -> Device:
    """Resolve a device for a run. One of the kind that it was trained on gets the run's precision and threads."""
    signature.check("device", config["device"], DeviceConfig)
    checks.check_device(kind)
    there = devices.resolve({**config["device"], "kind": kind, "precision": "auto", "threads": "auto"})
    trained = record.info.get("device") or {}
    if trained.get("kind") != there.kind:
        return there
    recorded = {**config["device"], "kind": kind, **{k: trained.get(k) for k in ("precision", "threads")}}
    signature.check("device", recorded, DeviceConfig)
    if recorded["threads"] != "auto" and recorded["threads"] > MAX_THREADS:
        raise UserError(f"device.threads: given {recorded['threads']}; allowed: at most {MAX_THREADS}")
    return devices.resolve(recorded)


def _check_model(config: dict[str, Any], allow: set[str]) -> None:
    """Check the nodes of a recorded config that are built; set `model.weights` to none, as the checkpoint has them."""
    for name in ("data", "model", "device"):
        if not isinstance(config.get(name), dict):
            raise UserError(f"config.yaml: {name} is missing")
    if "weights" in config["model"]:
        config["model"]["weights"] = "none"
    allowed.check_targets("model", config["model"], allow)
    config["model"], _ = checks.loading(config["model"])
    signature.check("model", config["model"], checks.target("model", config["model"]), GIVEN["model"])


def _data_facts(record: RunRecord) -> tuple[list[str], tuple[int, int, int], list[float], list[float]]:
    """Return the classes, (C, H, W), and the mean and std (C floats each) of a run's images, from run.json."""
    data: Any = record.info.get("data") or {}
    classes, image, mean, std = (data.get(name) for name in ("classes", "image", "mean", "std"))
    good = isinstance(classes, list) and isinstance(image, list) and [type(n) for n in image] == [int] * 3
    if not good or not all(1 <= n <= MAX_SIDE for n in image):
        raise UserError(f"{record.folder / 'run.json'}: does not say what data.classes and data.image are")
    if not all(_are_numbers(values, image[0]) for values in (mean, std)):
        raise UserError(f"{record.folder / 'run.json'}: does not say what data.mean and data.std are")
    return [str(c) for c in classes], (image[0], image[1], image[2]), mean, std


def _bits(value: Any) -> int | None:
    return value if type(value) is int and 8 <= value <= 31 else None


def _are_numbers(values: Any, count: int) -> bool:
    good = isinstance(values, list) and len(values) == count and all(type(v) in (int, float) for v in values)
    return good and all(abs(v) < 1e6 for v in values)


def _built(config: dict[str, Any], image: tuple[int, int, int], classes: int) -> nn.Module:
    """Build a recorded network. Raises UserError for any failure, because its settings may come from anyone."""
    try:
        return build_model(config, image, classes)
    except UserError:
        raise
    except Exception as error:  # the types are right, but the sizes do not fit, or need too much memory
        raise UserError(
            f"config.yaml: model cannot be built ({type(error).__name__}: {reason_of(error)[:200]})"
        ) from error


def _load_weights(model: nn.Module, file: Path, run: str) -> None:
    weights = weights_in(file, run)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{file}: does not fit the network of config.yaml ({reason_of(error)[:200]})") from error
