"""Labelled texts that packages carry: what Django says in eight languages, and rated film snippets."""

from __future__ import annotations

import csv
import io
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from babel.messages.mofile import read_mo

SOURCE_LANGUAGE = "en"  # what the catalogues translate from
_FEWEST_CHARACTERS = 15  # shorter ones are words such as OK, alike in many languages
# The rated snippets inside the source distribution of vaderSentiment 3.3.1.
_RATINGS = "hutto_ICWSM_2014.tar.gz"
_FILM_SNIPPETS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
_SEED = 0
_MOST_MIXED = 3  # languages in a text
_PARTS = 20
_SHARES = {"train": (0, 14), "validation": (14, 17), "test": (17, 20)}  # of the parts


def languages(catalogs: Path) -> list[tuple[str, str, str]]:
    """Returns (text, language, group) from `LANGUAGE/*.mo` below `catalogs`; a group is one message in all its
    languages. What is said alike in two languages, and what is short, is left out."""
    said: dict[str, dict[str, str]] = {}
    for folder in sorted(catalogs.iterdir()):
        for path in sorted(folder.glob("*.mo")):
            for message, text in _messages(path):
                said.setdefault(message, {SOURCE_LANGUAGE: " ".join(message.split())})[folder.name] = text
    owner: dict[str, set[str]] = {}
    for texts in said.values():
        for language, text in texts.items():
            owner.setdefault(text.casefold(), set()).add(language)
    return [
        (text, language, f"message-{number:04d}")
        for number, message in enumerate(sorted(said), start=1)
        for language, text in sorted(said[message].items())
        if len(text) >= _FEWEST_CHARACTERS and " " in text and len(owner[text.casefold()]) == 1
    ]


def language_mixes(rows: Sequence[tuple[str, str, str]], count: int) -> list[tuple[str, str, str]]:
    """Returns up to `count` different (text, labels, split): sentences of one to three languages one after the other,
    out of what `languages` returns. No message is in two splits, in whatever language."""
    found: list[tuple[str, str, str]] = []
    for split, (low, high) in _SHARES.items():
        said: dict[str, list[str]] = {}
        for text, language, group in rows:
            if low <= zlib.crc32(group.encode()) % _PARTS < high:
                said.setdefault(language, []).append(text)
        draw = np.random.default_rng([_SEED, low])
        texts: dict[str, str] = {}
        for _ in range(count * (high - low) // _PARTS):
            languages = draw.permutation(sorted(said))[: draw.integers(1, _MOST_MIXED + 1)].tolist()
            text = " ".join(said[language][draw.integers(len(said[language]))] for language in languages)
            texts[text] = ";".join(sorted(languages))
        found += [(text, labels, split) for text, labels in texts.items()]
    return found


def _messages(path: Path) -> Iterator[tuple[str, str]]:
    """Yields (message, translation) of one compiled catalogue; of plurals, the first form. Markup is left out."""
    with path.open("rb") as file:
        for entry in read_mo(file):
            message, text = ((one[0] if isinstance(one, list | tuple) else one) for one in (entry.id, entry.string))
            if message and text and "<" not in text:
                yield str(message), " ".join(str(text).split())


def film_snippets(distribution: Path) -> list[tuple[str, str]]:
    """Returns (text, label) of every film snippet in vaderSentiment's source distribution whose mean rating,
    -4 to 4, is not zero; the label is its sign."""
    with tarfile.open(distribution) as outer:
        inner = next(member for member in outer if member.name.endswith(f"/{_RATINGS}"))
        with tarfile.open(fileobj=outer.extractfile(inner)) as ratings:
            file = ratings.extractfile(_FILM_SNIPPETS)
            lines = file.read().decode("utf-8").splitlines() if file else []
    rated = [line.split("\t", 2) for line in lines]
    return [(text, "positive" if float(rating) > 0 else "negative") for _, rating, text in rated if float(rating)]


def chosen(rows: Sequence[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    """Returns `count` rows at random, the same ones every time."""
    order = np.random.default_rng(_SEED).permutation(len(rows))[:count]
    return [rows[at] for at in sorted(order.tolist())]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """Returns the rows as CSV, UTF-8."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(header)
    writer.writerows(rows)
    return file.getvalue().encode()
