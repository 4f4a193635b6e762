"""Uploads of labelled texts: one CSV, TSV or JSON Lines file, as it is or in a zip, or one for each split."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from finetuning.engine import near_texts, splits
from finetuning.engine.archives import ARCHIVE_MAGIC, Archive, sort_out_texts
from finetuning.engine.datasets import check_labels
from finetuning.engine.duplicates import connected, exact_groups
from finetuning.engine.events import EventWriter
from finetuning.engine.packs import Item, PackWriter, index_lines
from finetuning.engine.problems import Problem, Rejected, reject
from finetuning.engine.spec import OUTPUTS_DIR, ArchiveLimits, InspectSpec, Split
from finetuning.engine.tables import LABEL_SET_FAULTS, SPLIT_OF_WORD
from finetuning.engine.text_health import TextSurvey, report
from finetuning.engine.text_tables import COLUMN_ADVICE, TextRow, TextTable, read_texts

_ZIP = ARCHIVE_MAGIC[:2]
# Rows with these faults may be left out, where they are few; any other fault must be mended.
_LEFT_OUT = {
    "empty_text": "rows have no text. Fill them in or remove them",
    "text_too_long": "texts are over {limits.max_text_characters:,} characters long. Split them",
}
_FAULTS = {
    "bad_json": "lines are not a JSON object each. Write one object a line",
    "duplicate_key": "lines name a key twice. Keep one of the two",
    "bad_text": "lines hold something else than text and a label. Give each a plain text and a plain label",
    "bad_row": "rows have another number of cells than the header. Put texts with commas into quotation marks",
    **LABEL_SET_FAULTS,
    "missing_columns": f"lines have no text or no label. {COLUMN_ADVICE}",
    "unlabelled": "rows have no label. Fill them in or remove them",
    "bad_split": "rows have no valid split: use train, validation and test in every row, or in none",
}


@dataclass(slots=True)
class Texts:
    """The upload's rows, each with its place (`line 3`, or `train.csv line 3`) and the split it names."""

    rows: list[TextRow] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    given: list[Split | None] = field(default_factory=list)
    faults: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    ignored: dict[str, None] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    read: int = 0

    @property
    def is_multi_label(self) -> bool:
        return any(row.labels is not None for row in self.rows)

    def add(self, table: TextTable, limits: ArchiveLimits, *, prefix: str = "", split: Split | None = None) -> None:
        """Keeps a table's usable rows and its faults; `split` is that of a file named after one."""
        self.ignored.update(dict.fromkeys(table.ignored))
        self.read += len(table.rows) + sum(len(faults) for faults in table.faults.values())
        for code, faults in table.faults.items():
            self.faults[code] += [(f"{prefix}line {line}", what) for line, what in faults]
        for row in table.rows:
            place = f"{prefix}line {row.line}"
            if code := _fault(row, limits):
                self.faults[code].append((place, row.split if code == "bad_split" else row.text[:80]))
                continue
            self.rows.append(row)
            self.places.append(place)
            self.given.append(split or SPLIT_OF_WORD.get(row.split.casefold()))


