"""Segmenters: uint8 pixels of any size in, the class of each of them out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from finetuning.engine import canvas
from finetuning.engine.events import EventWriter
from finetuning.engine.exporting import graphs, parity, pictures
from finetuning.engine.exporting.parity import Parity
from finetuning.engine.frameworks import Loaded
from finetuning.engine.packs import Item, PackReader
from finetuning.engine.spec import Preprocessing

OUTPUTS = ("class_map", "logits")


class _Scores(nn.Module):
    """(1, 3, S, S) -> (1, C, S, S), of segmenters that answer with a dictionary."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, pixels: Tensor) -> Tensor:
        scores: Tensor = self.module(pixels)["out"]
        return scores


def build(loaded: Loaded) -> onnx.ModelProto:
    """Returns (image (height, width, 3) uint8 RGB) => (class_map (height, width) uint8, logits (C, S, S) of the
    canvas). Enlarging the logits takes C x height x width x 4 bytes. Raises UserFault (`export_unsupported`)."""
    spec = loaded.preprocessing or Preprocessing()
    view = pictures.fitted(spec, spec.size)
    sample = {"pixels": torch.zeros(1, 3, spec.size, spec.size)}
    network = graphs.network(loaded, _Scores(loaded.module), sample, ["scores"])
    seen = graphs.joined(view, network, ["scores", "size", "scaled_size"])
    return graphs.joined(seen, _answer(len(loaded.labels), spec.size), OUTPUTS)


def _answer(classes: int, side: int) -> onnx.ModelProto:
    """What the canvas shows of the image, enlarged to the image's size: as `canvas.classes_on`."""
    return graphs.written(
        "answer",
        f"(float[1, {classes}, {side}, {side}] scores, int64[2] size, int64[2] scaled_size) => "
        f"(uint8[height, width] class_map, float[{classes}, {side}, {side}] logits)",
        f"""
        first = Constant <value_ints = [0]> ()
        logits = Squeeze (scores, first)
        corner = Constant <value_ints = [0, 0]> ()
        axes = Constant <value_ints = [2, 3]> ()
        shown = Slice (scores, corner, scaled_size, axes)
        lead = Constant <value_ints = [1, {classes}]> ()
        sizes = Concat <axis = 0> (lead, size)
        enlarged = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (shown, , , sizes)
        best = ArgMax <axis = 1, keepdims = 0> (enlarged)
        flat = Squeeze (best, first)
        class_map = Cast <to = {onnx.TensorProto.UINT8}> (flat)
        """,
    )


def notes(_loaded: Loaded) -> dict[str, str]:
    return {"input": pictures.INPUT}


@torch.inference_mode()
def compare(
    loaded: Loaded,
    session: onnxruntime.InferenceSession,
    pack: PackReader,
    items: Sequence[Item],
    events: EventWriter,
) -> Parity:
    """Compares with what `evaluate` scores: the class of each of the stored image's own pixels."""
    spec = loaded.preprocessing or Preprocessing()
    module = loaded.module.to(memory_format=torch.channels_last).eval()
    found = Parity("pixels")
    for part in parity.chunks(items, events):
        for image in pack.images(part):
            pixels, _ = canvas.evaluation_view(image, None, spec)
            wanted = module(pixels.unsqueeze(0).contiguous(memory_format=torch.channels_last))["out"][0]
            classes, logits = session.run(list(OUTPUTS), {"image": np.asarray(image)})
            same = canvas.classes_on(wanted, image.size) == classes
            found.differs("logits", wanted.numpy(), np.asarray(logits))
            found.items += 1
            found.compared += same.size
            found.agreed += int(same.sum())
    return found
