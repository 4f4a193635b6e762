"""FCOS detectors: uint8 pixels of any size in, boxes in those pixels, scores and classes out.

What torchvision does with the heads' answers is split: scoring, the best of each level and decoding have fixed
shapes and are traced; suppression and the way back to the image's pixels are written in ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image

from finetuning.engine import frameworks, placement
from finetuning.engine.evaluation.average_precision import Floats, Found, iou
from finetuning.engine.events import EventWriter
from finetuning.engine.exporting import graphs, parity, pictures
from finetuning.engine.exporting.parity import MIN_BOX_AGREEMENT, Parity
from finetuning.engine.failures import UserFault
from finetuning.engine.frameworks import Loaded
from finetuning.engine.packs import Item, PackReader
from finetuning.engine.spec import Preprocessing
from finetuning.engine.tasks import detection

OUTPUTS = ("boxes", "scores", "class_index")
# Two boxes of a class are the same one where they overlap by so much (suppression leaves none that do), or where no
# side differs by more than a pixel: boxes at an edge may have no area at all.
MATCHED_IOU = 0.9
MATCHED_PIXELS = 1.0


class _Candidates(nn.Module):
    """The best boxes of each level before suppression: (1, 3, S, S) -> boxes (K, 4) on the canvas, scores (K,),
    classes (K,), as `FCOS.postprocess_detections` chooses them."""

    def __init__(self, detector: FCOS, side: int) -> None:
        super().__init__()
        self.detector, self.side = detector, side
        canvas = torch.zeros(1, 3, side, side)
        maps = list(detector.backbone(canvas).values())
        self.anchors = detector.anchor_generator(ImageList(canvas, [(side, side)]), maps)[0]
        per_cell = detector.anchor_generator.num_anchors_per_location()
        self.counts = [number * part.shape[-2] * part.shape[-1] for number, part in zip(per_cell, maps, strict=True)]

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        answers = self.detector.head(list(self.detector.backbone(pixels).values()))
        parts = [answers[name][0] for name in ("cls_logits", "bbox_ctrness", "bbox_regression")]
        found = [
            self._best(*level)
            for level in zip(*(part.split(self.counts) for part in (*parts, self.anchors)), strict=True)
        ]
        boxes, scores, classes = (torch.cat(column) for column in zip(*found, strict=True))
        return boxes, scores, classes

    def _best(self, logits: Tensor, centers: Tensor, shifts: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shares = (logits.sigmoid() * centers.sigmoid()).sqrt().flatten()
        scores, places = shares.topk(min(self.detector.topk_candidates, shares.shape[0]))
        at, classes = places // logits.shape[1], places % logits.shape[1]
        boxes = self.detector.box_coder.decode(shifts[at], anchors[at])
        return clip_boxes_to_image(boxes, (self.side, self.side)), scores, classes


def build(loaded: Loaded) -> onnx.ModelProto:
    """Returns (image (height, width, 3) uint8 RGB) => (boxes (n, 4): left, top, right, bottom in the image's
    pixels, scores (n,), class_index (n,)), the surest first. Raises UserFault (`export_unsupported`)."""
    detector = loaded.module
    if not isinstance(detector, FCOS):
        raise UserFault("export_unsupported", f"Of detectors only FCOS can be exported, not {loaded.architecture}.")
    spec = loaded.preprocessing or Preprocessing()
    side = placement.side_of(spec.size)
    with torch.inference_mode():
        candidates = _Candidates(detector.eval(), side)
    names = ["found_boxes", "found_scores", "found_classes"]
    network = graphs.network(loaded, candidates, {"pixels": torch.zeros(1, 3, side, side)}, names)
    seen = graphs.joined(pictures.fitted(spec, side), network, [*names, "size", "scaled_size"])
    return graphs.joined(seen, _answer(detector, len(loaded.labels)), OUTPUTS)


def _answer(detector: FCOS, classes: int) -> onnx.ModelProto:
    """Suppression class by class, the best of all classes, and the image's own pixels."""
    most = detector.detections_per_img
    return graphs.written(
        "answer",
        "(float[found, 4] found_boxes, float[found] found_scores, int64[found] found_classes, int64[2] size, "
        "int64[2] scaled_size) => (float[n, 4] boxes, float[n] scores, int64[n] class_index)",
        f"""
        first = Constant <value_ints = [0]> ()
        numbers = Constant <value = int64[{classes}, 1] {{{", ".join(map(str, range(classes)))}}}> ()
        is_class = Equal (numbers, found_classes)
        of_class = Cast <to = {onnx.TensorProto.FLOAT}> (is_class)
        own_scores = Mul (of_class, found_scores)
        score_table = Unsqueeze (own_scores, first)
        box_table = Unsqueeze (found_boxes, first)
        most = Constant <value_ints = [{most}]> ()
        overlap = Constant <value = float[1] {{{detector.nms_thresh:.9e}}}> ()
        lowest = Constant <value = float[1] {{{detector.score_thresh:.9e}}}> ()
        kept = NonMaxSuppression (box_table, score_table, most, overlap, lowest)
        column = Constant <value_int = 2> ()
        kept_places = Gather <axis = 1> (kept, column)
        kept_scores = Gather (found_scores, kept_places)
        count = Shape (kept_places)
        limit = Min (count, most)
        scores, order = TopK (kept_scores, limit)
        places = Gather (kept_places, order)
        class_index = Gather (found_classes, places)
        placed = Gather (found_boxes, places)
        exact_size = Cast <to = {onnx.TensorProto.DOUBLE}> (size)
        exact_scaled = Cast <to = {onnx.TensorProto.DOUBLE}> (scaled_size)
        exact_scale = Div (exact_scaled, exact_size)
        scale = Cast <to = {onnx.TensorProto.FLOAT}> (exact_scale)
        limits = Cast <to = {onnx.TensorProto.FLOAT}> (size)
        corners = Constant <value_ints = [1, 0, 1, 0]> ()
        box_scale = Gather (scale, corners)
        box_limits = Gather (limits, corners)
        moved = Div (placed, box_scale)
        zero = Constant <value_float = 0.0> ()
        inside = Max (moved, zero)
        boxes = Min (inside, box_limits)
        """,
    )


