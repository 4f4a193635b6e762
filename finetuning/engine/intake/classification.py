"""Uploads of classified images: class folders, images with a table, CIFAR or MNIST as downloaded."""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from finetuning.engine import label_set_health, splits
from finetuning.engine.archives import GZIP_MAGIC, Archive, sort_out_arrays
from finetuning.engine.datasets import Layout, arrange, check_labels, few_per_class
from finetuning.engine.events import EventWriter
from finetuning.engine.gathering import Gathered, Source, gather
from finetuning.engine.health import Survey, report
from finetuning.engine.intake import cifar, idx
from finetuning.engine.intake.arrays import Arrays
from finetuning.engine.intake.packing import recipe_of, survey_of, unreadable, write_packs
from finetuning.engine.packs import Annotation
from finetuning.engine.problems import Rejected, reject
from finetuning.engine.spec import OUTPUTS_DIR, InspectSpec, Split


def inspect(spec: InspectSpec, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Writes the packs and the index; returns the report. Raises Rejected."""
    events.stage("archive", "Checking the archive")
    # Unlinked at once: a killed run leaves nothing behind.
    with (
        _opened(run_dir, spec) as (source, layout),
        tempfile.TemporaryFile(dir=run_dir) as spool,
    ):
        events.stage("images", "Reading the images")
        gathered = Gathered(spool)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd files; what matters is raised
            gather(source, layout, gathered, spec, events)
        _check_faults(gathered, len(layout.samples), spec)
        events.stage("duplicates", "Looking for duplicates and splitting")
        survey = _survey(gathered, layout, spec)
        events.stage("packs", "Writing the packs")
        write_packs(gathered, survey.items, run_dir / OUTPUTS_DIR)
    return label_set_health.report(survey) if layout.is_multi_label else report(survey)


@contextmanager
def _opened(run_dir: Path, spec: InspectSpec) -> Iterator[tuple[Source, Layout]]:
    """Yields what gives the images' bytes, and their layout. Raises Rejected."""
    path = run_dir / spec.archive
    with path.open("rb") as file:
        start = file.read(4)
    if start in idx.MAGIC:
        raise reject("file_type", "This is one IDX file. Put the images and labels of both parts into one zip.")
    if start.startswith(GZIP_MAGIC):
        arrays = cifar.read(path, run_dir)
        yield arrays, _of_arrays(arrays, spec)
        return
    sort = partial(sort_out_arrays, is_array=idx.NAME.fullmatch)
    with Archive(path, spec.limits, sort=sort) as archive:
        if archive.contents.arrays:
            arrays = idx.read(archive)
            yield arrays, _of_arrays(arrays, spec)
        else:
            yield archive, arrange(archive, spec.limits)


def _of_arrays(arrays: Arrays, spec: InspectSpec) -> Layout:
    check_labels((sample.label for sample in arrays.samples), spec.limits, advice="Is the download whole?")
    return Layout(tuple(arrays.samples), arrays.skipped)


def _check_faults(gathered: Gathered, total: int, spec: InspectSpec) -> None:
    """Raises Rejected where more images are bad than may be left out, or too few are left of a class."""
    problems = unreadable(gathered, total, spec)
    left = Counter({label: 0 for sample, _ in gathered.faults for label in sample.classes})
    left.update(label for sample in gathered.samples for label in sample.classes)
    problems.extend(few_per_class(left, spec.limits))
    if problems:
        raise Rejected(*problems)


def _survey(gathered: Gathered, layout: Layout, spec: InspectSpec) -> Survey:
    labels = sorted({label for sample in gathered.samples for label in sample.classes})
    position = {label: at for at, label in enumerate(labels)}
    shown = [sample.classes for sample in gathered.samples]

    def choose(groups: list[str]) -> list[Split]:
        given = [sample.split for sample in gathered.samples]
        return splits.settle(given, groups, shown, recipe_of(spec))

    def labelled(at: int) -> Annotation:
        places = tuple(sorted(position[label] for label in shown[at]))
        return {"labels": places} if layout.is_multi_label else {"label": places[0]}

    return survey_of(gathered, labels, layout.skipped, choose, labelled)