def inspect(spec: InspectSpec, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Writes the packs and the index; returns the report. Raises Rejected."""
    events.stage("read", "Reading the texts")
    texts = _read(run_dir / spec.archive, spec.limits)
    _check(texts, spec.limits)
    events.stage("duplicates", "Looking for duplicates and splitting")
    survey = _survey(texts, spec)
    events.stage("packs", "Writing the packs")
    _write(survey.items, run_dir / OUTPUTS_DIR)
    return report(survey)


def _read(path: Path, limits: ArchiveLimits) -> Texts:
    texts = Texts()
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(_ZIP):
        inside = replace(limits, max_file_bytes=limits.max_table_bytes)
        with Archive(path, inside, sort=sort_out_texts) as archive:
            tables = archive.contents.tables
            texts.skipped = archive.contents.skipped
            words = {entry: entry.parts[-1].rpartition(".")[0].casefold() for entry in tables}
            several = len(tables) > 1
            if several and not set(words.values()) <= set(SPLIT_OF_WORD):
                message = "There are several tables. Keep one, or name them train, validation and test."
                raise reject("several_tables", message, [entry.name for entry in tables])
            for entry in tables:
                table = read_texts(archive.read(entry), entry.name, limits)
                prefix, split = (f"{entry.name} ", SPLIT_OF_WORD[words[entry]]) if several else ("", None)
                texts.add(table, limits, prefix=prefix, split=split)
        return texts
    if start.startswith(ARCHIVE_MAGIC):
        raise reject("file_type", "This kind of archive is not read. Upload the table itself, or a zip of it.")
    if path.stat().st_size > limits.max_table_bytes:
        raise reject("file_too_large", f"The table is over {limits.max_table_bytes >> 20} MiB. Upload fewer texts.")
    texts.add(read_texts(path.read_bytes(), "the file", limits), limits)
    return texts


def _fault(row: TextRow, limits: ArchiveLimits) -> str:
    """Returns the code of what is wrong with a row, or an empty string."""
    if not row.text:
        return "empty_text"
    if len(row.text) > limits.max_text_characters:
        return "text_too_long"
    if row.labels is None and not row.label:
        return "unlabelled"
    return "bad_split" if row.split and row.split.casefold() not in SPLIT_OF_WORD else ""


def _check(texts: Texts, limits: ArchiveLimits) -> None:
    """Raises Rejected with every kind of fault that must be mended before the upload can be used."""
    blank = [place for place, split in zip(texts.places, texts.given, strict=True) if split is None]
    if blank and len(blank) < len(texts.rows):
        texts.faults["bad_split"] += [(place, "no split") for place in blank]
    if texts.is_multi_label:
        placed = zip(texts.places, texts.rows, strict=True)
        single = [(place, f"{row.label!r} is no list") for place, row in placed if row.labels is None]
        texts.faults["bad_labels"] += single
    left_out = sum(len(texts.faults.get(code, ())) for code in _LEFT_OUT)
    grave = dict(_FAULTS)
    if left_out > max(1, int(texts.read * limits.max_bad_fraction)):
        grave.update(_LEFT_OUT)
    problems: list[Problem] = []
    for code, message in grave.items():
        if faults := texts.faults.get(code):
            said = f"{len(faults):,} {message.format(limits=limits)}."
            problems += reject(code, said, [f"{place}: {what}" for place, what in faults]).problems
    if problems:
        raise Rejected(*problems)
    if not texts.rows:
        raise reject("empty_file", f"There are no rows. {COLUMN_ADVICE}")
    found = (label for row in texts.rows for label in row.classes)
    check_labels(found, limits, noun="texts", advice="Check the label column.", multi_label=texts.is_multi_label)


def _survey(texts: Texts, spec: InspectSpec) -> TextSurvey:
    identities = [near_texts.identity(row.text) for row in texts.rows]
    exact = exact_groups(identities)
    conflicts = _conflicts(texts, exact, spec.limits)
    near = _near(texts.rows, identities)
    groups = splits.group_ids(identities, [*near, *_same_group(texts.rows)])
    shown = [row.classes for row in texts.rows]
    given = texts.given if len(set(texts.given)) > 1 else [None] * len(shown)  # one split for all says nothing
    recipe = splits.Recipe(salt=spec.salt, test=spec.test_fraction, validation=spec.validation_fraction)
    chosen = splits.settle(given, groups, shown, recipe)
    names = sorted({label for own in shown for label in own})
    return TextSurvey(
        items=_items(texts, names, groups, identities, chosen),
        labels=names,
        read=texts.read,
        left_out=[
            {"name": place, "code": code, "message": _LEFT_OUT[code].format(limits=spec.limits).partition(".")[0]}
            for code in _LEFT_OUT
            for place, _ in texts.faults.get(code, ())
        ],
        skipped=texts.skipped,
        ignored=list(texts.ignored),
        exact=exact,
        near=connected(len(identities), near),
        conflicts=conflicts,
        split_source="uploaded" if given[0] else "ours",
        is_multi_label=texts.is_multi_label,
    )


def _conflicts(texts: Texts, exact: list[list[int]], limits: ArchiveLimits) -> list[list[int]]:
    """Returns the groups of equal texts under different labels. Rejects (`label_conflict`) more than may be."""
    conflicts = [group for group in exact if len({texts.rows[at].classes for at in group}) > 1]
    count = sum(len(group) for group in conflicts)
    if count > limits.max_conflict_fraction * len(texts.rows):
        raise reject(
            "label_conflict",
            f"{count:,} of {len(texts.rows):,} rows repeat a text under another label. Decide which label is right.",
            [
                ", ".join(f"{texts.places[at]}: {';'.join(texts.rows[at].classes)}" for at in group[:4])
                for group in conflicts
            ],
        )
    return conflicts


def _near(rows: Sequence[TextRow], identities: Sequence[str]) -> list[tuple[int, int]]:
    """Returns near pairs among the first of each set of equal texts."""
    first: dict[str, int] = {}
    for at, identity in enumerate(identities):
        first.setdefault(identity, at)
    positions = list(first.values())
    pairs = near_texts.near_pairs([near_texts.normalized(rows[at].text) for at in positions])
    return [(positions[one], positions[other]) for one, other in pairs]


def _same_group(rows: Sequence[TextRow]) -> list[tuple[int, int]]:
    """Returns pairs that link the rows of each group that the upload names."""
    first: dict[str, int] = {}
    return [(first.setdefault(row.group, at), at) for at, row in enumerate(rows) if row.group]


def _items(texts: Texts, names: list[str], groups: list[str], identities: list[str], chosen: list[Split]) -> list[Item]:
    label_at = {name: at for at, name in enumerate(names)}
    sizes = Counter(groups)
    return [
        Item(
            index=at + 1,
            file="",
            name=texts.places[at],
            label=label_at[row.label] if row.labels is None else -1,
            labels=tuple(label_at[label] for label in row.labels or ()),
            split=chosen[at],
            width=0,
            height=0,
            sha256=hashlib.sha256(row.text.encode()).hexdigest(),
            pixel_sha256=identities[at],
            phash="",
            group=groups[at] if sizes[groups[at]] > 1 else "",
            text=row.text,
        )
        for at, row in enumerate(texts.rows)
    ]


def _write(items: Sequence[Item], outputs: Path) -> None:
    """Writes packs that hold an index and no files: a text stands in its item."""
    outputs.mkdir(exist_ok=True)
    train = [item for item in items if item.split is not Split.TEST]
    test = [item for item in items if item.split is Split.TEST]
    for name, chosen in (("train.pack", train), ("test.pack", test), ("thumbnails.pack", [])):
        PackWriter(outputs / name, chosen).close()
    (outputs / "index.jsonl").write_bytes(index_lines(items))
