"""`cnnexp export`: a trained model as an ONNX, torch.export or safetensors file, checked, with a model card."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cnnexp.commands import arguments
from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED, UserError
from cnnexp.text import mib, visible

if TYPE_CHECKING:
    from cnnexp.data.images import Pixels
    from cnnexp.training.inference import TrainedModel

TO = ("onnx", "pt2", "safetensors")
CARD = "model_card.md"
EXAMPLES = """\
formats:
  onnx          for ONNX Runtime and most other programs; needs pip install 'cnnexp[export]'
  pt2           for torch: torch.export.load, also from C++ (AOTInductor)
  safetensors   weights only; needs pip install 'cnnexp[export]'
  onnx and pt2 take uint8 images (N, height, width, channels) of the network's size, any N, and return logits.

examples:
  cnnexp export latest --to pt2
  cnnexp export ablation/baseline/0 --to onnx --out model
"""


def main(argv: list[str]) -> int:
    """Write the file and its card; 3 if the file's logits differ from torch's."""
    parser = arguments.parser("export", "Export a trained model, with its preprocessing inside.", EXAMPLES)
    parser.add_argument("run", metavar="RUN", help=f"{arguments.RUN}; or a checkpoint in it")
    moved = "data.root=DIR, data.file=FILE: data that moved"
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help=moved)
    parser.add_argument("--to", choices=TO, required=True, help="the format")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the folder of file and card (default: RUN/export/FORMAT[-CHECKPOINT])"
    )
    arguments.add_allow(parser)
    given = parser.parse_intermixed_args(argv)
    from cnnexp import storage
    from cnnexp.export import card, check, formats
    from cnnexp.training import device, inference

    formats.check_installed(given.to)
    model = inference.load(given.run, "cpu", given.allow)
    device.set_up(model.device)

    def again() -> "TrainedModel":  # writing and checking a file change its network
        return inference.load(model.weights, "cpu", given.allow)

    folder = given.to if model.weights.name == "best.pt" else f"{given.to}-{model.weights.stem}"
    file = (given.out or model.record.folder / "export" / folder) / f"model.{formats.FORMATS[given.to].suffix}"
    suffixes = [form.suffix for form in formats.FORMATS.values() if form.suffix != file.suffix[1:]]
    if other := next((o for o in (file.with_name(f"model.{s}") for s in suffixes) if o.exists()), None):
        raise UserError(f"--out: {visible(other)} is there, with its {CARD}; choose another folder for each format")
    content = formats.FORMATS[given.to].write(again())
    pixels, what = images_of(model, given.overrides, given.allow)
    found = check.check(given.to, content, model, pixels, what)
    if found and not found.passed:
        print(f"cnnexp: not written, because it differs from torch: {found}", file=sys.stderr)
        return EXIT_SOME_FAILED
    checked = found or f"no; {formats.FORMATS[given.to].reader} is not installed"
    text = card.model_card(again(), file.name, given.to, checked)
    storage.make_folder(file.parent)
    storage.write_bytes(file, content)
    storage.write_text(file.with_name(CARD), text)
    print(f"{visible(file)}: {mib(len(content))}\nchecked: {checked}\n{visible(file.with_name(CARD))}")
    return EXIT_DONE


def images_of(model: "TrainedModel", overrides: list[str], allow: list[str]) -> "tuple[Pixels, str]":
    """Return images to compare with, and their kind: test images, or noise if the run's data is not there."""
    from cnnexp.export import check
    from cnnexp.training.other_data import data_of

    try:
        return check.some_of(data_of(model, overrides, allow).test), "test image"
    except UserError as error:
        if overrides:
            raise
        print(f"cnnexp: compared on noise, because there are no test images: {error}", file=sys.stderr)
        return check.random_pixels(model.transform), "image"
