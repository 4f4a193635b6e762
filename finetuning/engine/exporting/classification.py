"""Image classifiers: uint8 pixels of any size in, logits, probabilities and class out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from finetuning.engine import preprocessing
from finetuning.engine.events import EventWriter
from finetuning.engine.exporting import graphs, parity, pictures
from finetuning.engine.exporting.parity import Parity
from finetuning.engine.frameworks import Loaded, stage_head
from finetuning.engine.packs import Item, PackReader
from finetuning.engine.spec import Preprocessing

OUTPUTS = ("logits", "probabilities", "class_index")


class _WholeStageHead(nn.Module):
    """A stage head that leaves its backbone by the end of it: torch.export does not follow the exception by which
    `StageHead` leaves early, and drops what nobody reads by itself."""

    def __init__(self, head: stage_head.StageHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, pixels: Tensor) -> Tensor:
        _, stages = stage_head.outputs(self.head.backbone, self.head.taps, pixels)
        logits: Tensor = self.head.classifier(stage_head.pool(stages))
        return logits


def build(loaded: Loaded) -> graphs.Drawn:
    """Returns (image (height, width, 3) uint8 RGB) => (logits (C,), probabilities (C,), class_index ()).

    Raises UserFault (`export_unsupported`)."""
    spec = loaded.preprocessing or Preprocessing()
    view = pictures.cropped(spec)
    module = loaded.module
    whole = _WholeStageHead(module) if isinstance(module, stage_head.StageHead) else module
    drawn = graphs.network(loaded, whole, {"pixels": torch.zeros(1, 3, spec.size, spec.size)}, ["scores"])
    seen = graphs.joined(view, drawn.model, ["scores"])
    return graphs.Drawn(graphs.joined(seen, _answer(loaded), OUTPUTS), drawn.exporter)


def _answer(loaded: Loaded) -> onnx.ModelProto:
    classes = len(loaded.labels)
    return graphs.written(
        "answer",
        f"(float[1, {classes}] scores) => (float[{classes}] logits, float[{classes}] probabilities, int64 class_index)",
        f"""
        first = Constant <value_ints = [0]> ()
        logits = Squeeze (scores, first)
        temperature = Constant <value_float = {loaded.temperature:.9e}> ()
        calibrated = Div (logits, temperature)
        probabilities = Softmax <axis = 0> (calibrated)
        class_index = ArgMax <axis = 0, keepdims = 0> (logits)
        """,
    )


@torch.inference_mode()
def compare(
    loaded: Loaded,
    session: onnxruntime.InferenceSession,
    pack: PackReader,
    items: Sequence[Item],
    events: EventWriter,
) -> Parity:
    """Compares with what `serve` answers: the network in float32 on PIL's view of the image."""
    to_input = preprocessing.transform(loaded.preprocessing or Preprocessing())
    module = loaded.module.to(memory_format=torch.channels_last).eval()
    found = Parity("top-1 classes")
    for part in parity.chunks(items, events):
        images = list(pack.images(part))
        inputs = torch.stack([to_input(image) for image in images]).contiguous(memory_format=torch.channels_last)
        wanted = module(inputs)
        shares = (wanted / loaded.temperature).softmax(1).numpy()
        rows = [session.run(list(OUTPUTS), {"image": np.asarray(image)}) for image in images]
        logits, probabilities, classes = (np.stack(column) for column in zip(*rows, strict=True))
        found.differs("logits", wanted.numpy(), logits)
        found.differs("probabilities", shares, probabilities)
        found.items += len(part)
        found.compared += len(part)
        found.agreed += int((wanted.argmax(1).numpy() == classes).sum())
    return found
