"""Uploads of images and mask files: which mask belongs to which image."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from unicodedata import normalize

from finetuning.engine.archives import DOCUMENTS, Archive
from finetuning.engine.datasets import Sample
from finetuning.engine.intake import class_lists
from finetuning.engine.intake.class_lists import ClassList
from finetuning.engine.intake.masks import Drawing
from finetuning.engine.problems import Problem, Rejected, reject
from finetuning.engine.spec import ArchiveLimits, Split
from finetuning.engine.tables import SPLIT_OF_WORD
from finetuning.engine.zip_directory import Entry

_IMAGE_FOLDERS = frozenset({"images", "image", "imgs", "jpegimages"})
_MASK_FOLDERS = frozenset({"masks", "mask", "annotations", "labels", "segmentationclass"})
ADVICE = (
    "Put the images into a folder images and their masks under the same names into a folder masks "
    "(images/1.jpg, masks/1.png), or add COCO annotations as JSON."
)


@dataclass(frozen=True, slots=True)
class Layout:
    """`sources` gives by an image's name what its mask is made of: a file, or outlines. `classes` is None where
    nothing names them. `unannotated` counts images that are all background."""

    samples: tuple[Sample, ...]
    sources: dict[str, Entry | Drawing]
    classes: ClassList | None
    skipped: dict[str, int]
    unannotated: int = 0


def arrange(archive: Archive, limits: ArchiveLimits) -> Layout:
    """Returns the pairs in the order of the images' names. Raises Rejected."""
    contents = archive.contents
    pictures, found, unplaced = _by_kind(contents.images)
    problems = [
        *_problem("unplaced", f"{{n:,}} images lie neither in images/ nor in masks/. {ADVICE}", unplaced),
        *_problem(
            "mask_format",
            "{n:,} masks are not PNG files. Save them as PNG: other formats blur the classes.",
            [entry.name for entry in found.values() if entry.suffix != ".png"],
        ),
        *_problem(
            "missing_mask",
            "{n:,} images have no mask of the same name. Add the masks or remove the images.",
            [entry.name for key, entry in pictures.items() if key not in found],
        ),
        *_problem(
            "missing_image",
            "{n:,} masks have no image of the same name. Add the images or remove the masks.",
            [entry.name for key, entry in found.items() if key not in pictures],
        ),
    ]
    if problems:
        raise Rejected(*problems)
    named, skipped = _class_list(archive, limits)
    samples = [Sample(entry, "", _split(key)) for key, entry in pictures.items()]
    return Layout(
        samples=tuple(_split_or_none(sorted(samples, key=lambda sample: sample.entry.parts))),
        sources={entry.name: found[key] for key, entry in pictures.items()},
        classes=named,
        skipped=skipped,
    )


def has_pairs(images: tuple[Entry, ...]) -> bool:
    return any(_kind(entry)[0] in _MASK_FOLDERS for entry in images)


Key = tuple[str, ...]


def _by_kind(images: tuple[Entry, ...]) -> tuple[dict[Key, Entry], dict[Key, Entry], list[str]]:
    """Returns images and masks by what pairs them: the folders but for `images` or `masks`, and the stem."""
    pictures: dict[Key, Entry] = {}
    found: dict[Key, Entry] = {}
    unplaced, twice = [], []
    for entry in images:
        kind, key = _kind(entry)
        table = pictures if kind in _IMAGE_FOLDERS else found
        if not kind:
            unplaced.append(entry.name)
            continue
        if key in table:
            twice += [table[key].name, entry.name]
        table.setdefault(key, entry)
    if twice:
        raise reject("duplicate_name", "Some files differ only in their ending. Keep one of each.", twice)
    return pictures, found, unplaced


def _kind(entry: Entry) -> tuple[str, Key]:
    folders = [part.casefold() for part in entry.parts[:-1]]
    stem = normalize("NFC", entry.parts[-1].rpartition(".")[0])
    at = next((at for at, name in enumerate(folders) if name in _IMAGE_FOLDERS | _MASK_FOLDERS), None)
    if at is None:
        return "", (*folders, stem)
    return folders[at], (*folders[:at], *folders[at + 1 :], stem)


def _split(key: Key) -> Split | None:
    return next((SPLIT_OF_WORD[part] for part in key[:-1] if part in SPLIT_OF_WORD), None)


def _split_or_none(samples: list[Sample]) -> list[Sample]:
    """Folders that put everything into one split say nothing: we split. Raises Rejected (`bad_split`)."""
    given = {sample.split for sample in samples}
    if None in given and len(given) > 1:
        outside = [sample.entry.name for sample in samples if sample.split is None]
        raise reject("bad_split", "Some images lie outside of the folders train, val and test.", outside)
    return samples if len(given) > 1 else [Sample(sample.entry, sample.label, None) for sample in samples]


def _class_list(archive: Archive, limits: ArchiveLimits) -> tuple[ClassList | None, dict[str, int]]:
    """Returns the classes that the archive's list names, and what is left out of it."""
    contents = archive.contents
    files = [
        entry
        for entry in (*contents.documents, *contents.tables)
        if entry.parts[-1].casefold() in class_lists.FILE_NAMES
    ]
    if len(files) > 1:
        raise reject("bad_classes", "There is more than one list of classes. Keep one.", [one.name for one in files])
    skipped = Counter(contents.skipped)
    skipped["tables"] += len(contents.tables)
    for entry in files:
        skipped["tables" if entry in contents.tables else DOCUMENTS] -= 1
    left = {kind: count for kind, count in sorted(skipped.items()) if count}
    return (class_lists.read(archive.read(files[0]), files[0].name, limits) if files else None), left


def _problem(code: str, message: str, names: list[str]) -> list[Problem]:
    return list(reject(code, message.format(n=len(names)), names).problems) if names else []
