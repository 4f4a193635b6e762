"""Sticky splits: where an image goes depends on its content and the salt, not on what else is uploaded."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from finetuning.engine.problems import reject
from finetuning.engine.spec import Split

_FILL_ORDER = (
    Split.TRAIN,
    Split.TEST,
    Split.VALIDATION,
)  # what a class with few groups gets first


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """`test` and `validation` are fractions; the lowest draws are test, the highest training."""

    salt: str
    test: float
    validation: float

    def split_at(self, place: float) -> Split:
        if place < self.test:
            return Split.TEST
        return Split.VALIDATION if place < self.test + self.validation else Split.TRAIN

    def wants(self, split: Split) -> bool:
        return {Split.TEST: self.test, Split.VALIDATION: self.validation, Split.TRAIN: 1.0}[split] > 0


def group_ids(identities: Sequence[str], pairs: Iterable[tuple[int, int]]) -> list[str]:
    """Returns for each item the smallest identity of its group: items that are equal, or linked by `pairs`
    of positions, directly or through others (union-find)."""
    parent = list(range(len(identities)))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    first: dict[str, int] = {}
    equal = ((first.setdefault(identity, item), item) for item, identity in enumerate(identities))
    for one, other in (*equal, *pairs):
        low, high = sorted((root(one), root(other)), key=lambda item: identities[item])
        parent[high] = low
    return [identities[root(item)] for item in range(len(identities))]


def draw(salt: str, group: str) -> float:
    """Returns the group's place in [0, 1): the first 53 bits of sha256(salt || group)."""
    digest = hashlib.sha256((salt + group).encode()).digest()
    return (int.from_bytes(digest[:7], "big") >> 3) / 2**53


def assign(groups: Sequence[str], labels: Sequence[str], recipe: Recipe) -> list[Split]:
    """Returns a split for each item; a group is never divided.

    Groups fall below the thresholds by their draw; then a class of 3 groups or more that misses a split
    lends it the group drawn nearest (of 2 groups: training and test; of 1: training). So an item moves
    only if its class is that small, or if a later upload brings a near-duplicate that renames its group.
    """
    place = {group: draw(recipe.salt, group) for group in groups}
    split_of = {group: recipe.split_at(at) for group, at in place.items()}
    members: dict[str, set[str]] = defaultdict(set)
    for group, label in zip(groups, labels, strict=True):
        members[label].add(group)
    wanted = [split for split in _FILL_ORDER if recipe.wants(split)]
    lent: set[str] = set()
    for _, own in sorted(members.items()):
        needed = wanted[: len(own)]
        for split in needed:
            if not any(split_of[group] is split for group in own):
                _lend(split, needed, {group: place[group] for group in own}, split_of, lent)
    return [split_of[group] for group in groups]


def _lend(
    split: Split, needed: list[Split], place: dict[str, float], split_of: dict[str, Split], lent: set[str]
) -> None:
    """Moves one group of a class (`place`) into `split`, from the split that can best spare one."""
    spare = Counter(split_of[group] for group in place)
    spare.subtract(needed)
    free = [group for group in place if group not in lent]
    if not free:
        return  # all of them already serve another class that shares their images
    most = max(spare[split_of[group]] for group in free)
    donors = [group for group in free if spare[split_of[group]] == most]
    # The test split lies lowest in [0, 1), training highest.
    chosen = (max if split is Split.TRAIN else min)(donors, key=lambda group: (place[group], group))
    split_of[chosen] = split
    lent.add(chosen)


def rarest(shown: Sequence[Collection[str]], nothing: str = "") -> list[str]:
    """Returns for each item its class that the fewest items show, the one that a split could miss: what to stratify by
    where items show several classes; `nothing` for an item that shows none."""
    counts = Counter(label for own in shown for label in set(own))
    return [min(own, key=lambda label: (counts[label], label)) if own else nothing for own in shown]


def settle(
    given: Sequence[Split | None], groups: Sequence[str], shown: Sequence[Collection[str]], recipe: Recipe
) -> list[Split]:
    """Returns every item's split: ours where the upload gives none, else the upload's, completed. `shown` are each item's
    classes. Rejects (`class_not_in_train`) where a class has no training items: uploaded splits may leave it without, and
    ours one that always stands beside rarer ones."""
    chosen = kept_or_assigned(given, groups, rarest(shown), recipe)
    if None in given and all(len(own) == 1 for own in shown):
        return chosen
    trained = {label for own, split in zip(shown, chosen, strict=True) if split is Split.TRAIN for label in own}
    if missing := sorted({label for own in shown for label in own} - trained):
        raise reject(
            "class_not_in_train",
            "Some classes have no training items. Put items of each class into the training split.",
            missing,
        )
    return chosen


def kept_or_assigned(
    given: Sequence[Split | None], groups: Sequence[str], labels: Sequence[str], recipe: Recipe
) -> list[Split]:
    """Returns every item's split: the upload's, completed, where it names all of them, else ours."""
    uploaded = [split for split in given if split is not None]
    if len(uploaded) < len(given):
        return assign(groups, labels, recipe)
    return complete(uploaded, groups, labels, recipe)


def complete(given: Sequence[Split], groups: Sequence[str], labels: Sequence[str], recipe: Recipe) -> list[Split]:
    """Returns uploaded splits with the missing ones carved out of the training items; no item that the
    upload puts elsewhere moves, nor one that has a duplicate there."""
    outside = {group for group, split in zip(groups, given, strict=True) if split is not Split.TRAIN}
    free = [i for i, group in enumerate(groups) if group not in outside]
    missing = replace(
        recipe,
        test=0.0 if Split.TEST in given else recipe.test,
        validation=0.0 if Split.VALIDATION in given else recipe.validation,
    )
    drawn = assign([groups[i] for i in free], [labels[i] for i in free], missing)
    splits = list(given)
    for i, split in zip(free, drawn, strict=True):
        splits[i] = split
    return splits
