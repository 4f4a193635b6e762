"""What every task makes of gathered images: the faults told, near-duplicates found, the packs written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from finetuning.engine.duplicates import near_pairs
from finetuning.engine.gathering import Gathered
from finetuning.engine.packs import Item, PackWriter, index_lines
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
            message = f"{len(names):,} of {total:,} images cannot be used. Mend or remove them."
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
    prints = [gathered.prepared[at].print for at in positions]
    pairs = near_pairs(
        np.array([print_.phash for print_ in prints], np.uint64),
        np.stack([print_.thumbnail for print_ in prints]),
    )
    return [(positions[one], positions[other]) for one, other in pairs]


def write_packs(gathered: Gathered, items: Sequence[Item], outputs: Path) -> None:
    """Writes train.pack (with the validation items), test.pack, thumbnails.pack and index.jsonl."""
    outputs.mkdir(exist_ok=True)
    train = [item for item in items if item.split is not Split.TEST]
    test = [item for item in items if item.split is Split.TEST]
    for name, chosen in (("train.pack", train), ("test.pack", test)):
        with PackWriter(outputs / name, chosen) as pack:
            for item in chosen:
                pack.add(item, gathered.png(item.index - 1))
    thumbnails = [replace(item, file=f"{item.index:06d}.jpg") for item in items]
    with PackWriter(outputs / "thumbnails.pack", thumbnails) as pack:
        for item in thumbnails:
            pack.add(item, gathered.thumbnail(item.index - 1))
    (outputs / "index.jsonl").write_bytes(index_lines(items))
