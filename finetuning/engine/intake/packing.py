"""What every task makes of gathered images: the faults told, near-duplicates found, the packs written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from finetuning.engine import splits, workers
from finetuning.engine.duplicates import connected, exact_groups, near_pairs
from finetuning.engine.gathering import Gathered
from finetuning.engine.health import Survey
from finetuning.engine.packs import Annotation, Item, PackWriter, index_lines
from finetuning.engine.problems import Problem, printable, reject
from finetuning.engine.spec import InspectSpec, Split


def unreadable(gathered: Gathered, total: int, spec: InspectSpec) -> list[Problem]:
    """Returns the problems where more images are bad than may be left out."""
    problems: list[Problem] = []
    if len(gathered.faults) > max(1, int(total * spec.limits.max_bad_fraction)):
        by_code: dict[str, list[str]] = {}
        for sample, fault in gathered.faults:
            by_code.setdefault(fault.code, []).append(f"{sample.entry.name}: {fault.message}")
        for code, names in by_code.items():
            message = f"Images that cannot be used: {len(names):,} of {total:,}. Mend or remove them."
            problems.extend(reject(code, message, names).problems)
    return problems


def corrupt(gathered: Gathered) -> list[dict[str, str]]:
    """Returns the images that were left out, for the report."""
    return [
        {"name": printable(sample.entry.name), "code": fault.code, "message": fault.message}
        for sample, fault in gathered.faults
    ]


def near_of(gathered: Gathered, identities: list[str]) -> list[tuple[int, int]]:
    """Returns near pairs among the first of each set of equal images."""
    first = {identity: at for at, identity in reversed(list(enumerate(identities)))}
    positions = sorted(first.values())
    hashes, views = gathered.hashes, gathered.views()
    alike = len(positions) < len(identities)
    pairs = near_pairs(*((hashes[positions], views[positions]) if alike else (hashes, views)))
    return [(positions[one], positions[other]) for one, other in pairs]


def recipe_of(spec: InspectSpec) -> splits.Recipe:
    return splits.Recipe(salt=spec.salt, test=spec.test_fraction, validation=spec.validation_fraction)


def survey_of(
    gathered: Gathered,
    labels: Sequence[str],
    skipped: dict[str, int],
    choose: Callable[[list[str]], list[Split]],
    annotate: Callable[[int], Annotation],
) -> Survey:
    """Returns what the gathered images are: copies found and grouped, split by `choose` (from the groups of all
    images to their splits), annotated by `annotate` (from a position)."""
    identities = [prepared.pixel_sha256 for prepared in gathered.prepared]
    near = near_of(gathered, identities)
    groups = splits.group_ids(identities, near)
    return Survey(
        items=_items(gathered, choose(groups), groups, annotate),
        labels=labels,
        sizes=[prepared.uploaded_size for prepared in gathered.prepared],
        modes=Counter(prepared.mode for prepared in gathered.prepared),
        notes=Counter(note for prepared in gathered.prepared for note in prepared.notes),
        skipped=skipped,
        corrupt=corrupt(gathered),
        exact=exact_groups(identities),
        near=connected(len(identities), near),
        split_source="uploaded" if gathered.samples[0].split else "ours",
    )


def _items(
    gathered: Gathered, chosen: list[Split], groups: list[str], annotate: Callable[[int], Annotation]
) -> list[Item]:
    """Returns the items; images that show the same have one group."""
    return [
        Item(
            index=index,
            file=f"{index:06d}{prepared.suffix}",
            name=sample.entry.name,
            split=split,
            width=prepared.width,
            height=prepared.height,
            sha256=prepared.sha256,
            pixel_sha256=prepared.pixel_sha256,
            phash=f"{phash:016x}",
            group=group,
            orientation=prepared.stored_orientation,
            **annotate(index - 1),
        )
        for index, (sample, prepared, split, group, phash) in enumerate(
            zip(gathered.samples, gathered.prepared, chosen, groups, gathered.hashes.tolist(), strict=True), start=1
        )
    ]


def write_packs(gathered: Gathered, items: Sequence[Item], outputs: Path) -> None:
    """Writes train.pack (with the validation items), test.pack, thumbnails.pack and index.jsonl, several at once."""
    outputs.mkdir(exist_ok=True)
    train = [item for item in items if item.split is not Split.TEST]
    test = [item for item in items if item.split is Split.TEST]
    names = [f"{item.index:06d}.jpg" for item in items]
    thumbnails = [
        item if item.file == name else replace(item, file=name) for item, name in zip(items, names, strict=True)
    ]

    def pack(name: str, chosen: Sequence[Item], content: Callable[[int], bytes]) -> None:
        with PackWriter(outputs / name, chosen) as writer:
            for item in chosen:
                writer.add(item, content(item.index - 1))

    steps: list[Callable[[], object]] = [
        lambda: pack("thumbnails.pack", thumbnails, gathered.thumbnail),
        lambda: pack("train.pack", train, gathered.file),
        lambda: (outputs / "index.jsonl").write_bytes(index_lines(items)),
        lambda: pack("test.pack", test, gathered.file),
    ]
    for _ in workers.in_order(lambda step: steps[step](), range(len(steps))):
        pass
