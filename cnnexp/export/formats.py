"""The formats of exported files: how each is made, and how a program that reads it computes logits.

The libraries of a format are the optional dependencies `cnnexp[export]`, imported when the format is asked for.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cnnexp.data.images import Pixels
from cnnexp.errors import UserError, reason_of
from cnnexp.export.portable import Portable, facts
from cnnexp.training.inference import TrainedModel
from cnnexp.version import version_of

Compute = Callable[[Pixels], NDArray[np.float32]]  # (N, H, W, C) uint8 -> logits (N, K)


@dataclass(frozen=True)
class Format:
    """A kind of file. needs: libraries that write it. reader: the library that checks it, if it is installed."""

    suffix: str
    needs: Sequence[str]
    reader: str
    write: Callable[[TrainedModel], bytes]
    read: Callable[[bytes, TrainedModel], Compute]


def check_installed(name: str) -> None:
    """Raise UserError if the libraries that write a format are not installed."""
    if missing := [library for library in FORMATS[name].needs if version_of(library) is None]:
        raise UserError(f"--to {name}: needs {', '.join(missing)}; type: pip install 'cnnexp[export]'")


def program_of(model: TrainedModel) -> torch.export.ExportedProgram:
    """Return the network with its preprocessing as torch.export's program, for any number of images.

    Raises UserError if torch cannot export it, as it may happen to a network of the user's own.
    """
    channels, height, width = model.transform.image
    example = torch.zeros(2, height, width, channels, dtype=torch.uint8)
    try:
        with torch.no_grad():
            return torch.export.export(
                Portable(model), (example,), dynamic_shapes={"images": {0: torch.export.Dim("batch")}}
            )
    except Exception as error:  # of many kinds, by what the network does
        reason = reason_of(error)[:300]
        raise UserError(f"{model.record.folder}: torch.export refuses its network ({reason})") from error


def _by_torch(network: torch.nn.Module) -> Compute:
    """Return how a network of torch computes."""

    def compute(pixels: Pixels) -> NDArray[np.float32]:
        with torch.no_grad():
            logits: NDArray[np.float32] = network(torch.from_numpy(pixels)).numpy()
        return logits

    return compute


def _to_pt2(model: TrainedModel) -> bytes:
    buffer, program = io.BytesIO(), program_of(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No complete tensor found")  # of weights that are views
        torch.export.save(program, buffer, extra_files=facts(model))
    return buffer.getvalue()


def _of_pt2(content: bytes, model: TrainedModel) -> Compute:
    return _by_torch(torch.export.load(io.BytesIO(content)).module())


def _to_onnx(model: TrainedModel) -> bytes:
    program = program_of(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the exporter's own code
        written = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: "batch"}},  # its name in the file
        )
    assert written is not None
    proto = written.model_proto
    for name, value in facts(model).items():
        proto.metadata_props.add(key=name, value=value)
    content: bytes = proto.SerializeToString()
    return content


def _of_onnx(content: bytes, model: TrainedModel) -> Compute:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def compute(pixels: Pixels) -> NDArray[np.float32]:
        (logits,) = session.run(["logits"], {"images": pixels})
        found: NDArray[np.float32] = logits
        return found

    return compute


def _to_safetensors(model: TrainedModel) -> bytes:
    from safetensors.torch import save

    tensors = {name: tensor.contiguous().clone() for name, tensor in model.model.state_dict().items()}
    content: bytes = save(tensors, metadata=facts(model))
    return content


def _of_safetensors(content: bytes, model: TrainedModel) -> Compute:
    """Compute with the file's tensors in the run's network, which this changes."""
    from safetensors.torch import load

    model.model.load_state_dict(load(content))
    return _by_torch(Portable(model))


FORMATS = {
    "onnx": Format("onnx", ("onnx", "onnxscript"), "onnxruntime", _to_onnx, _of_onnx),
    "pt2": Format("pt2", (), "torch", _to_pt2, _of_pt2),
    "safetensors": Format("safetensors", ("safetensors",), "safetensors", _to_safetensors, _of_safetensors),
}