def notes(loaded: Loaded) -> dict[str, str]:
    """Returns from which score the release takes a box for found, beside the input's form."""
    return {"input": pictures.INPUT, "confidence": repr(frameworks.confidence(loaded))}


def compare(
    loaded: Loaded,
    session: onnxruntime.InferenceSession,
    pack: PackReader,
    items: Sequence[Item],
    events: EventWriter,
) -> Parity:
    """Compares with what `evaluate` scores. A box that either side takes for found, by the release's confidence,
    agrees where the other side has the same one, at whatever score."""
    confidence = frameworks.confidence(loaded)
    found = Parity("boxes", MIN_BOX_AGREEMENT)
    for part in parity.chunks(items, events):
        wanted = detection.predict(loaded, pack, part, torch.device("cpu"), events, "reference")
        for own, image in zip(wanted, pack.images(part), strict=True):
            boxes, scores, classes = session.run(list(OUTPUTS), {"image": np.asarray(image)})
            theirs = Found(boxes.astype(np.float64), classes, scores.astype(np.float64))
            _tally(found, own, theirs, confidence)
    return found


def _tally(found: Parity, own: Found, theirs: Found, confidence: float) -> None:
    apart = np.abs(own.boxes[:, None] - theirs.boxes[None]).max(axis=2)
    is_near = (iou(own.boxes, theirs.boxes) >= MATCHED_IOU) | (apart <= MATCHED_PIXELS)
    apart = np.where(is_near & (own.labels[:, None] == theirs.labels[None]), apart, np.inf)
    pairs: list[tuple[Any, Any]] = [
        (place, _nearest(apart[place])) for place in np.flatnonzero(own.scores >= confidence)
    ]
    pairs += [(_nearest(apart[:, place]), place) for place in np.flatnonzero(theirs.scores >= confidence)]
    both = [(ours, other) for ours, other in pairs if ours is not None and other is not None]
    found.items += 1
    found.compared += len(pairs)
    found.agreed += len(both)
    ours, others = np.array(both, dtype=np.int64).reshape(-1, 2).T
    found.differs("scores", own.scores[ours], theirs.scores[others])
    found.differs("pixels", own.boxes[ours], theirs.boxes[others])


def _nearest(distances: Floats) -> int | None:
    """Returns the position of the least distance, or None where none is finite."""
    place = int(distances.argmin()) if len(distances) else None
    return place if place is not None and np.isfinite(distances[place]) else None
