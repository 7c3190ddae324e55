"""Python code that uses an exported file, for its card. It needs no cnnexp, but for networks that cnnexp describes."""

from cnnexp.models.zoo import EXTRA, timm_settings
from cnnexp.training.allowed import refused_targets
from cnnexp.training.inference import TrainedModel

READ = """\
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

image = Image.open(io.BytesIO(Path("photo.jpg").read_bytes()))  # of a path, Pillow mixes the rows of some TIFF files
if image.mode.startswith("I") and "transparency" not in image.info:  # gray of more than 8 bits: the upper 8 of {bits}
    values = np.asarray(ImageOps.exif_transpose(image))
    assert 0 <= values.min() and values.max() < 2**{bits}
    if getattr(image, "tag_v2", {{}}).get(262) == 0:  # a TIFF file in which 0 is white
        values = 2**{bits} - 1 - values
    image = Image.fromarray((values >> {bits} - 8).astype(np.uint8))
elif {others}:
    raise ValueError("this code does not read such pixels; cnnexp.load does, or says what they lack")
image = ImageOps.exif_transpose(image).convert("RGBA")
image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"){gray}
{resize}pixels = np.asarray(image).reshape(1, {height}, {width}, {channels})  # N images, 0 to 255
"""
ONNX = """\
import onnxruntime

session = onnxruntime.InferenceSession("{file}")
(logits,) = session.run(["logits"], {{"images": pixels}})
"""
PT2 = """\
import torch

network = torch.export.load("{file}").module()
logits = network(torch.from_numpy(pixels.copy())).detach().numpy()
"""
SAFETENSORS = """\
import torch
from safetensors.torch import load_file

{network}
network.load_state_dict(load_file("{file}"))
network.eval()
mean, std = np.array({mean}), np.array({std})
x = torch.from_numpy((pixels / 255 - mean) / std).float().permute(0, 3, 1, 2)
logits = network(x).detach().numpy()
"""
ANSWER = """\
classes = {classes}
powers = np.exp(logits - logits.max(1, keepdims=True))
probabilities = powers / powers.sum(1, keepdims=True)
print(classes[logits[0].argmax()], probabilities[0].max())
"""


def snippet(model: TrainedModel, file: str, form: str) -> str:
    """Return a Markdown block of code that names the class of photo.jpg."""
    channels, height, width = model.transform.image
    bits, others = model.transform.bits or 16, 'image.mode[0] in "IF"'
    words = {"channels": channels, "height": height, "width": width, "gray": '.convert("L")' if channels == 1 else ""}
    words["others"] = others if bits == 16 else f'{others} or ";16" in str(image.tile)'
    read = READ.format(resize=_resize(model), bits=bits, **words)
    use = {"onnx": ONNX, "pt2": PT2, "safetensors": SAFETENSORS}[form]
    used = use.format(file=file, network=_network(model), mean=model.transform.mean, std=model.transform.std)
    return f"```python\n{read}\n{used}\n{ANSWER.format(classes=model.classes)}```"


def _resize(model: TrainedModel) -> str:
    """Return the code of the resize rule; it gives the same pixels as cnnexp/data/pixels.py."""
    _, height, width = model.transform.image
    scaled = f"image = image.resize(({width}, {height}), Image.Resampling.BILINEAR, box=box)\n"
    if model.transform.resize != "crop":
        return scaled.replace(", box=box", "")
    return (
        f"wide = min(image.width, image.height * {width} // {height})  # the largest part of the network's shape\n"
        f"high = min(image.height, image.width * {height} // {width})\n"
        "left, top = (image.width - wide) // 2, (image.height - high) // 2\n"
        f"box = (left, top, left + wide, top + high)\n{scaled}"
    )


def _network(model: TrainedModel) -> str:
    """Return code that builds the network whose weights a file holds."""
    node, image, classes = model.config["model"], model.transform.image, len(model.classes)
    if image[0] == 3 and node["_target_"] == "cnnexp.models.zoo.torchvision_model":
        more = "".join(f", {key}={value}" for key, value in EXTRA.get(node["name"], {}).items())
        made = f'torchvision.models.get_model("{node["name"]}", num_classes={classes}{more})'
        return f"import torchvision\n\nnetwork = {made}"
    if node["_target_"] == "cnnexp.models.zoo.timm_model":
        settings = ", ".join(f"{k}={v}" for k, v in timm_settings(node["name"], image, classes).items())
        return f'import timm\n\nnetwork = timm.create_model("{node["name"]}", {settings})'
    own = sorted({name for _, name in refused_targets("model", node, set())})
    allow = f", allow={own}" if own else ""
    load = f"cnnexp.load({str(model.record.folder)!r}{allow})"
    return f"import cnnexp\n\nnetwork = {load}.model  # or the same layers, built otherwise"
