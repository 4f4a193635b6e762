"""Finds each image's label and split in the layout that the uploader chose: folders, or a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from unicodedata import normalize

from finetuning.engine.archives import METADATA_NAME, Archive, is_metadata
from finetuning.engine.problems import Problem, Rejected, is_printable, reject
from finetuning.engine.spec import ArchiveLimits, Split
from finetuning.engine.tables import LABEL_SET_FAULTS, SPLIT_OF_WORD, Row, read_metadata, read_table
from finetuning.engine.zip_directory import Entry

MAX_LABELS = 512  # classes of a multi-label upload: each is a judge of its own, with an interval of its own
_LAYOUT_ADVICE = (
    "Put the images of each class into a folder named after it (cats/1.jpg, dogs/1.jpg), or add one CSV "
    "with the columns file and label."
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One image file, its label, and the split that the upload gives it. `labels` are the classes that an image of
    a multi-label upload shows, in the order of their names; None in others."""

    entry: Entry
    label: str
    split: Split | None
    labels: tuple[str, ...] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return (self.label,) if self.labels is None else self.labels


@dataclass(frozen=True, slots=True)
class Layout:
    """`skipped` counts files that the layout has no use for."""

    samples: tuple[Sample, ...]
    skipped: dict[str, int]
    is_multi_label: bool = False


def arrange(archive: Archive, limits: ArchiveLimits) -> Layout:
    """Returns the samples in the order of their names. Raises Rejected."""
    contents = archive.contents
    depth = wrapper_depth(contents.images, contents.tables)
    samples, unused = _from_tables(archive, depth, limits)
    if samples is None:
        samples = _from_folders(contents.images, depth)
    samples.sort(key=lambda sample: sample.entry.parts)
    is_multi_label = any(sample.labels is not None for sample in samples)
    check_labels((label for sample in samples for label in sample.classes), limits, multi_label=is_multi_label)
    skipped = Counter(contents.skipped)
    if unused:
        skipped["tables"] += unused
    return Layout(tuple(samples), dict(sorted(skipped.items())), is_multi_label)


def wrapper_depth(images: tuple[Entry, ...], tables: tuple[Entry, ...]) -> int:
    """Returns how many folders wrap the whole data set: `data/cats/1.jpg` has one, `cats/1.jpg` none."""
    depth = 0
    while True:
        tops = {entry.parts[depth] for entry in (*images, *tables)}
        if len(tops) != 1 or any(len(entry.parts) <= depth + 1 for entry in (*images, *tables)):
            return depth
        has_folders = any(len(entry.parts) > depth + 2 for entry in images)
        has_table = any(len(entry.parts) == depth + 2 for entry in tables)
        if not has_folders and not has_table:
            return depth
        depth += 1


def _from_folders(images: tuple[Entry, ...], depth: int) -> list[Sample]:
    tops = {entry.parts[depth].casefold() for entry in images if len(entry.parts) > depth + 1}
    has_splits = bool(tops) and tops <= set(SPLIT_OF_WORD) and len({SPLIT_OF_WORD[top] for top in tops}) > 1
    label_at = depth + 1 if has_splits else depth
    loose = [entry.name for entry in images if len(entry.parts) <= label_at + 1]
    if loose:
        raise reject(
            "unlabelled",
            f"Images that lie in no class folder: {len(loose):,}. {_LAYOUT_ADVICE}",
            loose,
        )
    return [
        Sample(
            entry,
            entry.parts[label_at].strip(),
            SPLIT_OF_WORD[entry.parts[depth].casefold()] if has_splits else None,
        )
        for entry in images
    ]


