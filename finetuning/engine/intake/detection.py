"""Uploads of images with boxes: COCO, Pascal VOC, YOLO, or Hugging Face's image folder."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from finetuning.engine import splits
from finetuning.engine.archives import DOCUMENTS, Archive
from finetuning.engine.datasets import Layout, Sample
from finetuning.engine.events import EventWriter
from finetuning.engine.gathering import Gathered, Prepared, gather
from finetuning.engine.health import Survey
from finetuning.engine.intake import coco_boxes, detection_report, metadata_boxes, voc, yolo
from finetuning.engine.intake.annotations import Annotations, Box, Faults, split_of
from finetuning.engine.intake.packing import recipe_of, survey_of, unreadable, write_packs
from finetuning.engine.problems import Rejected, is_printable, reject
from finetuning.engine.spec import OUTPUTS_DIR, ArchiveLimits, InspectSpec, Split

OVERHANG = 1.0  # pixels beyond the edge that are rounding: such boxes are cut, not refused
Boxes = tuple[tuple[float, ...], ...]


def inspect(spec: InspectSpec, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Writes the packs and the index; returns the report. Raises Rejected."""
    events.stage("archive", "Checking the archive")
    with (
        Archive(run_dir / spec.archive, spec.limits) as archive,
        tempfile.TemporaryFile(dir=run_dir) as spool,
    ):
        annotations = _read(archive)
        layout = _layout(archive, annotations)
        events.stage("images", "Reading the images")
        gathered = Gathered(spool)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd files; what matters is raised
            gather(archive, layout, gathered, spec, events)
        if problems := unreadable(gathered, len(layout.samples), spec):
            raise Rejected(*problems)
        events.stage("duplicates", "Checking the boxes, looking for duplicates and splitting")
        labels, boxes = _checked(gathered, annotations, spec.limits)
        survey = _survey(gathered, layout, labels, boxes, spec)
        events.stage("packs", "Writing the packs")
        write_packs(gathered, survey.items, run_dir / OUTPUTS_DIR)
    return detection_report.report(survey, annotations)


def _read(archive: Archive) -> Annotations:
    found = [
        annotations
        for read in (coco_boxes.read, voc.read, yolo.read, metadata_boxes.read)
        if (annotations := read(archive)) is not None
    ]
    if not found:
        raise reject(
            "unlabelled",
            "The zip holds no boxes. Add a COCO file (instances.json), Pascal VOC files (Annotations/*.xml), YOLO "
            "files (labels/*.txt with classes.txt) or a metadata.jsonl with objects.",
        )
    if len(found) > 1:
        formats = ", ".join(annotations.format for annotations in found)
        raise reject("several_formats", f"The boxes come in several formats: {formats}. Keep one.", [formats])
    return found[0]


def _layout(archive: Archive, annotations: Annotations) -> Layout:
    """Returns the annotated images in the order of their names. Raises Rejected (`bad_split`)."""
    images = archive.contents.images
    known = sorted((entry for entry in images if entry.name in annotations.boxes), key=lambda entry: entry.parts)
    if left := len(images) - len(known):
        annotations.left_out["unlisted_images"] += left
    given = annotations.splits or {
        entry.name: split for entry in known if (split := split_of(entry.parts[:-1])) is not None
    }
    if len(set(given.values())) < 2:
        given = {}  # all in one split says nothing: we split
    faults = Faults()
    for entry in known if given else ():
        if entry.name not in given:
            faults.add("bad_split", entry.name)
    faults.raise_any()
    skipped = Counter(archive.contents.skipped)
    tables = {entry.name for entry in archive.contents.tables}
    skipped[DOCUMENTS] -= len(annotations.used - tables)
    skipped["tables"] += len(tables - annotations.used)
    samples = tuple(Sample(entry, "", given.get(entry.name)) for entry in known)
    return Layout(samples, {kind: count for kind, count in sorted(skipped.items()) if count > 0})


