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
from finetuning.engine.exporting import classes, graphs, parity, pictures
from finetuning.engine.exporting.parity import Parity
from finetuning.engine.frameworks import Loaded, stage_head
from finetuning.engine.packs import Item, PackReader
from finetuning.engine.spec import Preprocessing


class _WholeStageHead(nn.Module):
    """A stage head that leaves its backbone by the end of it: torch.export does not follow the exception by which
    `StageHead` leaves early, and drops what nobody reads by itself."""

    def __init__(self, head: stage_head.StageHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, pixels: Tensor) -> Tensor:
        _, stages = stage_head.outputs(self.head.backbone, self.head.taps, pixels)
        logits: Tensor = self.head.classifier(stage_head.pool(stages, self.head.pooling))
        return logits


def build(loaded: Loaded) -> onnx.ModelProto:
    """Returns (image (height, width, 3) uint8 RGB) => (logits (C,), probabilities (C,), class_index () or found (C,)).

    Raises UserFault (`export_unsupported`)."""
    spec = loaded.preprocessing or Preprocessing()
    view = pictures.cropped(spec)
    module = loaded.module
    whole = _WholeStageHead(module) if isinstance(module, stage_head.StageHead) else module
    network = graphs.network(loaded, whole, {"pixels": torch.zeros(1, 3, spec.size, spec.size)}, ["scores"])
    seen = graphs.joined(view, network, ["scores"])
    return graphs.joined(seen, classes.answer(loaded), classes.outputs(loaded))


def notes(loaded: Loaded) -> dict[str, str]:
    return {"input": pictures.INPUT, **classes.notes(loaded)}


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
    found = Parity(classes.unit(loaded))
    for part in parity.chunks(items, events):
        images = list(pack.images(part))
        inputs = torch.stack([to_input(image) for image in images]).contiguous(memory_format=torch.channels_last)
        wanted = module(inputs)
        rows = [session.run(list(classes.outputs(loaded)), {"image": np.asarray(image)}) for image in images]
        classes.tally(found, loaded, wanted, list(zip(*rows, strict=True)))
    return found