def _from_tables(archive: Archive, depth: int, limits: ArchiveLimits) -> tuple[list[Sample] | None, int]:
    """Returns the samples that the one table with labels names, or None without one, and the number of tables
    that are of no use. Image folders have one `metadata.jsonl`, or one in each split's folder."""
    read: dict[str, list[Row]] = {}
    for entry in archive.contents.tables:
        if is_metadata(entry):
            rows = _with_folder(entry, depth, read_metadata(archive.read(entry), entry.name, max_rows=_most(limits)))
        elif len(entry.parts) == depth + 1:
            rows = read_table(archive.read(entry), entry.name, max_rows=_most(limits))
        else:
            rows = None
        if rows is not None:
            read[entry.name] = rows
    if len(read) > 1 and not all(name.casefold().endswith(f"/{METADATA_NAME}") for name in read):
        raise reject(
            "several_tables",
            "More than one table gives labels. Keep one, with a column split if needed.",
            read,
        )
    unused = len(archive.contents.tables) - len(read)
    if not read:
        return None, unused
    return _match(read, archive.contents.images, depth), unused


def _most(limits: ArchiveLimits) -> int:
    return 2 * limits.max_files


def _with_folder(entry: Entry, depth: int, rows: list[Row] | None) -> list[Row] | None:
    """Returns the rows with file names from the top: metadata names files from its own folder, and a folder
    called after a split says the split."""
    prefix = "".join(f"{folder}/" for folder in entry.parts[depth:-1])
    found = []
    for row in rows or ():
        file = f"{prefix}{row.file}" if row.file else ""
        folders = file.replace("\\", "/").split("/")[:-1]
        split = next((folder for folder in folders if folder.casefold() in SPLIT_OF_WORD), "")
        found.append(replace(row, file=file, split=row.split or split))
    return None if rows is None else found


def _match(tables: dict[str, list[Row]], images: tuple[Entry, ...], depth: int) -> list[Sample]:
    found = Names(images, depth)
    given: dict[str, Sample] = {}
    faults: dict[str, list[str]] = {}
    rows = [(f"{name} " if len(tables) > 1 else "", row) for name, own in tables.items() for row in own]
    for table, row in rows:
        entry = found.find(row.file)
        split = SPLIT_OF_WORD.get(row.split.casefold()) if row.split else None
        if entry is None:
            faults.setdefault("missing_image", []).append(f"{table}line {row.line}: {row.file}")
        elif row.fault is not None:
            faults.setdefault(row.fault[0], []).append(f"{table}line {row.line}: {row.fault[1]}")
        elif row.labels is None and not row.label:
            faults.setdefault("unlabelled", []).append(f"{table}line {row.line}: {row.file}")
        elif row.split and split is None:
            faults.setdefault("bad_split", []).append(f"{table}line {row.line}: {row.split}")
        else:
            sample = _sample(entry, row, split)
            if given.setdefault(entry.name, sample) != sample:
                faults.setdefault("label_conflict", []).append(f"{table}line {row.line}: {row.file}")
    if rows and not faults:
        faults = _incomplete(given, images)
    if faults or not rows:
        raise Rejected(*_table_problems(faults, tables))
    return _without_single_split(list(given.values()))


def _sample(entry: Entry, row: Row, split: Split | None) -> Sample:
    if row.labels is None:
        return Sample(entry, normalize("NFC", row.label), split)
    return Sample(entry, "", split, row.labels)


def _incomplete(given: dict[str, Sample], images: tuple[Entry, ...]) -> dict[str, list[str]]:
    """Returns the faults that only the table as a whole can have."""
    faults: dict[str, list[str]] = {}
    if unnamed := [entry.name for entry in images if entry.name not in given]:
        faults["unlabelled"] = unnamed
    blank = [name for name, sample in given.items() if sample.split is None]
    if blank and len(blank) < len(given):
        faults["bad_split"] = blank
    return faults


def _without_single_split(samples: list[Sample]) -> list[Sample]:
    """A table that puts everything into one split says nothing: we split."""
    if len({sample.split for sample in samples}) > 1:
        return samples
    return [replace(sample, split=None) for sample in samples]


