"""Uploads of images with a class for each pixel: mask files, or outlines in JSON."""

from __future__ import annotations

import hashlib
import io
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from finetuning.engine import images, palettes, splits, workers
from finetuning.engine.archives import Archive
from finetuning.engine.datasets import Layout as ImageLayout
from finetuning.engine.datasets import Sample
from finetuning.engine.events import EventWriter
from finetuning.engine.gathering import Gathered, Prepared, gather
from finetuning.engine.intake import class_lists, coco_outlines, mask_health, mask_pairs, masks
from finetuning.engine.intake.class_lists import ClassList
from finetuning.engine.intake.mask_pairs import Layout
from finetuning.engine.intake.masks import BadMask, Drawing, Mask
from finetuning.engine.intake.packing import recipe_of, survey_of
from finetuning.engine.packs import Annotation, Item, PackWriter, index_lines
from finetuning.engine.problems import Rejected, reject
from finetuning.engine.spec import OUTPUTS_DIR, InspectSpec, Split

_MESSAGES = {
    "bad_mask": "masks cannot be read. Save them again as PNG",
    "mask_size": "masks are not as large as their image. Export them in the image's size",
    "bad_class": f"masks hold ids that are no class. Use ids that the list of classes names; {palettes.IGNORED} is ignored",
    "unknown_color": "masks hold colors that classes.csv does not name. Add the colors, or turn smoothing off",
    "colors_missing": "masks are in colors. Add classes.csv with name,r,g,b, or save them as grey or palette PNG",
    "rotation_unclear": "photos are turned by their EXIF orientation. Save them upright, with masks drawn upright",
}


@dataclass(slots=True)
class GatheredMasks:
    """The masks in the order of the gathered images; their bytes lie in `spool` at `spans`."""

    spool: IO[bytes]
    spans: list[tuple[int, int]] = field(default_factory=list)
    pixels: list[npt.NDArray[np.int64]] = field(default_factory=list)
    modes: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def add(self, mask: Mask) -> None:
        self.spans.append((self.spool.tell(), len(mask.png)))
        self.spool.write(mask.png)
        self.pixels.append(mask.pixels)
        self.modes[mask.mode] += 1

    def classes(self, position: int, place_of: npt.NDArray[np.uint8]) -> palettes.Classes:
        """Returns the mask (H, W) with the position of each class for its id."""
        start, length = self.spans[position]
        self.spool.seek(start)
        with Image.open(io.BytesIO(self.spool.read(length)), formats=("PNG",)) as ids:
            found: palettes.Classes = place_of[np.asarray(ids)]
            return found