def _checked(gathered: Gathered, annotations: Annotations, limits: ArchiveLimits) -> tuple[list[str], list[Boxes]]:
    """Returns the classes that occur and the boxes of each image in stored pixels. Up to 1% of boxes may be bad:
    they are left out and counted. Raises Rejected."""
    faults, kept = Faults(), list[list[tuple[str, tuple[float, ...]]]]()
    for sample, prepared in zip(gathered.samples, gathered.prepared, strict=True):
        name = sample.entry.name
        if annotations.sizes.get(name, prepared.uploaded_size) != prepared.uploaded_size:
            width, height = annotations.sizes[name]
            faults.add("size_mismatch", f"{name}: {width} x {height}, but is {prepared.uploaded_size}")
        rows = [(box.label, _edges(box, prepared, faults, annotations)) for box in annotations.boxes[name]]
        unique = dict.fromkeys((label, edges) for label, edges in rows if edges is not None)
        annotations.left_out["repeated_boxes"] += sum(edges is not None for _, edges in rows) - len(unique)
        kept.append(list(unique))
    total = sum(map(len, annotations.boxes.values()))
    bad = faults.counts["bad_box"]
    if faults.counts.total() > bad or bad > int(total * limits.max_bad_fraction):
        faults.raise_any()
    if bad:
        annotations.left_out["bad_boxes"] += bad
    labels = sorted({label for rows in kept for label, _ in rows})
    _check_labels(labels, kept, limits)
    position = {label: at for at, label in enumerate(labels)}
    return labels, [tuple((float(position[label]), *edges) for label, edges in rows) for rows in kept]


def _edges(box: Box, prepared: Prepared, faults: Faults, annotations: Annotations) -> tuple[float, ...] | None:
    """Returns the box in pixels of the stored image, or None for a bad one."""
    width, height = prepared.uploaded_size
    scale = (width, height, width, height) if box.is_relative else (1, 1, 1, 1)
    left, top, right, bottom = (edge * side for edge, side in zip(box.edges, scale, strict=True))
    if not all(map(math.isfinite, (left, top, right, bottom))):
        faults.add("bad_box", f"{box.place}: not a number")
        return None
    if right <= left or bottom <= top:
        faults.add("bad_box", f"{box.place}: no area")
        return None
    if min(left, top) < -OVERHANG or right > width + OVERHANG or bottom > height + OVERHANG:
        faults.add("bad_box", f"{box.place}: outside of {width} x {height} pixels")
        return None
    cut = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if cut[2] <= cut[0] or cut[3] <= cut[1]:
        faults.add("bad_box", f"{box.place}: outside of {width} x {height} pixels")
        return None
    if cut != (left, top, right, bottom):
        annotations.left_out["cut_edges"] += 1
    across, down = prepared.width / width, prepared.height / height
    return tuple(round(edge * by, 3) for edge, by in zip(cut, (across, down, across, down), strict=True))


def _check_labels(labels: list[str], kept: list[list[tuple[str, tuple[float, ...]]]], limits: ArchiveLimits) -> None:
    """Raises Rejected: `unlabelled`, `bad_label`, `label_too_long`, `too_few_per_class`."""
    if not labels:
        raise reject("unlabelled", "No image has a box. Annotate at least some of them.")
    if bad := [label for label in labels if not label or not is_printable(label)]:
        raise reject("bad_label", "Class names must not be empty or hold invisible characters.", bad)
    if long := [label for label in labels if len(label) > limits.max_label_characters]:
        raise reject("label_too_long", f"Some class names are over {limits.max_label_characters} characters.", long)
    counts = Counter(label for rows in kept for label in {label for label, _ in rows})
    if few := [f"{label}: {counts[label]}" for label in labels if counts[label] < limits.min_images_per_class]:
        message = f"Every class needs boxes in at least {limits.min_images_per_class} images; 50 or more are better."
        raise reject("too_few_per_class", message, few)


def _survey(gathered: Gathered, layout: Layout, labels: list[str], boxes: list[Boxes], spec: InspectSpec) -> Survey:
    def choose(groups: list[str]) -> list[Split]:
        shown = [{labels[int(box[0])] for box in rows} for rows in boxes]
        given = [sample.split for sample in gathered.samples]
        return splits.kept_or_assigned(given, groups, splits.rarest(shown), recipe_of(spec))

    return survey_of(gathered, labels, layout.skipped, choose, lambda at: {"boxes": boxes[at]})