def _table_problems(faults: dict[str, list[str]], tables: Iterable[str]) -> list[Problem]:
    messages = {
        "missing_image": "rows name an image that is not in the zip. Add the images or remove the rows",
        "unlabelled": "images have no label in the table. Add them to the table, or take them out of the zip",
        "bad_split": "rows have no valid split: use train, validation and test in every row, or in none",
        "label_conflict": "rows repeat an image with another label or split. Keep one row for each image",
        **LABEL_SET_FAULTS,
    }
    if not faults:
        return [
            Problem(
                "unlabelled",
                "The table has no rows. Add one row for each image.",
                tuple(tables),
            )
        ]
    return [reject(code, f"{len(items):,} {messages[code]}.", items).problems[0] for code, items in faults.items()]


class Names:
    """Images by what a table may call them: the path, its tail, or the bare name, each only where unique."""

    def __init__(self, images: tuple[Entry, ...], depth: int) -> None:
        self._paths = {_key("/".join(entry.parts[depth:])): entry for entry in images}
        self._paths.update({_key("/".join(entry.parts)): entry for entry in images})
        self._names: dict[str, Entry | None] = {}
        for entry in images:
            name = entry.parts[-1]
            for key in {_key(name), _key(name.rpartition(".")[0])}:
                self._names[key] = None if key in self._names else entry

    def find(self, file: str) -> Entry | None:
        key = _key(file.replace("\\", "/"))
        return self._paths.get(key) or (self._names.get(key) if "/" not in key else None)


def _key(path: str) -> str:
    return normalize("NFC", "/".join(part for part in path.split("/") if part not in {"", "."})).casefold()


def check_labels(
    found: Iterable[str],
    limits: ArchiveLimits,
    *,
    noun: str = "images",
    advice: str = _LAYOUT_ADVICE,
    multi_label: bool = False,
) -> None:
    """Raises Rejected with every label that cannot be a class: `label_too_long`, `bad_label`,
    `too_few_classes`, `too_few_per_class`, `too_many_classes` (multi-label). `found` has the labels of all items, `noun`
    names the items."""
    counts = Counter(found)
    problems = [
        *_label_problem(
            "label_too_long",
            f"Some class names are over {limits.max_label_characters} characters long. Shorten them.",
            [label for label in counts if len(label) > limits.max_label_characters],
        ),
        *_label_problem(
            "bad_label",
            "Class names must not be empty, begin with a dot or a slash, or hold invisible characters.",
            [label for label in counts if not is_label(label)],
        ),
    ]
    if not counts:
        raise reject("unlabelled", f"No label is given. {advice}")
    if len(counts) == 1:
        only = next(iter(counts))
        message = f"There is only one class. A classifier needs at least two. {advice}"
        problems.extend(_label_problem("too_few_classes", message, [only]))
    problems.extend(few_per_class(counts, limits, noun=noun))
    if multi_label and len(counts) > MAX_LABELS:
        message = f"There are {len(counts):,} labels; {MAX_LABELS} is the limit. Leave out the rare ones."
        problems.extend(_label_problem("too_many_classes", message, sorted(counts)))
    if problems:
        raise Rejected(*problems)


def few_per_class(counts: Counter[str], limits: ArchiveLimits, *, noun: str = "images") -> list[Problem]:
    """Returns the problem of classes with too few items, or nothing."""
    few = [f"{label}: {n}" for label, n in sorted(counts.items()) if n < limits.min_images_per_class]
    message = (
        f"Every class needs at least {limits.min_images_per_class} readable {noun}; 50 or more are better. "
        f"Add {noun} to these classes or leave the classes out."
    )
    return _label_problem("too_few_per_class", message, few)


def _label_problem(code: str, message: str, labels: list[str]) -> list[Problem]:
    return list(reject(code, message, labels).problems) if labels else []


def is_label(label: str) -> bool:
    return bool(label) and not label.startswith((".", "/", "\\")) and is_printable(label)