def inspect(spec: InspectSpec, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Writes the packs and the index; returns the report. Raises Rejected."""
    events.stage("archive", "Checking the archive")
    with (
        Archive(run_dir / spec.archive, spec.limits) as archive,
        tempfile.TemporaryFile(dir=run_dir) as spool,
        tempfile.TemporaryFile(dir=run_dir) as mask_spool,
    ):
        layout = _arrange(archive, spec)
        events.stage("images", "Reading the images")
        gathered = Gathered(spool)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd files; what matters is raised
            gather(archive, ImageLayout(layout.samples, layout.skipped), gathered, spec, events, max_pixels=0)
            _check_faults(gathered, len(layout.samples), spec)
            events.stage("masks", "Reading the masks")
            found = GatheredMasks(mask_spool)
            _gather_masks(archive, layout, gathered, found, spec, events)
        classes = _classes(layout, gathered, found)
        events.stage("duplicates", "Looking for duplicates and splitting")
        surveyed = _survey(gathered, found, layout, classes, spec)
        events.stage("packs", "Writing the packs")
        hashes = _write(gathered, found, surveyed.survey.items, classes, run_dir / OUTPUTS_DIR)
    return mask_health.report(replace(surveyed, mask_sha256=hashes))


def _arrange(archive: Archive, spec: InspectSpec) -> Layout:
    documents = coco_outlines.documents_in(archive)
    has_masks = mask_pairs.has_pairs(archive.contents.images)
    if documents and not has_masks:
        return coco_outlines.arrange(archive, documents, spec.limits)
    if documents:
        names = [entry.name for entry, _ in documents]
        raise reject("several_annotations", "There are mask files and COCO annotations. Keep one of the two.", names)
    return mask_pairs.arrange(archive, spec.limits)


def _check_faults(gathered: Gathered, total: int, spec: InspectSpec) -> None:
    """Raises Rejected where more images are bad than may be left out."""
    if len(gathered.faults) <= max(1, int(total * spec.limits.max_bad_fraction)) and gathered.samples:
        return
    by_code: dict[str, list[str]] = defaultdict(list)
    for sample, fault in gathered.faults:
        by_code[fault.code].append(f"{sample.entry.name}: {fault.message}")
    message = "{:,} of {:,} images cannot be used. Mend or remove them."
    raise Rejected(
        *(reject(code, message.format(len(names), total), names).problems[0] for code, names in by_code.items())
    )


def _gather_masks(
    archive: Archive, layout: Layout, gathered: Gathered, found: GatheredMasks, spec: InspectSpec, events: EventWriter
) -> None:
    def work(pair: tuple[Sample, Prepared]) -> Mask | BadMask:
        sample, prepared = pair
        source = layout.sources[sample.entry.name]
        try:
            if isinstance(source, Drawing):
                return masks.fitted(masks.drawn(source), prepared, "polygons")
            mask, mode = masks.decoded(archive.read(source), layout.classes, spec.limits)
            return masks.fitted(mask, prepared, mode)
        except BadMask as fault:
            return fault

    total, began = len(gathered.samples), time.monotonic()
    pairs = zip(gathered.samples, gathered.prepared, strict=True)
    for done, ((sample, _), outcome) in enumerate(workers.in_threads(work, pairs), start=1):
        if isinstance(outcome, BadMask):
            found.faults.setdefault(outcome.code, []).append(f"{_source_name(layout, sample)}: {outcome.message}")
        else:
            found.add(outcome)
        if done % 50 == 0 or done == total:
            events.progress("masks", done, total, rate=done / max(time.monotonic() - began, 1e-3))
    _raise_faults(found.faults)


def _source_name(layout: Layout, sample: Sample) -> str:
    source = layout.sources[sample.entry.name]
    return sample.entry.name if isinstance(source, Drawing) else source.name


def _raise_faults(faults: dict[str, list[str]]) -> None:
    if faults:
        raise Rejected(
            *(reject(code, f"{len(items):,} {_MESSAGES[code]}.", items).problems[0] for code, items in faults.items())
        )


def _classes(layout: Layout, gathered: Gathered, found: GatheredMasks) -> ClassList:
    """Returns the classes; of masks that nothing names, those that occur. Raises Rejected (`bad_class`,
    `too_few_classes`)."""
    occur = np.sum(found.pixels, axis=0)
    ids = {int(number) for number in np.flatnonzero(occur) if number != palettes.IGNORED}
    classes = layout.classes or class_lists.unnamed(ids)
    faults = []
    for sample, pixels in zip(gathered.samples, found.pixels, strict=True):
        strange = [int(number) for number in np.flatnonzero(pixels) if number not in {*classes.names, palettes.IGNORED}]
        if strange:
            faults.append(f"{_source_name(layout, sample)}: {', '.join(map(str, strange[:20]))}")
    _raise_faults({"bad_class": faults} if faults else {})
    if len(ids) < 2:
        hint = " Pixels of 255 are ignored: save the foreground as 1." if occur[palettes.IGNORED] else ""
        names = [classes.names[number] for number in ids]
        raise reject("too_few_classes", f"The masks hold fewer than two classes.{hint}", names)
    return classes


def _survey(
    gathered: Gathered, found: GatheredMasks, layout: Layout, classes: ClassList, spec: InspectSpec
) -> mask_health.MaskSurvey:
    table = np.array(found.pixels)
    pixels = table[:, list(classes.names)]
    labels = list(classes.names.values())

    def choose(groups: list[str]) -> list[Split]:
        given = [sample.split for sample in gathered.samples]
        chosen = splits.kept_or_assigned(given, groups, _rarest(pixels), recipe_of(spec))
        _check_trained(pixels, chosen, labels)
        return chosen

    def masked(at: int) -> Annotation:
        return {"mask": f"{at + 1:06d}-mask.png", "labels": tuple(np.flatnonzero(pixels[at]).tolist())}

    survey = survey_of(gathered, labels, layout.skipped, choose, masked)
    return mask_health.MaskSurvey(
        survey=survey,
        pixels=pixels,
        ignored=table[:, palettes.IGNORED],
        mask_sha256=(),
        mask_modes=dict(sorted(found.modes.items())),
        unannotated=layout.unannotated,
    )


def _rarest(pixels: npt.NDArray[np.int64]) -> list[str]:
    """Returns for each item the class, of those in it, that the fewest images show: what to stratify by."""
    occurs = pixels > 0
    images_of = np.where(occurs, occurs.sum(0), len(pixels) + 1)
    return [str(place) for place in images_of.argmin(1).tolist()]


def _check_trained(pixels: npt.NDArray[np.int64], chosen: list[Split], labels: list[str]) -> None:
    """Raises Rejected where a class that occurs has no training image."""
    trained = pixels[[split is Split.TRAIN for split in chosen]].sum(0) > 0
    occurs = pixels.sum(0) > 0
    if missing := [label for label, has, is_there in zip(labels, trained, occurs, strict=True) if is_there and not has]:
        raise reject(
            "class_not_in_train",
            "Some classes have no training images. Put images of each class into the training split.",
            missing,
        )


def _write(
    gathered: Gathered, found: GatheredMasks, items: Sequence[Item], classes: ClassList, outputs: Path
) -> list[str]:
    """Writes the packs; returns the sha256 of each mask's classes."""
    outputs.mkdir(exist_ok=True)
    place_of = np.full(palettes.IGNORED + 1, palettes.IGNORED, np.uint8)
    place_of[list(classes.names)] = np.arange(len(classes.names), dtype=np.uint8)
    place_of[palettes.IGNORED] = palettes.IGNORED
    hashes = [""] * len(items)
    train = [item for item in items if item.split is not Split.TEST]
    test = [item for item in items if item.split is Split.TEST]
    thumbnails = [
        replace(
            item,
            file=mask_health.THUMBNAILS["image"].format(index=item.index),
            mask=mask_health.THUMBNAILS["overlay"].format(index=item.index),
        )
        for item in items
    ]
    overlays: dict[int, bytes] = {}
    for name, chosen in (("train.pack", train), ("test.pack", test)):
        with PackWriter(outputs / name, chosen) as pack:
            for item in chosen:
                mask = found.classes(item.index - 1, place_of)
                hashes[item.index - 1] = hashlib.sha256(mask.tobytes()).hexdigest()
                pack.add(item, gathered.file(item.index - 1), images.encode_png(Image.fromarray(mask)))
                overlays[item.index] = _overlay(gathered.thumbnail(item.index - 1), mask)
    with PackWriter(outputs / "thumbnails.pack", thumbnails) as pack:
        for item in thumbnails:
            pack.add(item, gathered.thumbnail(item.index - 1), overlays[item.index])
    (outputs / "index.jsonl").write_bytes(index_lines(items))
    return hashes


def _overlay(thumbnail: bytes, mask: palettes.Classes) -> bytes:
    """Returns the thumbnail under its classes, a JPEG of the same size."""
    with Image.open(io.BytesIO(thumbnail), formats=("JPEG",)) as image:
        small = np.asarray(Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST))
        return images.encode_thumbnail(palettes.overlay(image.convert("RGB"), small), max(image.size))
