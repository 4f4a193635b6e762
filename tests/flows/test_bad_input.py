"""Bad input on the running product: a clear refusal in the API and on the page, and nothing half-written.

Everything slow is sent first, by the fixture `world`: uploads, releases and two fine-tunes. The tests then ask for
their outcomes one by one, while the queue works.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import pickle
import re
import tarfile
import tempfile
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
from archives_factory import Member, class_folders, encoded, picture, raw_zip, zip_of
from hostile import (
    CHINESE,
    LAUGHING,
    RIGHT_TO_LEFT,
    Answer,
    Api,
    Browser,
    all_images,
    ask,
    assert_code,
    assert_refused,
    assert_sentence,
    field_names,
    headed,
    labelled,
    safetensors_of,
    with_file,
    with_members,
    with_name,
)
from live_stack import Stack
from PIL import Image, ImageOps

pytestmark = pytest.mark.stack

FREE = "northlight/efficientnet-lite0"
PAID = "northlight/efficientnet-lite1"
REVIEWED = "northlight/efficientnet-lite2-reviewed"
NONCOMMERCIAL = "openfield/efficientnet-lite2"
NO_DERIVATIVES = "openfield/efficientnet-lite0-reference"
OURS = "northlight/bad-input"
ARCHITECTURE = "test_efficientnet"
BINARY = "application/octet-stream"
MARK = Path(tempfile.gettempdir()) / f"a-pickle-was-loaded-{uuid.uuid4()}"
NOBODY = "00000000-0000-4000-8000-000000000000"
WAIT_SECONDS = 300
ITEMS_SHOWN = 20

PICTURE = encoded(picture(77))
OTHER_PICTURE = encoded(picture(78))
GOOD_ZIP = zip_of(class_folders())


@dataclass(frozen=True, slots=True)
class Upload:
    """A data set to send, and what must become of it: the codes of its refusal, or parts of its report."""

    name: str
    make: Callable[[], bytes]
    codes: frozenset[str] = frozenset()
    findings: frozenset[str] = frozenset()
    report: dict[str, Any] = field(default_factory=dict)


def refused(name: str, make: Callable[[], bytes] | bytes, *codes: str) -> Upload:
    return Upload(name, make if callable(make) else lambda: make, codes=frozenset(codes))


def accepted(name: str, make: Callable[[], bytes] | bytes, *findings: str, **report: Any) -> Upload:
    return Upload(name, make if callable(make) else lambda: make, findings=frozenset(findings), report=report)


# Data sets that cannot be used


def gzipped_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("cats/000.png")
        member.size = len(PICTURE)
        archive.addfile(member, io.BytesIO(PICTURE))
    return buffer.getvalue()


def table(text: str | bytes, images: int = 16) -> bytes:
    """Images in one folder and a table of labels beside it."""
    content = text.encode() if isinstance(text, str) else text
    pictures = {f"images/{number}.png": encoded(picture(number)) for number in range(images)}
    return zip_of({**pictures, "labels.csv": content})


ROWS = [f"images/{number}.png,{'cat' if number % 2 else 'dog'}" for number in range(16)]
TABLE = "file,label\n" + "\n".join(ROWS) + "\n"
ACCENT = "cats/\N{LATIN SMALL LETTER E WITH ACUTE}.png"
DECOMPOSED = unicodedata.normalize("NFD", ACCENT)
UTF8 = 0x800

ARCHIVES = [
    refused("a page of HTML", b"<!doctype html><p>hello", "not_a_zip"),
    refused("a photo named zip", lambda: encoded(picture(1), "JPEG"), "not_a_zip"),
    refused("a tar without CIFAR", gzipped_tar, "file_type"),
    refused("half of a zip", GOOD_ZIP[: len(GOOD_ZIP) // 2], "zip_truncated"),
    refused("a zip without its last bytes", GOOD_ZIP[:-30], "zip_truncated"),
    refused("a zip of nothing", lambda: zip_of({}), "zip_empty"),
    refused("only a folder", lambda: raw_zip([Member(name=b"cats/", attributes=(0o40755 << 16) | 16)]), "zip_empty"),
    refused("only hidden files", lambda: zip_of({"__MACOSX/._a.png": b"x", ".DS_Store": b"x"}), "zip_empty"),
    refused("20001 files", lambda: hostile.stored({f"cats/{n}.png": b"" for n in range(20_001)}), "too_many_files"),
    refused("a bomb", lambda: hostile.repeated("cats/000.png", 64 << 20), "zip_bomb"),
    refused("a claim of 4 GiB", lambda: with_name(b"cats/x.png", declared_size=0xFFFF_FFF0), "zip_bomb"),
    refused("a claim too small", lambda: with_name(b"cats/x.png", declared_size=9), "zip_inconsistent", "zip_bomb"),
    refused("a claim too large", lambda: with_name(b"cats/x.png", declared_size=len(PICTURE) + 9), "zip_inconsistent"),
    refused("a quilt", lambda: hostile.quilt(40), "zip_overlap", "zip_bomb"),
    refused("an overlap", lambda: with_members(Member(name=b"cats/x.png", content=PICTURE, offset=0)), "zip_overlap"),
    refused("a zip in a zip", lambda: with_file("cats/inner.zip", GOOD_ZIP), "nested_archive"),
    refused("a zip named png", lambda: with_file("cats/inner.png", GOOD_ZIP), "nested_archive", "type_mismatch"),
    refused("a tar in a zip", lambda: with_file("cats/inner.tar.gz", gzipped_tar()), "nested_archive"),
    refused("a path upwards", lambda: with_name(b"../../cats/x.png"), "unsafe_path"),
    refused("a path down and upwards", lambda: with_name(b"cats/../../../x.png"), "unsafe_path"),
    refused("an absolute path", lambda: with_name(b"/etc/cats/x.png"), "unsafe_path"),
    refused("a drive letter", lambda: with_name(rb"C:\cats\x.png"), "unsafe_path"),
    refused("backslashes upwards", lambda: with_name(rb"..\..\cats\x.png"), "unsafe_path"),
    refused(
        "a link",
        lambda: with_members(Member(name=b"cats/x.png", content=b"/etc/passwd", attributes=hostile.SYMLINK)),
        "links_not_allowed",
    ),
    refused(
        "a device", lambda: with_members(Member(name=b"cats/x.png", attributes=hostile.DEVICE)), "links_not_allowed"
    ),
    refused("a pipe", lambda: with_members(Member(name=b"cats/x.png", attributes=hostile.FIFO)), "links_not_allowed"),
    refused("a password", lambda: with_name(b"cats/x.png", flags=hostile.ENCRYPTED), "encrypted_zip"),
    refused("a password of AES", lambda: with_name(b"cats/x.png", flags=hostile.ENCRYPTED, method=99), "encrypted_zip"),
    refused("bzip2", lambda: with_name(b"cats/x.png", method=12), "unsupported_compression"),
    refused("lzma", lambda: with_name(b"cats/x.png", method=14), "unsupported_compression"),
    refused("an unknown method", lambda: with_name(b"cats/x.png", method=77), "unsupported_compression"),
    refused(
        "a false directory size", lambda: hostile.lying_directory(GOOD_ZIP, size=10), "zip_inconsistent", "polyglot"
    ),
    refused("a false number of entries", lambda: hostile.lying_directory(GOOD_ZIP, entries=30), "zip_inconsistent"),
    refused("two names for one file", lambda: with_name(b"cats/x.png", local_name=b"cats/y.png"), "zip_inconsistent"),
    refused(
        "one name twice",
        lambda: with_members(
            Member(name=b"cats/x.png", content=PICTURE), Member(name=b"cats/x.png", content=OTHER_PICTURE)
        ),
        "duplicate_name",
    ),
    refused(
        "names that differ in case",
        lambda: with_members(
            Member(name=b"cats/X.png", content=PICTURE), Member(name=b"cats/x.png", content=OTHER_PICTURE)
        ),
        "duplicate_name",
    ),
    refused(
        "names that differ in composition",
        lambda: with_members(
            Member(name=ACCENT.encode(), content=PICTURE, flags=UTF8),
            Member(name=DECOMPOSED.encode(), content=OTHER_PICTURE, flags=UTF8),
        ),
        "duplicate_name",
    ),
    refused("NUL in a name", lambda: with_name(b"cats/a\0.png"), "bad_name"),
    refused("an escape sequence in a name", lambda: with_name(b"cats/a\x1b[2J.png"), "bad_name"),
    refused("a line break in a class", lambda: with_name(b"ca\nts/a.png"), "bad_name"),
    refused("a mirrored name", lambda: with_name(f"cats/{RIGHT_TO_LEFT}gnp.exe.png".encode(), flags=UTF8), "bad_name"),
    refused("a name that is not UTF-8", lambda: with_name(b"cats/\xff\xfe.png", flags=UTF8), "bad_name"),
    refused("no name at all", lambda: with_name(b""), "bad_name"),
    refused("a file name of 300", lambda: with_name(b"cats/" + b"x" * 300 + b".png"), "name_too_long"),
    refused("a class name of 300", lambda: labelled("cats", "d" * 300), "name_too_long", "label_too_long"),
    refused("a class name of 150", lambda: labelled("cats", "d" * 150), "label_too_long", "name_too_long"),
    refused("twelve folders deep", lambda: with_name(b"cats/" + b"a/" * 12 + b"x.png"), "name_too_long"),
    refused("a picture before the zip", PICTURE + GOOD_ZIP, "polyglot"),
    refused("a script after the zip", GOOD_ZIP + b"<script>alert(1)</script>", "polyglot"),
    refused("a false checksum", lambda: with_name(b"cats/x.png", crc=1), "corrupt_member"),
    refused("a flipped bit", lambda: hostile.flipped(GOOD_ZIP, b"PK\3\4", 330), "corrupt_member"),
    refused("a page in a class", lambda: with_file("cats/evil.html", b"<script>alert(1)</script>"), "file_type"),
    refused("a program in a class", lambda: with_file("cats/evil.exe", b"MZ"), "file_type"),
    refused("a drawing in a class", lambda: with_file("cats/evil.svg", b'<svg onload="alert(1)"/>'), "file_type"),
    refused("a pickle in a class", lambda: with_file("cats/model.pkl", b"\x80\x04."), "file_type"),
    refused("one class", lambda: labelled("cats"), "too_few_classes", "too_few_per_class"),
    refused("one image a class", lambda: zip_of(class_folders(images=1)), "too_few_per_class"),
    refused("one class of one image", lambda: with_file("birds/0.png", PICTURE), "too_few_per_class"),
    refused(
        "no classes",
        lambda: zip_of({f"{n}.png": encoded(picture(n)) for n in range(8)}),
        "unlabelled",
        "too_few_classes",
    ),
    refused("classes that are hidden", lambda: labelled(".cats", ".dogs"), "zip_empty", "bad_name"),
]

IMAGES = [
    refused(
        "images of 1 pixel",
        lambda: all_images(lambda n: encoded(Image.new("RGB", (1, 1), (n % 256, 0, 0))), "png"),
        "image_too_small",
    ),
    refused(
        "images of 20,000 pixels",
        lambda: zip_of({f"{label}/{n}.png": hostile.vast_png() for label in ("cats", "dogs") for n in range(2)}),
        "image_too_large",
    ),
    refused(
        "images of a false size", lambda: all_images(lambda _: hostile.png_of(30_000, 30_000), "png"), "image_too_large"
    ),
    refused("BMP named jpg", lambda: all_images(lambda n: encoded(picture(n), "BMP"), "jpg"), "type_mismatch"),
    refused("GIF named jpg", lambda: all_images(lambda n: encoded(picture(n), "GIF"), "jpg"), "type_mismatch"),
    refused("TIFF named jpg", lambda: all_images(lambda n: encoded(picture(n), "TIFF"), "jpg"), "type_mismatch"),
    refused("text named png", lambda: all_images(lambda n: b"hello %d" % n, "png"), "bad_image", "type_mismatch"),
    refused("empty images", lambda: all_images(lambda _: b"", "png"), "bad_image"),
    refused("truncated JPEG", lambda: all_images(lambda n: encoded(picture(n), "JPEG")[:-400], "jpg"), "bad_image"),
    refused("truncated PNG", lambda: all_images(lambda n: encoded(picture(n))[:-400], "png"), "bad_image"),
    refused(
        "comments that are bombs",
        lambda: zip_of(
            {f"{label}/{n}.png": bomb for bomb in [hostile.text_bomb_png()] for label in "ab" for n in "12"}
        ),
        "bad_image",
        "zip_bomb",
    ),
    refused(
        "profiles that are bombs",
        lambda: zip_of(
            {f"{label}/{n}.png": bomb for bomb in [hostile.profile_bomb_png()] for label in "ab" for n in "12"}
        ),
        "bad_image",
        "zip_bomb",
    ),
    refused("animated GIF", lambda: all_images(lambda n: hostile.animated(n, "GIF"), "gif"), "file_type"),
    refused(
        "three of nineteen damaged",
        lambda: zip_of({**class_folders(), **{f"cats/b{n}.png": b"bad" for n in range(3)}}),
        "bad_image",
    ),
]

TABLES = [
    refused("a table that is not text", lambda: table(TABLE.encode() + b"images/0.png,\xff\xfe\n"), "encoding"),
    refused("a table with a missing image", lambda: table(TABLE + "images/nowhere.png,cat\n"), "missing_image"),
    refused(
        "a table with a path upwards", lambda: table(TABLE + "../../etc/passwd,cat\n"), "missing_image", "unsafe_path"
    ),
    refused("images without a row", lambda: table(TABLE, images=18), "unlabelled"),
    refused("a table without rows", lambda: table("file,label\n"), "unlabelled"),
    refused("a row without a label", lambda: table(TABLE.replace(",cat", ",", 1)), "unlabelled"),
    refused("one image in two classes", lambda: table(TABLE + "images/0.png,cat\n"), "label_conflict"),
    refused("an open quote", lambda: table(TABLE + '"images/0.png,dog\n'), "bad_csv"),
    refused(
        "a field of 200,000",
        lambda: table(TABLE + 'images/0.png,"' + "x" * 200_000 + '"\n'),
        "bad_csv",
        "label_too_long",
    ),
    refused("a label of 1,000", lambda: table(TABLE.replace(",cat", "," + "x" * 1000)), "label_too_long"),
    refused("a mirrored label", lambda: table(TABLE.replace(",cat", f",{RIGHT_TO_LEFT}tac")), "bad_label"),
    refused("a label with NUL", lambda: table(TABLE.replace(",cat", ",c\0t")), "bad_label", "bad_csv"),
    refused(
        "an unknown split",
        lambda: table("file,label,split\n" + "\n".join(f"{row},banana" for row in ROWS)),
        "bad_split",
    ),
    refused("a table of one class", lambda: table(TABLE.replace(",cat", ",dog")), "too_few_classes"),
]

UNUSABLE = [*ARCHIVES, *IMAGES, *TABLES]

# Data sets that are accepted, and say what was special about them

ODD = [
    accepted(
        "four inks",
        lambda: all_images(lambda n: encoded(picture(n).convert("CMYK"), "JPEG", quality=95), "jpg"),
        modes={"CMYK": 16},
    ),
    accepted("sixteen bits", lambda: all_images(hostile.sixteen_bit_png, "png"), modes={"I;16": 16}),
    accepted("palette", lambda: all_images(lambda n: encoded(picture(n).convert("P")), "png"), modes={"P": 16}),
    accepted(
        "transparent", lambda: all_images(lambda n: encoded(picture(n).convert("RGBA")), "png"), modes={"RGBA": 16}
    ),
    accepted("black and white", lambda: all_images(lambda n: encoded(picture(n).convert("1")), "png"), modes={"1": 16}),
    accepted("photos on their side", lambda: all_images(hostile.rotated_jpeg, "jpg"), "rotated", images=16),
    accepted("animated WebP", lambda: all_images(lambda n: hostile.animated(n, "WEBP"), "webp"), "animated", images=16),
    accepted("animated PNG", lambda: all_images(lambda n: hostile.animated(n, "PNG"), "png"), "animated", images=16),
    accepted("PNG named jpg", lambda: all_images(lambda n: encoded(picture(n)), "jpg"), "misnamed", images=16),
    accepted("endings in capitals", lambda: all_images(lambda n: encoded(picture(n), "JPEG"), "JPG"), images=16),
    accepted(
        "images of 8 pixels", lambda: all_images(lambda n: encoded(picture(n, 8)), "png"), "small_images", images=16
    ),
    accepted(
        "files of a Mac and of Windows",
        lambda: zip_of(
            {**class_folders(), "__MACOSX/cats/._0.png": b"\0\5\x16\7", "cats/.DS_Store": b"x", "cats/Thumbs.db": b"x"}
        ),
        "skipped_files",
        images=16,
        skipped={"__MACOSX": 1, ".DS_Store": 1, "Thumbs.db": 1},
    ),
    accepted("one hidden class", lambda: labelled(".hidden", "cats", "dogs"), "skipped_files", labels=["cats", "dogs"]),
    accepted("a note beside the classes", lambda: with_file("readme.txt", b"hello"), "skipped_files", images=16),
    accepted(
        "one damaged image",
        lambda: with_file("cats/x.jpg", encoded(picture(9), "JPEG")[:-400]),
        "corrupt_images",
        images=16,
    ),
    accepted(
        "one image of 1 pixel",
        lambda: with_file("cats/x.png", encoded(Image.new("RGB", (1, 1)))),
        "corrupt_images",
        images=16,
    ),
    accepted(
        "one image of 20,000 pixels", lambda: with_file("cats/x.png", hostile.vast_png()), "corrupt_images", images=16
    ),
    accepted(
        "one image of 0 pixels", lambda: with_file("cats/x.png", hostile.png_of(0, 0)), "corrupt_images", images=16
    ),
    accepted(
        "names of all the world",
        lambda: labelled(
            CHINESE, LAUGHING, "na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve caf\u00e9", "\u0639\u0631\u0628\u0649"
        ),
        labels=sorted([CHINESE, LAUGHING, "na\u00efve caf\u00e9", "\u0639\u0631\u0628\u0649"]),
    ),
    accepted("names that are scripts", lambda: labelled("<img src=x onerror=alert(1)>", "=cmd|calc"), images=16),
    accepted("a class name of 100", lambda: labelled("cats", "d" * 100), labels=["cats", "d" * 100]),
    accepted("names of devices", lambda: labelled("CON", "NUL"), labels=["CON", "NUL"]),
    accepted("classes below one folder", lambda: zip_of(class_folders(prefix="my data/")), labels=["cats", "dogs"]),
    accepted("folders below classes", lambda: labelled("cats/old", "dogs/old"), labels=["cats", "dogs"]),
    accepted(
        "the same images twice",
        lambda: all_images(lambda _: encoded(picture(1)), "png"),
        "exact_duplicates",
        "label_conflict",
    ),
    accepted(
        "a test set that was trained on",
        lambda: zip_of({**class_folders(prefix="train/"), **class_folders(prefix="test/")}),
        "leakage",
        split_source="uploaded",
    ),
    accepted(
        "a zip with a comment",
        lambda: raw_zip([Member(name=k.encode(), content=v) for k, v in class_folders().items()], comment=b"by hand"),
        images=16,
    ),
    accepted("a zip64", lambda: hostile.zip64(class_folders()), images=16),
    accepted(
        "a zip written as a stream",
        lambda: raw_zip([Member(name=k.encode(), content=v, has_descriptor=True) for k, v in class_folders().items()]),
        images=16,
    ),
    accepted(
        "a table with a mark and CRLF",
        lambda: table(b"\xef\xbb\xbf" + TABLE.replace("\n", "\r\n").encode()),
        labels=["cat", "dog"],
    ),
    accepted("a table in UTF-16", lambda: table(TABLE.encode("utf-16")), labels=["cat", "dog"]),
    accepted("labels that are formulas", lambda: table(TABLE.replace(",cat", ",=cmd|x")), labels=["=cmd|x", "dog"]),
]


# Weights


CONFIG: dict[str, Any] = {
    "architecture": ARCHITECTURE,
    "num_classes": 2,
    "label_names": ["cat", "dog"],
    "pretrained_cfg": {
        "input_size": [3, 160, 160],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "crop_pct": 0.95,
    },
}
Tensors = dict[str, tuple[str, list[int], bytes]]
HEAD = "classifier.weight"
CARD = b"# Bad input\n\nA model of random weights.\n"


def tensors_of(content: bytes) -> Tensors:
    header, body = hostile.opened(content)
    header.pop("__metadata__", None)
    return {name: (it["dtype"], it["shape"], body[slice(*it["data_offsets"])]) for name, it in header.items()}


def good_weights() -> bytes:
    """Random weights of the smallest classifier that timm knows."""
    import timm  # noqa: PLC0415 (seconds, and only here)
    from safetensors.torch import save  # noqa: PLC0415

    return save(timm.create_model(ARCHITECTURE, num_classes=CONFIG["num_classes"]).state_dict())


@dataclass(frozen=True, slots=True)
class Weights:
    """A release to submit: what to do to the good weights, the config, the refusal's codes, and what it must name."""

    name: str
    codes: set[str]
    make: Callable[[bytes], bytes] = lambda good: good
    config: dict[str, Any] = field(default_factory=lambda: CONFIG)
    named: tuple[str, ...] = ()


def weights(name: str, make: Callable[[Tensors], bytes], code: str, *named: str) -> Weights:
    return Weights(name, {code}, lambda good: make(tensors_of(good)), named=named)


def without(tensors: Tensors, name: str) -> Tensors:
    return {key: value for key, value in tensors.items() if key != name}


def filled(tensors: Tensors, name: str, value: float) -> Tensors:
    _, shape, _ = tensors[name]
    return {**tensors, name: ("F32", shape, np.full(shape, value, "<f4").tobytes())}


def as_doubles(tensors: Tensors, name: str) -> Tensors:
    _, shape, content = tensors[name]
    return {**tensors, name: ("F64", shape, np.frombuffer(content, "<f4").astype("<f8").tobytes())}


BAD_WEIGHTS = [
    weights(
        "a renamed key",
        lambda t: safetensors_of({**without(t, HEAD), "other": t[HEAD]}),
        "keys_mismatch",
        HEAD,
        "other",
    ),
    weights(
        "a wrong shape",
        lambda t: safetensors_of({**t, HEAD: ("F32", [3, 256], bytes(3072))}),
        "shape_mismatch",
        "(2, 256)",
        "(3, 256)",
    ),
    weights("a NaN", lambda t: safetensors_of(filled(t, HEAD, math.nan)), "non_finite", HEAD),
    weights("doubles for floats", lambda t: safetensors_of(as_doubles(t, HEAD)), "dtype", HEAD),
    weights("a pickle named safetensors", lambda _: pickle.dumps(hostile.Marked(str(MARK))), "not_safetensors"),
    weights("a header of 2^63 bytes", lambda _: headed(b"{}", length=2**63), "bad_header"),
    Weights("a truncated file", {"bad_offsets"}, lambda good: good[:-100]),
    Weights(
        "another architecture",
        {"config_invalid", "architecture_unknown"},
        config={**CONFIG, "architecture": "../../etc/passwd"},
    ),
    Weights(
        "a mean that is not a number",
        {"config_invalid"},
        config={**CONFIG, "pretrained_cfg": {**CONFIG["pretrained_cfg"], "mean": [math.nan] * 3}},
    ),
    Weights("two classes of one name", {"config_invalid"}, config={**CONFIG, "label_names": ["cat", "cat"]}),
    Weights("an unknown library", {"config_invalid", "architecture_unknown"}, config={**CONFIG, "library": "os"}),
]
# The people, and everything slow that they send


@dataclass
class World:
    stack: Stack
    buyer: Api
    vendor: Api
    reader: Api
    expired: Api
    revoked: Api
    buyer_pages: Browser
    vendor_pages: Browser
    datasets: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    log_start: int = 0
    _outcomes: dict[str, Any] = field(default_factory=dict)

    def outcome(self, api: Api, path: str, unfinished: set[str]) -> Any:
        """The document at `path` once its status is final."""

        def ended() -> Any:
            document = api.get(path)
            return document if document["status"] not in unfinished else None

        if path not in self._outcomes:
            self._outcomes[path] = self.stack.wait_for(ended, seconds=WAIT_SECONDS)
        return self._outcomes[path]

    def checked(self, name: str) -> Any:
        return self.outcome(self.vendor, f"datasets/{self.datasets[name]}/", {"checking"})

    def verified(self, name: str) -> Any:
        return self.outcome(self.vendor, f"listings/{OURS}/releases/{self.versions[name]}/", {"verifying"})

    def finished(self, name: str) -> Any:
        return self.outcome(self.buyer, f"runs/{self.runs[name]}/", {"queued", "starting", "running"})

    def order(self, **changes: Any) -> dict[str, Any]:
        """A fine-tune that would be launched, but for the changes."""
        order = {"listing": NONCOMMERCIAL, "dataset": self.runs["dataset"], "strategy": "head", "hyper": {"seed": 99}}
        return {**order, **changes}


@pytest.fixture(scope="module")
def world(stack: Stack) -> Iterator[World]:
    issue = {
        "buyer": lambda: stack.manage("issue_token", "buyer"),
        "vendor": lambda: stack.manage("issue_token", "vendor"),
        "reader": lambda: stack.manage("issue_token", "buyer", "--scope", "models:read"),
        "expired": lambda: stack.manage("issue_token", "buyer", "--days", "-1"),
        "revoked": lambda: stack.manage("issue_token", "buyer", "--name", "to be revoked"),
    }
    apis = {name: Api(stack, token) for name, token in hostile.at_once(issue).items()}
    world = World(stack, **apis, buyer_pages=Browser(stack, "buyer"), vendor_pages=Browser(stack, "vendor"))
    world.log_start = stack.log.stat().st_size
    send_everything(world)
    yield world
    for run in world.buyer.everything("runs/"):
        world.buyer.ask("POST", f"runs/{run['id']}/cancel/")
    for api, identities_made in (
        (world.vendor, world.datasets.values()),
        (world.buyer, [world.runs["unusable dataset"]]),
    ):
        for identity in identities_made:
            api.ask("DELETE", f"datasets/{identity}/")


def send_everything(world: World) -> None:
    small = world.buyer.upload("bad input: small", GOOD_ZIP)
    unusable = world.buyer.upload("bad input: unusable", b"<html>")
    world.runs = {"dataset": small.json["id"], "unusable dataset": unusable.json["id"]}
    license_and_launch(world)
    for upload in [*UNUSABLE, *ODD]:
        answer = world.vendor.upload(upload.name, upload.make())
        assert answer.status == 201, (upload.name, answer)
        world.datasets[upload.name] = answer.json["id"]
    submit_releases(world)


def license_and_launch(world: World) -> None:
    """Notes what launching answers before there is a license, while a run lives, and twice in a row."""
    buyer, dataset = world.buyer, world.runs["dataset"]
    world.outcome(buyer, f"datasets/{dataset}/", {"checking"})
    for listing in (NONCOMMERCIAL, NO_DERIVATIVES):
        order = {"listing": listing, "dataset": dataset, "hyper": {"seed": 5}}
        world.answers[f"no grant: {listing}"] = buyer.ask("POST", "runs/", order)
        terms = buyer.get(f"listings/{listing}/")["terms"]["terms_hash"]
        granted = buyer.ask("POST", f"listings/{listing}/grants/", {"terms_hash": terms})
        assert granted.status in {200, 201}, granted
        launched = buyer.ask("POST", "runs/", order)
        assert launched.status == 201, launched
        run = world.runs[listing] = launched.json["id"]
        world.answers[f"twice: {listing}"] = buyer.ask("POST", "runs/", order)
        world.answers[f"too early: {listing}"] = buyer.ask(
            "POST", f"runs/{run}/publish/", {"namespace": "buyer", "name": "too-early"}
        )
    world.answers["data set in use"] = buyer.ask("DELETE", f"datasets/{dataset}/")
    canceled = buyer.ask("POST", "runs/", {"listing": NONCOMMERCIAL, "dataset": dataset, "hyper": {"seed": 6}}).json[
        "id"
    ]
    assert buyer.ask("POST", f"runs/{canceled}/cancel/").status == 200
    world.runs["canceled"] = canceled


def submit_releases(world: World) -> None:
    """One release for each case of weights, and two that are good: one to withdraw, one to leave as a draft."""
    namespace, name = OURS.split("/")
    created = world.vendor.ask(
        "POST",
        "listings/",
        {
            "namespace": namespace,
            "name": name,
            "title": "Bad input",
            "task": "image-classification",
            "framework": "timm",
            "architecture": ARCHITECTURE,
        },
    )
    assert created.status == 201, created
    good = good_weights()
    zeros = safetensors_of({k: (dtype, shape, bytes(len(v))) for k, (dtype, shape, v) in tensors_of(good).items()})
    extra = [Weights("good", set()), Weights("all zeros", set(), lambda _: zeros)]
    for number, case in enumerate([*extra, *BAD_WEIGHTS]):
        version = world.versions[case.name] = f"1.{number}"
        files = {
            "README.md": CARD,
            "config.json": json.dumps(case.config).encode(),
            "model.safetensors": case.make(good),
        }
        draft(world, version, files)
        submitted = world.vendor.ask("POST", f"listings/{OURS}/releases/{version}/submit/")
        assert submitted.status == 200, (case.name, submitted)
    world.versions["draft"] = "2.0"
    draft(world, "2.0", {"README.md": CARD})


def draft(world: World, version: str, files: dict[str, bytes]) -> None:
    created = world.vendor.ask("POST", f"listings/{OURS}/releases/", {"version": version, "license": "mit"})
    assert created.status == 201, created
    for path, content in files.items():
        put = world.vendor.ask("PUT", f"listings/{OURS}/releases/{version}/artifacts/{path}", body=content, kind=BINARY)
        assert put.status == 201, put


@contextmanager
def unchanged(api: Api, *paths: str) -> Iterator[None]:
    """Fails when what the lists at `paths` show differs afterwards. What a wrong answer made is taken away again."""
    before = {path: identities(api, path) for path in paths}
    try:
        yield
    finally:
        after = {path: identities(api, path) for path in paths}
        made = {path: after[path] - before[path] for path in paths}
        for run in made.get("runs/", ()):
            api.ask("POST", f"runs/{run}/cancel/")
        for dataset in made.get("datasets/", ()):
            api.ask("DELETE", f"datasets/{dataset}/")
    assert not any(made.values()), f"half-written: {made}"
    assert not any(before[path] - after[path] for path in paths), f"lost: {before}, {after}"


def identities(api: Api, path: str) -> set[str]:
    joint = "&" if "?" in path else "?"
    return {item.get("id") or item["version"] for item in api.everything(f"{path}{joint}page_size=100")}


def ids(uploads: list[Any]) -> list[str]:
    return [upload.name for upload in uploads]


# Uploads


@pytest.mark.parametrize("upload", UNUSABLE, ids=ids(UNUSABLE))
def test_an_upload_that_cannot_be_used_is_refused_with_a_code_and_a_sentence(world: World, upload: Upload) -> None:
    dataset = world.checked(upload.name)

    assert dataset["status"] == "invalid", dataset
    assert dataset["report"] is None
    assert {problem["code"] for problem in dataset["problems"]} & upload.codes, dataset["problems"]
    for problem in dataset["problems"]:
        assert_code(problem["code"])
        assert_sentence(problem["message"])
        assert len(problem["items"]) <= ITEMS_SHOWN
        for item in problem["items"]:
            assert item.isprintable(), item
            assert len(item) <= 300
            assert not re.search(r"\bb['\"]|Traceback|\bNone\b", item), item


@pytest.mark.parametrize("upload", UNUSABLE, ids=ids(UNUSABLE))
def test_the_page_of_an_unusable_upload_says_the_same(world: World, upload: Upload) -> None:
    dataset = world.checked(upload.name)

    page = world.vendor_pages.get(f"/datasets/{dataset['id']}/")

    assert page.status == 200
    for problem in dataset["problems"]:
        assert problem["message"] in page.text
        assert problem["code"] in page.text
    assert "Traceback" not in page.text
    assert b"<script>alert(1)" not in page.body


@pytest.mark.parametrize("upload", ODD, ids=ids(ODD))
def test_an_odd_but_honest_upload_is_accepted_and_reported(world: World, upload: Upload) -> None:
    dataset = world.checked(upload.name)

    assert dataset["status"] == "valid", dataset["problems"]
    assert dataset["problems"] == []
    report = dataset["report"]
    assert {name: report[name] for name in upload.report} == upload.report
    assert upload.findings <= {finding["code"] for finding in report["findings"]}
    assert sum(each["images"] for each in report["classes"]) == report["images"]
    for file in report["corrupt"]:
        assert_code(file["code"])
        assert_sentence(file["message"])


@pytest.mark.parametrize(
    ("name", "noted"),
    [
        ("four inks", "CMYK"),
        ("photos on their side", "turned upright"),
        ("animated WebP", "only the first frame is used"),
        ("PNG named jpg", "does not match"),
        ("files of a Mac and of Windows", "__MACOSX"),
        ("one damaged image", "cats/x.jpg"),
        ("one image of 20,000 pixels", "more than 40 million pixels"),
        ("names of all the world", CHINESE),
        ("names of all the world", LAUGHING),
        ("names that are scripts", "<img src=x onerror=alert(1)>"),
        ("a test set that was trained on", "also appear among the training images"),
        ("sixteen bits", "16-bit"),
    ],
)
def test_the_page_of_an_odd_upload_notes_what_was_odd(world: World, name: str, noted: str) -> None:
    dataset = world.checked(name)

    page = world.vendor_pages.get(f"/datasets/{dataset['id']}/")

    assert noted.lower() in page.text.lower()
    assert b"<img src=x" not in page.body


@pytest.mark.parametrize(
    ("name", "expected", "tolerance"),
    [
        ("four inks", lambda: picture(0), 12),
        ("sixteen bits", lambda: picture(0).convert("L"), 4),
        ("palette", lambda: picture(0).convert("P").convert("RGB"), 20),
        ("transparent", lambda: picture(0), 12),
        ("photos on their side", lambda: ImageOps.exif_transpose(Image.open(io.BytesIO(hostile.rotated_jpeg(0)))), 12),
    ],
)
def test_an_odd_image_looks_the_same_after_its_conversion_and_carries_no_metadata(
    world: World, name: str, expected: Callable[[], Image.Image], tolerance: float
) -> None:
    dataset = world.checked(name)

    answer = world.vendor_pages.get(f"/datasets/{dataset['id']}/thumbnails/1.jpg")

    assert (answer.status, answer.kind) == (200, "image/jpeg")
    assert answer.headers["x-content-type-options"] == "nosniff"
    shown, wanted = Image.open(io.BytesIO(answer.body)), expected().convert("RGB")
    assert not dict(shown.getexif())
    assert shown.size == wanted.size
    difference = np.abs(np.asarray(shown, dtype=float) - np.asarray(wanted, dtype=float)).mean()
    assert difference < tolerance


BAD_FORMS = [
    pytest.param({}, b"", "file", id="an empty file"),
    pytest.param({"name": ""}, GOOD_ZIP, "name", id="no name"),
    pytest.param({"name": " "}, GOOD_ZIP, "name", id="a blank name"),
    pytest.param({"name": "n" * 121}, GOOD_ZIP, "name", id="a name of 121"),
    pytest.param({"name": "n" * 10**6}, GOOD_ZIP, "name", id="a name of a million"),
    pytest.param({"name": "a\0b"}, GOOD_ZIP, "name", id="NUL in the name"),
    pytest.param({"name": "bad input: small"}, GOOD_ZIP, "name", id="a name that is taken"),
    pytest.param({"task": "nonsense"}, GOOD_ZIP, "task", id="an unknown task"),
    pytest.param(
        {"owner": "nonesuch"},
        GOOD_ZIP,
        "owner",
        id="an unknown owner",
    ),
    pytest.param({"name": f"a {RIGHT_TO_LEFT}name"}, GOOD_ZIP, "name", id="a mirrored name"),
    pytest.param({"colour": "red"}, GOOD_ZIP, "colour", id="an unknown field"),
    pytest.param({"status": "valid"}, GOOD_ZIP, "status", id="a read-only field"),
]


@pytest.mark.parametrize(("fields", "content", "named"), BAD_FORMS)
def test_a_bad_upload_form_names_its_field_and_leaves_nothing(
    world: World, fields: dict[str, str], content: bytes, named: str
) -> None:
    form = {"name": f"form {uuid.uuid4()}", **fields}

    with unchanged(world.buyer, "datasets/"):
        answer = world.buyer.upload(form.pop("name"), content, **form)

        problem = assert_refused(answer, {400, 409, 413, 422})
        assert named in field_names(problem), problem


@pytest.mark.parametrize(
    ("fields", "content", "sentence"),
    [
        pytest.param({}, b"", "The submitted file is empty.", id="an empty file"),
        pytest.param({"name": ""}, GOOD_ZIP, "This field is required.", id="no name"),
        pytest.param({"name": "bad input: small"}, GOOD_ZIP, "Choose another name.", id="a name that is taken"),
        pytest.param({"name": "n" * 1000}, GOOD_ZIP, "at most 120 characters", id="a name of 1,000"),
        pytest.param({"name": "a\0b"}, GOOD_ZIP, "Null characters are not allowed.", id="NUL in the name"),
        pytest.param({"task": "nonsense"}, GOOD_ZIP, "Select a valid choice.", id="an unknown task"),
    ],
)
def test_a_bad_upload_form_says_so_on_its_page(
    world: World, fields: dict[str, str], content: bytes, sentence: str
) -> None:
    form = {"name": f"form {uuid.uuid4()}", "task": "image-classification", **fields}

    with unchanged(world.buyer, "datasets/"):
        page = world.buyer_pages.post("/datasets/new/", form, file=("a.zip", content))

        assert page.status in {200, 400, 409, 422}, page
        assert sentence in page.text


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        pytest.param(b"[]", "application/json", 400, id="JSON"),
        pytest.param(b"x", "text/plain", 415, id="text"),
        pytest.param(b"", "multipart/form-data; boundary=b", 400, id="no body"),
        pytest.param(b"--b\r\n", "multipart/form-data; boundary=b", 400, id="a cut body"),
        pytest.param(b"x", "multipart/form-data", 400, id="no boundary"),
        pytest.param(b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc\r\n--b--\r\n', "multipart/form-data; boundary=b", 400, id="text for a file"),
    ],
)  # fmt: skip
def test_an_upload_that_is_no_form_is_refused(world: World, body: bytes, kind: str, status: int) -> None:
    with unchanged(world.buyer, "datasets/"):
        answer = world.buyer.ask("POST", "datasets/", body=body, kind=kind)

        assert_refused(answer, status)


@pytest.mark.parametrize("filename", ["../../../etc/passwd", "a\\..\\b.zip", "x.exe", "\u732b.zip", "a" * 300 + ".zip"])
def test_the_name_of_the_uploaded_file_is_only_a_name(world: World, filename: str) -> None:
    answer = world.buyer.upload(f"file name {uuid.uuid4()}", GOOD_ZIP, filename=filename)

    assert answer.status in {201, 400, 422}, answer
    if answer.status == 201:
        page = world.buyer_pages.get(f"/datasets/{answer.json['id']}/")
        deleted = world.buyer.ask("DELETE", f"datasets/{answer.json['id']}/")
        assert page.status == 200
        assert "../" not in page.text
        assert deleted.status in {204, 409}
    else:
        assert_refused(answer, {400, 422})


# Weights


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name) for case in BAD_WEIGHTS],
)
def test_bad_weights_are_rejected_with_a_code_and_a_sentence(world: World, case: Weights) -> None:
    release = world.verified(case.name)

    assert release["status"] == "rejected", release["report"]
    problems = release["report"]["problems"]
    assert {problem["code"] for problem in problems} & case.codes, problems
    for problem in problems:
        assert_code(problem["code"])
        assert_sentence(problem["message"])
        assert len(problem["items"]) <= ITEMS_SHOWN
    for name in case.named:
        assert name in json.dumps(problems)


def test_good_weights_are_accepted(world: World) -> None:
    release = world.verified("good")

    assert release["status"] == "ready", release["report"]
    assert release["labels"] == CONFIG["label_names"]


def test_weights_that_are_all_zero_are_accepted_with_a_warning(world: World) -> None:
    release = world.verified("all zeros")

    assert release["status"] == "ready", release["report"]
    assert "degenerate" in json.dumps(release["report"])


def test_no_pickle_was_loaded(world: World) -> None:
    world.verified("a pickle named safetensors")

    assert not MARK.exists()


def test_a_rejected_release_cannot_be_published_or_sold(world: World) -> None:
    version = world.versions["a NaN"]
    world.verified("a NaN")

    published = world.vendor.ask("POST", f"listings/{OURS}/releases/{version}/publish/")
    seen = world.buyer.ask("GET", f"listings/{OURS}/releases/{version}/")

    assert_refused(published, {403, 409})
    assert_refused(seen, 404)


def artifacts(world: World, version: str = "2.0") -> Any:
    return world.vendor.get(f"listings/{OURS}/releases/{version}/")["artifacts"]


PICKLES = ["pt", "pth", "pkl", "pickle", "bin", "joblib", "h5", "ckpt", "npy", "npz", "safetensors.pkl"]


@pytest.mark.parametrize("ending", PICKLES)
def test_a_pickle_is_refused_at_upload_and_nothing_is_attached(world: World, ending: str) -> None:
    before = artifacts(world)
    body = pickle.dumps(hostile.Marked(str(MARK)))

    answer = world.vendor.ask("PUT", f"listings/{OURS}/releases/2.0/artifacts/model.{ending}", body=body, kind=BINARY)

    assert_refused(answer, {415, 422}, codes={"pickle_refused", "file_type"})
    assert artifacts(world) == before


@pytest.mark.parametrize(
    "path",
    [
        "../README.md",
        "..%2f..%2fREADME.md",
        "%2e%2e/%2e%2e/README.md",
        "/etc/README.md",
        "a//README.md",
        "README.md/",
        ".hidden.md",
        "config.json%00",
        "%e2%80%ae.json",
        "x" * 300 + ".md",
        "page.html",
        "drawing.svg",
        "program.exe",
        "code.py",
        "%5c..%5cx.exe",
        "a%0ab.json",
        "",
    ],
)
def test_a_release_takes_no_file_of_a_strange_name(world: World, path: str) -> None:
    before = artifacts(world)

    answer = world.vendor.ask("PUT", f"listings/{OURS}/releases/2.0/artifacts/{path}", body=b"x", kind=BINARY)

    assert_refused(answer, {400, 404, 405, 422})
    assert artifacts(world) == before


def test_a_release_takes_no_two_files_whose_names_differ_only_in_case(world: World) -> None:
    before = artifacts(world)

    answer = world.vendor.ask("PUT", f"listings/{OURS}/releases/2.0/artifacts/README.MD", body=b"x", kind=BINARY)

    assert_refused(answer, {409, 422})
    assert artifacts(world) == before


@pytest.mark.parametrize("checksum", ["0" * 64, "abc", "sha256:" + hashlib.sha256(b"# New\n").hexdigest(), "\xff" * 64])
def test_a_file_that_differs_from_its_checksum_is_not_attached(world: World, checksum: str) -> None:
    before, headers = artifacts(world), {"X-Checksum-SHA256": checksum}
    path = f"listings/{OURS}/releases/2.0/artifacts/README.md"

    answer = world.vendor.ask("PUT", path, body=b"# New\n", kind=BINARY, headers=headers)

    assert_refused(answer, {400, 422}, codes={"checksum_mismatch", "invalid"})
    assert artifacts(world) == before


def test_an_empty_file_is_not_attached(world: World) -> None:
    before = artifacts(world)

    answer = world.vendor.ask("PUT", f"listings/{OURS}/releases/2.0/artifacts/README.md", body=b"", kind=BINARY)

    assert_refused(answer, {400, 422})
    assert artifacts(world) == before


def test_a_release_is_submitted_only_with_its_files(world: World) -> None:
    answer = world.vendor.ask("POST", f"listings/{OURS}/releases/2.0/submit/")

    problem = assert_refused(answer, {409, 422})
    assert "config.json" in problem["detail"]
    assert world.vendor.get(f"listings/{OURS}/releases/2.0/")["status"] == "draft"


def test_a_submitted_release_does_not_change(world: World) -> None:
    version = world.versions["good"]
    world.verified("good")
    path = f"listings/{OURS}/releases/{version}"
    before = artifacts(world, version)

    put = world.vendor.ask("PUT", f"{path}/artifacts/config.json", body=b"{}", kind=BINARY)
    again = world.vendor.ask("POST", f"{path}/submit/")

    assert_refused(put, {403, 409})
    assert_refused(again, {403, 409})
    assert artifacts(world, version) == before


BAD_LISTINGS = [
    pytest.param({"name": name}, {"name"}, id=label)
    for label, name in {
        "a path": "../x",
        "a slash": "a/b",
        "a space": "a b",
        "hidden": ".x",
        "a dash first": "-x",
        "97 letters": "x" * 97,
        "a million letters": "x" * 10**6,
        "NUL": "a\0b",
        "mirrored": f"{RIGHT_TO_LEFT}x",
        "taken": "efficientnet-lite0",
        "taken in capitals": "EfficientNet-Lite0",
        "reserved": "admin",
        "empty": "",
    }.items()
] + [
    pytest.param({"namespace": "nonesuch"}, {"namespace"}, id="an unknown namespace"),
    pytest.param(
        {"name": "efficientnet-l\u0456te0"},
        {"name"},
        id="a homoglyph",
    ),
    pytest.param({"title": ""}, {"title"}, id="no title"),
    pytest.param({"title": "a\0b"}, {"title"}, id="NUL in the title"),
    pytest.param({"title": "t" * 121}, {"title"}, id="a title of 121"),
    pytest.param({"task": "nonsense"}, {"task"}, id="an unknown task"),
    pytest.param({"framework": "nonsense"}, {"framework"}, id="an unknown framework"),
    pytest.param({"accuracy": 2}, {"accuracy"}, id="an accuracy of 200%"),
    pytest.param({"accuracy": -0.1}, {"accuracy"}, id="an accuracy below zero"),
    pytest.param({"accuracy": "nan"}, {"accuracy"}, id="an accuracy that is no number"),
    pytest.param({"summary": "s" * 301}, {"summary"}, id="a summary of 301"),
    pytest.param(
        {"title": f"{RIGHT_TO_LEFT}x", "name": "mirrored-title"},
        {"title"},
        id="a mirrored title",
    ),
    pytest.param(
        {"owner": "buyer", "name": "unknown-field"},
        {"owner"},
        id="an unknown field",
    ),
]


@pytest.mark.parametrize(("changes", "named"), BAD_LISTINGS)
def test_a_bad_listing_names_its_field_and_is_not_created(
    world: World, changes: dict[str, Any], named: set[str]
) -> None:
    listing = {
        "namespace": "northlight",
        "name": "never-created",
        "title": "Never created",
        "task": "image-classification",
        "framework": "timm",
        "architecture": ARCHITECTURE,
    }

    answer = world.vendor.ask("POST", "listings/", {**listing, **changes})

    problem = assert_refused(answer, {400, 409, 422})
    assert named <= field_names(problem), problem
    assert_refused(world.vendor.ask("GET", "listings/northlight/never-created/"), 404)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"version": "1.0"}, "version"),
        ({"version": ""}, "version"),
        ({"version": "../1"}, "version"),
        ({"version": "v 1"}, "version"),
        ({"version": "a\0"}, "version"),
        ({"version": f"{RIGHT_TO_LEFT}1"}, "version"),
        ({"version": "9" * 41}, "version"),
        ({"license": "gpl"}, "license"),
        ({"license": ""}, "license"),
        ({"price_minor": -1}, "price_minor"),
        ({"price_minor": "12,50"}, "price_minor"),
        ({"price_minor": 4.999}, "price_minor"),
        ({"price_minor": 10**12}, "price_minor"),
        ({"price_minor": "nan"}, "price_minor"),
        ({"currency": "eur"}, "currency"),
        ({"notes": "n" * 301}, "notes"),
        ({"status": "published"}, "status"),
        ({"currency": "XXX", "version": "9.1"}, "currency"),
    ],
)
def test_a_bad_release_names_its_field_and_is_not_created(world: World, changes: dict[str, Any], named: str) -> None:
    with unchanged(world.vendor, f"listings/{OURS}/releases/"):
        document = {"version": "9.0", "license": "mit", **changes}

        answer = world.vendor.ask("POST", f"listings/{OURS}/releases/", document)

        problem = assert_refused(answer, {400, 409, 422})
        assert named in field_names(problem), problem


# Licenses


@pytest.mark.parametrize("listing", [NONCOMMERCIAL, NO_DERIVATIVES])
def test_launching_without_a_license_names_the_model_to_license(world: World, listing: str) -> None:
    answer = world.answers[f"no grant: {listing}"]

    problem = assert_refused(answer, 403, codes={"no_license", "licence_required", "license_required"})
    assert listing in problem["detail"]


@pytest.mark.parametrize("listing", [PAID, REVIEWED])
def test_nothing_of_a_model_is_served_without_a_license(world: World, listing: str) -> None:
    file = f"listings/{listing}/releases/1.0/artifacts/model.safetensors"
    with unchanged(world.buyer, "runs/", f"listings/{listing}/grants/"):
        answers = [
            world.buyer.ask("GET", file),
            world.buyer.ask("GET", file, headers={"Range": "bytes=0-9"}),
            world.buyer.ask("POST", "runs/", world.order(listing=listing)),
            world.buyer.ask("POST", f"predict/{listing}/", body=PICTURE, kind="image/png"),
        ]
        head = world.buyer.ask("HEAD", file)

        for answer in answers:
            assert_refused(answer, 403)
        assert (head.status, head.body) == (403, b"")


@pytest.mark.parametrize(
    ("document", "status", "named"),
    [
        pytest.param({"terms_hash": "0" * 64}, 409, None, id="other terms"),
        pytest.param({}, 400, "terms_hash", id="no terms"),
        pytest.param({"terms_hash": ""}, 400, "terms_hash", id="empty terms"),
        pytest.param({"terms_hash": "x"}, 400, "terms_hash", id="no hash"),
        pytest.param({"terms_hash": 0}, 400, "terms_hash", id="a number"),
        pytest.param({"terms_hash": None}, 400, "terms_hash", id="null"),
        pytest.param({"terms_hash": ["0" * 64]}, 400, "terms_hash", id="a list"),
        pytest.param({"terms_hash": "A" * 64}, 400, "terms_hash", id="capitals"),
        pytest.param([], 400, None, id="an array"),
    ],
)
def test_terms_are_accepted_only_by_their_own_hash(world: World, document: Any, status: int, named: str | None) -> None:
    grants = f"listings/{PAID}/grants/"
    with unchanged(world.buyer, grants):
        answer = world.buyer.ask("POST", grants, document)

        problem = assert_refused(answer, status)
        assert named is None or named in field_names(problem), problem


def test_the_terms_of_another_model_are_not_accepted(world: World) -> None:
    grants = f"listings/{PAID}/grants/"
    other = world.buyer.get(f"listings/{FREE}/")["terms"]["terms_hash"]
    with unchanged(world.buyer, grants):
        answer = world.buyer.ask("POST", grants, {"terms_hash": other})

        assert_refused(answer, 409)


def test_changed_terms_are_refused_on_the_page_too(world: World) -> None:
    with unchanged(world.buyer, f"listings/{PAID}/grants/"):
        form = {"terms_hash": "0" * 64, "accept": "on"}

        page = world.buyer_pages.post(f"/models/{PAID}/license/", form)

        assert page.status in {200, 409, 422}, page
        assert "The terms have changed since you read them." in page.text


def test_a_license_is_not_given_when_the_box_was_not_ticked(world: World) -> None:
    terms = world.buyer.get(f"listings/{PAID}/")["terms"]["terms_hash"]
    with unchanged(world.buyer, f"listings/{PAID}/grants/"):
        page = world.buyer_pages.post(f"/models/{PAID}/license/", {"terms_hash": terms})

        assert page.status in {200, 422}, page
        assert "This field is required." in page.text


def test_a_paid_license_is_an_order_until_it_is_paid(world: World) -> None:
    listing = world.buyer.get(f"listings/{PAID}/")
    grants, document = f"listings/{PAID}/grants/", {"terms_hash": listing["terms"]["terms_hash"]}
    with unchanged(world.buyer, grants, "runs/"):
        keyless = world.buyer.ask("POST", grants, document)
        first = world.buyer.ask("POST", grants, document, headers={"Idempotency-Key": "one"})
        second = world.buyer.ask("POST", grants, document, headers={"Idempotency-Key": "two"})
        launched = world.buyer.ask("POST", "runs/", world.order(listing=PAID))

        assert_refused(keyless, 400, codes={"idempotency_key_missing"})
        assert first.status == 202, first
        assert first.json["status"] == "pending"
        assert first.json["amount_minor"] == listing["terms"]["price_minor"]
        assert (second.status, second.json["id"]) == (202, first.json["id"])
        assert_refused(launched, 403)
        assert world.vendor_pages.get(first.json["url"]).status in {200, 404}


def test_a_reviewed_model_asks_for_approval_first(world: World) -> None:
    grants = f"listings/{REVIEWED}/grants/"
    terms = world.buyer.get(f"listings/{REVIEWED}/")["terms"]["terms_hash"]
    with unchanged(world.buyer, grants, "runs/"):
        answer = world.buyer.ask("POST", grants, {"terms_hash": terms})
        launched = world.buyer.ask("POST", "runs/", world.order(listing=REVIEWED))

        problem = assert_refused(answer, {403, 409})
        assert "approv" in problem["detail"].lower()
        assert_refused(launched, 403)


def test_an_organization_needs_no_license_of_its_own_model(world: World) -> None:
    terms = world.vendor.get(f"listings/{FREE}/")["terms"]["terms_hash"]
    document = {"terms_hash": terms, "licensee": FREE.split("/", maxsplit=1)[0]}
    with unchanged(world.vendor, f"listings/{FREE}/grants/"):
        answer = world.vendor.ask("POST", f"listings/{FREE}/grants/", document)

        assert_refused(answer, {403, 409}, codes={"own_model"})


def test_the_same_license_twice_is_one_license(world: World) -> None:
    grants = f"listings/{NONCOMMERCIAL}/grants/"
    terms = world.buyer.get(f"listings/{NONCOMMERCIAL}/")["terms"]["terms_hash"]
    with unchanged(world.buyer, grants):
        answer = world.buyer.ask("POST", grants, {"terms_hash": terms})

        assert answer.status in {200, 201}, answer


@pytest.mark.parametrize(
    ("licensee", "status"),
    [
        ("northlight", {403, 404}),
        ("nonesuch", {404, 422}),
    ],
)
def test_nobody_accepts_terms_for_others(world: World, licensee: str, status: set[int]) -> None:
    grants = f"listings/{PAID}/grants/"
    terms = world.buyer.get(f"listings/{PAID}/")["terms"]["terms_hash"]
    with unchanged(world.buyer, grants):
        answer = world.buyer.ask("POST", grants, {"terms_hash": terms, "licensee": licensee})

        problem = assert_refused(answer, status)
        assert field_names(problem) <= {"licensee"}, problem


# Fine-tunes


@pytest.mark.parametrize("listing", [NONCOMMERCIAL, NO_DERIVATIVES])
def test_the_same_fine_tune_twice_is_one_run(world: World, listing: str) -> None:
    answer = world.answers[f"twice: {listing}"]

    problem = assert_refused(answer, 409, codes={"duplicate_run", "duplicate_job"})
    assert problem["run"] == world.runs[listing]


@pytest.mark.parametrize("listing", [NONCOMMERCIAL, NO_DERIVATIVES])
def test_a_run_is_published_only_when_it_is_done(world: World, listing: str) -> None:
    answer = world.answers[f"too early: {listing}"]

    assert_refused(answer, {409}, codes={"not_publishable"})
    assert_refused(world.buyer.ask("GET", "listings/buyer/too-early/"), 404)


def test_a_data_set_in_use_is_not_deleted(world: World) -> None:
    assert_refused(world.answers["data set in use"], 409)
    assert world.buyer.get(f"datasets/{world.runs['dataset']}/")["status"] == "valid"


HYPER = [
    pytest.param({"epochs": 10**9}, "epochs", id="epochs 1e9"),
    pytest.param({"epochs": 0}, "epochs", id="epochs 0"),
    pytest.param({"epochs": -1}, "epochs", id="epochs -1"),
    pytest.param({"epochs": 1.5}, "epochs", id="epochs 1.5"),
    pytest.param({"epochs": 10**400}, "epochs", id="epochs 1e400"),
    pytest.param({"epochs": True}, "epochs", id="epochs true"),
    pytest.param({"epochs": None}, "epochs", id="epochs null"),
    pytest.param({"epochs": [3]}, "epochs", id="epochs in a list"),
    pytest.param({"learning_rate": -1}, "learning_rate", id="a negative rate"),
    pytest.param({"learning_rate": 0}, "learning_rate", id="no rate"),
    pytest.param({"learning_rate": "nan"}, "learning_rate", id="a rate of nan in quotes"),
    pytest.param({"learning_rate": "inf"}, "learning_rate", id="a rate of inf in quotes"),
    pytest.param({"weight_decay": 2}, "weight_decay", id="too much decay"),
    pytest.param({"label_smoothing": 0.9}, "label_smoothing", id="too much smoothing"),
    pytest.param({"batch_size": 1}, "batch_size", id="batches of 1"),
    pytest.param({"batch_size": 10**6}, "batch_size", id="batches of a million"),
    pytest.param({"patience": -1}, "patience", id="negative patience"),
    pytest.param({"seed": 2**64}, "seed", id="a seed of 2^64"),
    pytest.param({"seed": -1}, "seed", id="a negative seed"),
    pytest.param({"augmentation": "heavy"}, "augmentation", id="an unknown augmentation"),
    pytest.param({"horizontal_flip": "maybe"}, "horizontal_flip", id="an unclear flip"),
    pytest.param({"momentum": 0.9}, "momentum", id="an unknown setting"),
]


@pytest.mark.parametrize(("hyper", "named"), HYPER)
def test_a_bad_setting_is_refused_by_its_name(world: World, hyper: dict[str, Any], named: str) -> None:
    with unchanged(world.buyer, "runs/"):
        answer = world.buyer.ask("POST", "runs/", world.order(hyper={"seed": 123, **hyper}))

        problem = assert_refused(answer, {400, 422})
        assert named in field_names(problem), problem


@pytest.mark.parametrize(
    "number",
    [
        "1e400",
        "NaN",
        "-Infinity",
    ],
)
def test_a_number_that_is_none_is_refused(world: World, number: str) -> None:
    body = json.dumps(world.order(hyper={"learning_rate": 0.5})).replace("0.5", number).encode()
    with unchanged(world.buyer, "runs/"):
        answer = world.buyer.ask("POST", "runs/", body=body, kind="application/json")

        assert_refused(answer, 400)


ORDERS = [
    pytest.param({"strategy": "banana"}, 400, "strategy", id="an unknown strategy"),
    pytest.param({"strategy": ""}, 400, "strategy", id="an empty strategy"),
    pytest.param({"strategy": None}, 400, "strategy", id="a strategy of null"),
    pytest.param({"hyper": []}, 400, None, id="settings in an array"),
    pytest.param({"hyper": "x"}, 400, None, id="settings in a text"),
    pytest.param({"hyper": None}, 400, "hyper", id="settings of null"),
    pytest.param({"dataset": NOBODY}, 404, None, id="no such data set"),
    pytest.param({"dataset": "abc"}, {400, 404}, None, id="a data set that is no UUID"),
    pytest.param({"dataset": "../../etc"}, {400, 404}, None, id="a data set that is a path"),
    pytest.param({"dataset": 1}, {400, 404}, None, id="a data set by number"),
    pytest.param({"dataset": None}, 400, "dataset", id="a data set of null"),
    pytest.param({"dataset": [NOBODY]}, 400, "dataset", id="a list of data sets"),
    pytest.param({"listing": "a/b"}, 404, None, id="no such model"),
    pytest.param({"listing": "../x"}, 404, None, id="a model that is a path"),
    pytest.param({"listing": 5}, 400, "listing", id="a model by number"),
    pytest.param({"listing": "a\0/b"}, 400, "listing", id="NUL in the model"),
    pytest.param({"listing": "x" * 10**6}, 400, "listing", id="a model of a million letters"),
    pytest.param(
        {"listing": "x/" + "y" * 10**6},
        {400, 404},
        None,
        id="a model and a million letters",
    ),
    pytest.param({"listing": "\ud800/x"}, 400, "listing", id="half a character"),
    pytest.param({"version": "99"}, 404, None, id="no such version"),
    pytest.param({"version": ""}, 400, "version", id="an empty version"),
    pytest.param({"version": "a\0"}, 400, "version", id="NUL in the version"),
    pytest.param({"owner": "vendor"}, 400, "owner", id="an unknown field"),
    pytest.param({"status": "succeeded"}, 400, "status", id="a read-only field"),
]


@pytest.mark.parametrize(("changes", "status", "named"), ORDERS)
def test_a_bad_order_of_a_fine_tune_is_refused(
    world: World, changes: dict[str, Any], status: int | set[int], named: str | None
) -> None:
    with unchanged(world.buyer, "runs/"):
        answer = world.buyer.ask("POST", "runs/", world.order(**changes))

        problem = assert_refused(answer, status)
        assert named is None or named in field_names(problem), problem


def test_somebody_elses_data_set_does_not_exist(world: World) -> None:
    with unchanged(world.buyer, "runs/"):
        foreign = world.buyer.ask("POST", "runs/", world.order(dataset=world.datasets["four inks"]))
        absent = world.buyer.ask("POST", "runs/", world.order(dataset=NOBODY))

        assert_refused(foreign, 404)
        assert foreign.json == absent.json


def test_an_unusable_data_set_trains_nothing(world: World) -> None:
    unusable = world.runs["unusable dataset"]
    world.outcome(world.buyer, f"datasets/{unusable}/", {"checking"})
    with unchanged(world.buyer, "runs/"):
        answer = world.buyer.ask("POST", "runs/", world.order(dataset=unusable))

        assert_refused(answer, {403, 409})


def test_the_form_of_a_fine_tune_says_each_field_s_fault(world: World) -> None:
    path = f"/runs/new/?model={NONCOMMERCIAL}&dataset={world.runs['dataset']}"
    form = {"strategy": "banana", "epochs": "1000000000", "learning_rate": "nan", "batch_size": "-1", "seed": "x"}
    with unchanged(world.buyer, "runs/"):
        page = world.buyer_pages.post(path, {"dataset": world.runs["dataset"], **form})

        assert page.status in {200, 422}, page
        assert "banana is not one of the available choices." in page.text
        assert "Ensure this value is less than or equal to 200." in page.text
        assert "Ensure this value is greater than or equal to 2." in page.text
        assert "Enter a number." in page.text
        assert "Enter a whole number." in page.text


@pytest.mark.parametrize("after", ["-1", "abc", "", "1.5", "NaN", "%00", "9" * 30])
def test_a_bad_cursor_of_events_is_refused(world: World, after: str) -> None:
    answer = world.buyer.ask("GET", f"runs/{world.runs['canceled']}/events/?after={after}")

    problem = assert_refused(answer, {400, 422})
    assert field_names(problem) == {"after"}


def test_a_run_that_has_ended_is_not_canceled_again(world: World) -> None:
    answer = world.buyer.ask("POST", f"runs/{world.runs['canceled']}/cancel/")

    assert_refused(answer, {409}, codes={"already_finished"})


def test_a_canceled_run_is_not_published(world: World) -> None:
    path = f"runs/{world.runs['canceled']}/publish/"

    answer = world.buyer.ask("POST", path, {"namespace": "buyer", "name": "canceled"})

    assert_refused(answer, {409}, codes={"not_publishable"})
    assert_refused(world.buyer.ask("GET", "listings/buyer/canceled/"), 404)


UNVERIFIED = [
    pytest.param("draft", id="a draft"),
    pytest.param("a renamed key", id="a rejected release"),
]


@pytest.mark.parametrize("name", UNVERIFIED)
def test_an_unverified_release_is_not_fine_tuned(world: World, name: str) -> None:
    if name != "draft":
        world.verified(name)
    order = world.order(listing=OURS, version=world.versions[name], dataset=world.datasets["four inks"])
    world.checked("four inks")
    with unchanged(world.vendor, "runs/"):
        answer = world.vendor.ask("POST", "runs/", order)

        problem = assert_refused(answer, {403, 409, 422})
        assert problem["code"] != "duplicate_run", "taken for the fine-tune of another release without a manifest"


@pytest.mark.parametrize("name", UNVERIFIED)
def test_an_unverified_release_predicts_nothing(world: World, name: str) -> None:
    path = f"predict/{OURS}/?version={world.versions[name]}"

    answer = world.vendor.ask("POST", path, body=PICTURE, kind="image/png")

    problem = assert_refused(answer, {403, 404, 409})
    assert "/predict/" not in problem["detail"]


@pytest.fixture(scope="module")
def withdrawn(world: World) -> dict[str, Answer]:
    """What was answered while a release was published, licensed and withdrawn."""
    release, version = world.verified("good"), world.versions["good"]
    path = f"listings/{OURS}/releases/{version}"
    terms = {"terms_hash": release["terms"]["terms_hash"]}
    return {
        "published": world.vendor.ask("POST", f"{path}/publish/"),
        "licensed": world.buyer.ask("POST", f"listings/{OURS}/grants/", terms),
        "by a stranger": world.buyer.ask("POST", f"{path}/yank/", {"reason": "Mine."}),
        "without a reason": world.vendor.ask("POST", f"{path}/yank/", {}),
        "with a long reason": world.vendor.ask("POST", f"{path}/yank/", {"reason": "r" * 301}),
        "yanked": world.vendor.ask("POST", f"{path}/yank/", {"reason": "Wrong weights."}),
        "again": world.vendor.ask("POST", f"{path}/yank/", {"reason": "Wrong weights."}),
        "published again": world.vendor.ask("POST", f"{path}/publish/"),
        "licensed again": world.buyer.ask("POST", f"listings/{OURS}/grants/", terms),
        "served": world.buyer.ask("GET", f"{path}/artifacts/config.json"),
    }


def test_a_release_is_withdrawn_once_by_its_vendor_with_a_reason(withdrawn: dict[str, Answer]) -> None:
    assert (withdrawn["published"].status, withdrawn["licensed"].status) == (200, 201)
    assert_refused(withdrawn["by a stranger"], {403, 404})
    assert "reason" in field_names(assert_refused(withdrawn["without a reason"], 400))
    assert "reason" in field_names(assert_refused(withdrawn["with a long reason"], 400))
    assert (withdrawn["yanked"].status, withdrawn["yanked"].json["status"]) == (200, "yanked")
    assert_refused(withdrawn["again"], {403, 409})


def test_a_withdrawn_release_is_served_to_its_licensees_alone(withdrawn: dict[str, Answer]) -> None:
    assert_refused(withdrawn["licensed again"], {403, 404, 409})
    assert (withdrawn["served"].status, withdrawn["served"].body) == (200, json.dumps(CONFIG).encode())


LICENSEE_PAGES = [
    "/runs/new/",
    f"/runs/new/?model={OURS}",
    f"/models/{OURS}/",
    f"/models/{OURS}/license/",
    f"/models/{OURS}/try/",
    "/licenses/",
    "/models/",
    "/runs/",
]


@pytest.mark.parametrize("path", LICENSEE_PAGES)
def test_the_pages_of_a_licensee_outlive_a_withdrawal(world: World, withdrawn: dict[str, Answer], path: str) -> None:
    assert withdrawn["yanked"].status == 200

    page = world.buyer_pages.get(path)

    assert page.status == 200


def test_publishing_what_is_withdrawn_is_not_answered_with_advice_to_submit_it(withdrawn: dict[str, Answer]) -> None:
    problem = assert_refused(withdrawn["published again"], {403, 409})

    assert "Submit it" not in problem["detail"]


@pytest.mark.parametrize("version", [None, "1.0"])
def test_a_withdrawn_release_is_not_fine_tuned(world: World, withdrawn: dict[str, Answer], version: str | None) -> None:
    order = world.order(listing=OURS) if version is None else world.order(listing=OURS, version=version)
    assert withdrawn["yanked"].status == 200
    assert world.versions["good"] == "1.0"

    with unchanged(world.buyer, "runs/"):
        answer = world.buyer.ask("POST", "runs/", order)

        problem = assert_refused(answer, {403, 409}, codes={"release_withdrawn"})
        assert "Wrong weights." in problem["detail"]


# Derivatives


def test_a_derivative_is_not_shared_when_its_parent_forbids_it(world: World) -> None:
    run = world.finished(NO_DERIVATIVES)
    assert run["status"] == "succeeded", run["failure"]

    answer = world.buyer.ask("POST", f"runs/{run['id']}/publish/", {"namespace": "buyer", "name": "forbidden"})
    page = world.buyer_pages.get(f"/runs/{run['id']}/publish/")

    problem = assert_refused(answer, {403, 409})
    assert "NoDerivatives" in problem["detail"]
    assert "share what you fine-tune" in problem["detail"]
    assert problem["detail"] in page.text
    assert_refused(world.buyer.ask("GET", "listings/buyer/forbidden/"), 404)


def test_a_derivative_is_not_sold_when_its_parent_forbids_it(world: World) -> None:
    run = world.finished(NONCOMMERCIAL)
    assert run["status"] == "succeeded", run["failure"]
    document = {"namespace": "buyer", "name": "for-sale", "price_minor": 500}
    form = {"namespace": "buyer", "name": "for-sale", "version": "1.0", "price": "5"}

    answer = world.buyer.ask("POST", f"runs/{run['id']}/publish/", document)
    page = world.buyer_pages.post(f"/runs/{run['id']}/publish/", form)

    problem = assert_refused(answer, {403, 409, 422})
    assert "NonCommercial" in problem["detail"]
    assert re.search("sell|price", problem["detail"]), problem
    assert problem["detail"] in page.text
    assert_refused(world.buyer.ask("GET", "listings/buyer/for-sale/"), 404)


@pytest.mark.parametrize(
    ("changes", "status", "named"),
    [
        pytest.param({"namespace": "northlight"}, {403, 404}, None, id="somebody else's namespace"),
        pytest.param({"namespace": "nonesuch"}, {404, 422}, None, id="no such namespace"),
        pytest.param({"name": ""}, {400, 422}, "name", id="no name"),
        pytest.param({"name": "../x"}, {400, 422}, "name", id="a path"),
        pytest.param({"name": "a/b"}, {400, 422}, "name", id="a slash"),
        pytest.param({"name": ".hidden"}, {400, 422}, "name", id="a hidden name"),
        pytest.param({"name": "a\0b"}, {400, 422}, "name", id="NUL in the name"),
        pytest.param({"name": f"{RIGHT_TO_LEFT}x"}, {400, 422}, "name", id="a mirrored name"),
        pytest.param({"name": "x" * 10**6}, {400, 422}, "name", id="a name of a million"),
        pytest.param({"version": "../1"}, {400, 422}, "version", id="a version that is a path"),
        pytest.param({"title": "t" * 121}, {400, 422}, "title", id="a title of 121"),
        pytest.param({"title": "\0"}, {400, 422}, "title", id="NUL in the title"),
        pytest.param({"price_minor": -1}, {400, 422}, "price_minor", id="a price below zero"),
        pytest.param({"price_minor": "12,50"}, {400, 422}, "price_minor", id="a price with a comma"),
        pytest.param({"price_minor": 10**12}, {400, 422}, "price_minor", id="a price of millions"),
    ],
)
def test_a_bad_name_or_price_of_a_derivative_is_refused(
    world: World, changes: dict[str, Any], status: set[int], named: str | None
) -> None:
    run = world.finished(NONCOMMERCIAL)
    document = {"namespace": "buyer", "name": "never-published", **changes}

    answer = world.buyer.ask("POST", f"runs/{run['id']}/publish/", document)

    problem = assert_refused(answer, status)
    assert named is None or named in field_names(problem), problem
    assert world.buyer.get(f"runs/{run['id']}/")["derivative"] is None
    assert_refused(world.buyer.ask("GET", "listings/buyer/never-published/"), 404)


def test_an_account_has_only_so_many_runs_at_once(world: World) -> None:
    world.finished(NONCOMMERCIAL)
    world.finished(NO_DERIVATIVES)
    orders = [world.order(hyper={"seed": 1000 + number}) for number in range(5)]

    answers = [world.buyer.ask("POST", "runs/", order) for order in orders]

    launched = [answer.json["id"] for answer in answers if answer.status == 201]
    canceled = [world.buyer.ask("POST", f"runs/{run}/cancel/").status for run in launched]
    assert len(launched) == 4
    assert canceled == [200] * 4
    assert_refused(answers[-1], {403, 409, 429})


# Other people's things


def test_nothing_of_another_account_exists(world: World) -> None:
    dataset, run = world.datasets["four inks"], world.runs[NONCOMMERCIAL]
    world.checked("four inks")
    foreign = [
        (world.buyer, "GET", f"datasets/{dataset}/", None),
        (world.buyer, "DELETE", f"datasets/{dataset}/", None),
        (world.buyer, "GET", f"listings/{OURS}/releases/2.0/", None),
        (world.buyer, "GET", f"listings/{OURS}/releases/2.0/artifacts/README.md", None),
        (world.vendor, "GET", f"runs/{run}/", None),
        (world.vendor, "GET", f"runs/{run}/events/?after=0", None),
        (world.vendor, "POST", f"runs/{run}/cancel/", {}),
        (world.vendor, "POST", f"runs/{run}/publish/", {"namespace": "northlight", "name": "stolen"}),
        (world.vendor, "GET", f"datasets/{world.runs['dataset']}/", None),
        (world.vendor, "DELETE", f"datasets/{world.runs['dataset']}/", None),
    ]
    absent = world.buyer.ask("GET", f"datasets/{NOBODY}/").json

    answers = [api.ask(method, path, document) for api, method, path, document in foreign]

    for answer in answers:
        assert_refused(answer, 404)
        assert answer.json == absent
    assert world.vendor.get(f"datasets/{dataset}/")["status"] == "valid"
    assert world.buyer.get(f"runs/{run}/")["status"] != "canceled"


def test_no_page_of_another_account_exists(world: World) -> None:
    dataset, run = world.datasets["four inks"], world.runs[NONCOMMERCIAL]
    world.checked("four inks")
    foreign = [
        (world.buyer_pages, f"/datasets/{dataset}/"),
        (world.buyer_pages, f"/datasets/{dataset}/thumbnails/1.jpg"),
        (world.vendor_pages, f"/runs/{run}/"),
        (world.vendor_pages, f"/runs/{run}/publish/"),
        (world.vendor_pages, f"/datasets/{world.runs['dataset']}/"),
    ]

    pages = [browser.get(path) for browser, path in foreign]

    for page in pages:
        assert page.status == 404
        assert "Traceback" not in page.text
        assert page.text


def test_a_visitor_is_asked_to_sign_in(world: World) -> None:
    visitor = Browser(world.stack)

    for path in ("/datasets/", f"/datasets/{world.datasets['four inks']}/", "/runs/", "/datasets/new/"):
        page = visitor.get(path)
        assert page.status == 302, (path, page.status)
        assert page.headers["location"].startswith("/account/login/")


@pytest.mark.parametrize("identity", ["abc", "1", "-1", NOBODY, "%00", "..%2f..", "%F0%9F%98%82", "x" * 3000])
@pytest.mark.parametrize("kind", ["datasets", "runs"])
def test_an_unknown_identity_is_not_found(world: World, kind: str, identity: str) -> None:
    answer = world.buyer.ask("GET", f"{kind}/{identity}/")
    page = world.buyer_pages.get(f"/{kind}/{identity}/")

    assert answer.status == 404, answer
    assert "Traceback" not in answer.body.decode()
    assert page.status == 404
    assert page.kind == "text/html"


@pytest.mark.parametrize("path", ["nothing/", "runs/a/b/c/", "listings/a/b/c/d/", "datasets/..%2f../"])
def test_an_unknown_address_of_the_api_is_not_found_in_json(world: World, path: str) -> None:
    answer = world.buyer.ask("GET", path)

    assert_refused(answer, 404)


# Tokens


def token_cases(world: World) -> dict[str, dict[str, str]]:
    good = world.buyer.token
    last = "A" if good[-1] != "A" else "B"
    return {
        "no token": {},
        "an empty header": {"Authorization": ""},
        "no value": {"Authorization": "Bearer"},
        "garbage": {"Authorization": "Bearer x"},
        "one letter changed": {"Authorization": f"Bearer {good[:-1]}{last}"},
        "one letter more": {"Authorization": f"Bearer {good}x"},
        "two tokens": {"Authorization": f"Bearer {good} {good}"},
        "other case": {"Authorization": f"Bearer {good.upper()}"},
        "a name and a password": {"Authorization": "Basic YnV5ZXI6bWFya2V0cGxhY2UtZGVtbw=="},
        "no scheme": {"Authorization": good},
        "bytes": {"Authorization": "Bearer \xff\xfe"},
        "100,000 letters": {"Authorization": "Bearer " + "A" * 100_000},
        "SQL": {"Authorization": "Bearer ' OR 1=1 --"},
        "another header": {"X-Api-Key": good},
        "a cookie": {"Cookie": f"token={good}"},
        "expired": {"Authorization": f"Bearer {world.expired.token}"},
    }


def test_no_token_but_a_valid_one_opens_the_api(world: World) -> None:
    for name, headers in token_cases(world).items():
        answer = ask(world.stack, "GET", "/api/v1/runs/", headers=headers)

        problem = assert_refused(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer"), name
        assert world.buyer.token not in json.dumps(problem), name


def test_a_revoked_token_opens_nothing(world: World) -> None:
    assert world.revoked.ask("GET", "runs/").status == 200
    page = world.buyer_pages.get("/account/tokens/")
    action = re.search(r'to be revoked.*?action="([^"]*/revoke/)"', page.body.decode(), re.DOTALL)
    assert action, "the tokens page has no form to revoke a token"

    world.buyer_pages.send(action.group(1), world.buyer_pages.protection(page))

    assert_refused(world.revoked.ask("GET", "runs/"), 401)


def test_a_token_in_the_address_is_refused_by_name(world: World) -> None:
    secret = world.stack.manage("issue_token", "buyer", "--scope", "runs:read")

    answer = ask(world.stack, "GET", f"/api/v1/runs/?token={secret}")

    assert_refused(answer, 400, codes={"token_in_url"})
    assert ask(world.stack, "GET", "/api/v1/runs/", token=secret).status == 401


SCOPED = [
    ("GET", "datasets/", "datasets:read"),
    ("POST", "datasets/", "datasets:write"),
    ("DELETE", f"datasets/{NOBODY}/", "datasets:write"),
    ("GET", "runs/", "runs:read"),
    ("POST", "runs/", "runs:write"),
    ("POST", f"runs/{NOBODY}/cancel/", "runs:write"),
    ("POST", "listings/", "models:write"),
    ("GET", f"listings/{FREE}/grants/", "licenses:read"),
    ("POST", f"listings/{FREE}/grants/", "licenses:write"),
    ("POST", f"predict/{NONCOMMERCIAL}/", "predict"),
]


@pytest.mark.parametrize(("method", "path", "scope"), SCOPED)
def test_a_token_does_only_what_its_scopes_say(world: World, method: str, path: str, scope: str) -> None:
    answer = world.reader.ask(method, path, {} if method == "POST" else None)

    problem = assert_refused(answer, 403)
    assert scope in problem["detail"]


def test_a_scope_does_not_tell_what_exists(world: World) -> None:
    absent = world.reader.ask("GET", f"datasets/{NOBODY}/")
    own = world.reader.ask("GET", f"datasets/{world.runs['dataset']}/")

    assert absent.json == own.json


# The shape of requests


POSTS = ["runs/", "listings/", f"listings/{PAID}/grants/"]
DOCUMENTS = [
    pytest.param(b"[]", "application/json", 400, id="an array"),
    pytest.param(b'"text"', "application/json", 400, id="a text"),
    pytest.param(b"1", "application/json", 400, id="a number"),
    pytest.param(b"{}", "application/json", 400, id="an empty object"),
    pytest.param(b"", "application/json", 400, id="nothing"),
    pytest.param(b"a=b", "application/x-www-form-urlencoded", 415, id="a form"),
    pytest.param(b"<a/>", "application/xml", 415, id="XML"),
    pytest.param(b"{}", "text/plain", 415, id="text"),
    pytest.param(b"{}", "nonsense", 415, id="no type"),
    pytest.param(b"null", "application/json", 400, id="null"),
    pytest.param(
        b"{",
        "application/json",
        400,
        id="broken JSON",
    ),
    pytest.param(
        b"\xff\xfe{",
        "application/json",
        400,
        id="bytes",
    ),
    pytest.param(b"[" * 100_000, "application/json", 400, id="a deep array"),
    pytest.param(
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        "application/json",
        400,
        id="a deep object",
    ),
    pytest.param(b'{"a":"' + b"x" * (11 << 20) + b'"}', "application/json", 413, id="11 MiB"),
]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(("body", "kind", "status"), DOCUMENTS)
def test_a_body_that_is_no_object_is_refused(world: World, path: str, body: bytes, kind: str, status: int) -> None:
    api = world.vendor if path == "listings/" else world.buyer

    answer = api.ask("POST", path, body=body, kind=kind)

    assert_refused(answer, status)


@pytest.mark.parametrize("path", ["datasets/", "runs/", "listings/"])
@pytest.mark.parametrize(
    "query",
    [
        "cursor=zzzz",
        pytest.param("cursor=cD0lMDA%3D", id="a cursor of NUL"),
        pytest.param("cursor=cD0n", id="a cursor of a quote"),
        "page_size=-1",
        "page_size=0",
        "page_size=abc",
        "page=-1",
        "ordering=password",
    ],
)
def test_a_bad_place_in_a_list_is_refused(world: World, path: str, query: str) -> None:
    answer = world.buyer.ask("GET", f"{path}?{query}")

    assert_refused(answer, {400, 404, 422})


@pytest.mark.parametrize(
    "query", ["page_size=1000000000", "cursor=cj0xJnA9LTE%3D", "cursor=" + "A" * 3000, "cursor=%00"]
)
def test_an_absurd_page_is_an_ordinary_page(world: World, query: str) -> None:
    answer = world.buyer.ask("GET", f"listings/?{query}")

    if answer.status != 200:
        assert_refused(answer, {400, 404, 422})
    else:
        assert len(answer.json["results"]) <= 100


FILTERS = ["task", "framework", "price", "right", "size"]


@pytest.mark.parametrize("name", FILTERS)
def test_an_unknown_value_of_a_filter_is_refused_by_its_name(world: World, name: str) -> None:
    answer = world.buyer.ask("GET", f"listings/?{name}=nonsense")

    problem = assert_refused(answer, {400, 422})
    assert field_names(problem) == {name}


@pytest.mark.parametrize("search", ["%00", "%ff%fe", "%25_%5C", "'%22;--", "%F0%9F%98%82", "x" * 5000])
def test_a_strange_search_finds_nothing_or_is_refused(world: World, search: str) -> None:
    answer = world.buyer.ask("GET", f"listings/?search={search}")
    page = world.buyer_pages.get(f"/models/?q={search}")

    assert answer.status in {200, 400, 422}, answer
    assert answer.kind.endswith("json")
    assert page.status in {200, 400, 422}


@pytest.mark.parametrize("path", ["/api/v1/listings/?search=", "/models/?q="])
def test_a_search_of_60000_letters_is_refused_or_finds_nothing(world: World, path: str) -> None:
    answer = ask(world.stack, "GET", path + "x" * 60_000, token=world.buyer.token)

    assert answer.status in {200, 400, 414, 422}, answer.status


@pytest.mark.parametrize("accept", ["application/xml", "text/html", "image/png"])
def test_an_answer_of_another_kind_is_not_acceptable(world: World, accept: str) -> None:
    answer = world.buyer.ask("GET", "runs/", headers={"Accept": accept})

    assert_refused(answer, 406)


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", f"listings/{FREE}/"), ("DELETE", f"listings/{FREE}/"), ("DELETE", "runs/"), ("GET", f"predict/{FREE}/"), ("TRACE", "runs/")],
)  # fmt: skip
def test_a_method_that_is_not_served_is_refused(world: World, method: str, path: str) -> None:
    answer = world.vendor.ask(method, path)

    assert_refused(answer, 405)


@pytest.mark.parametrize("document", [{"title": ""}, {"title": "a\0b"}, {"accuracy": 5}, {"summary": "s" * 301}, []])
def test_a_bad_edit_changes_nothing(world: World, document: Any) -> None:
    before = world.vendor.get(f"listings/{OURS}/")

    answer = world.vendor.ask("PATCH", f"listings/{OURS}/", document)

    assert_refused(answer, {400, 422})
    assert world.vendor.get(f"listings/{OURS}/") == before


@pytest.mark.parametrize("listing", [FREE, PAID])
def test_a_buyer_does_not_edit_what_a_vendor_sells(world: World, listing: str) -> None:
    before = world.buyer.get(f"listings/{listing}/")
    answers = [
        world.buyer.ask("PATCH", f"listings/{listing}/", {"title": "Mine"}),
        world.buyer.ask("POST", f"listings/{listing}/releases/", {"version": "9.9", "license": "mit"}),
        world.buyer.ask("POST", f"listings/{listing}/releases/1.0/yank/", {"reason": "Mine."}),
        world.buyer.ask("PUT", f"listings/{listing}/releases/1.0/artifacts/README.md", body=b"x", kind=BINARY),
    ]

    for answer in answers:
        assert_refused(answer, {403, 404})
    assert world.buyer.get(f"listings/{listing}/") == before


@pytest.mark.parametrize("header", ["Host", "X-Forwarded-Host"])
def test_a_forged_host_is_refused_or_ignored(world: World, header: str) -> None:
    answer = ask(world.stack, "GET", "/api/v1/listings/", headers={header: "evil.example"}, token=world.buyer.token)

    assert answer.status in {200, 400}
    assert b"evil.example" not in answer.body


def test_a_form_without_its_token_is_refused(world: World) -> None:
    page = world.buyer_pages.send("/datasets/new/", {"name": "x"})

    assert page.status == 403
    assert "Traceback" not in page.text
    assert "DEBUG" not in page.text


# Ranges


FILE = f"listings/{FREE}/releases/1.0/artifacts/README.md"
MANY_RANGES = "bytes=" + ",".join(f"{n}-{n}" for n in range(1000))


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=-5", slice(-5, None)),
        ("bytes=-99999999", slice(None)),
        ("bytes=10-", slice(10, None)),
        ("bytes=0-99999999999999999999999", slice(None)),
    ],
)
def test_a_range_is_served(world: World, header: str, part: slice) -> None:
    whole = world.vendor.ask("GET", FILE).body

    answer = world.vendor.ask("GET", FILE, headers={"Range": header})

    start, stop, _ = part.indices(len(whole))
    assert answer.status == 206
    assert answer.body == whole[part]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(whole)}"


@pytest.mark.parametrize("header", ["bytes=9999999999-", "bytes=-0"])
def test_a_range_beyond_the_end_is_not_satisfiable(world: World, header: str) -> None:
    size = len(world.vendor.ask("GET", FILE).body)

    answer = world.vendor.ask("GET", FILE, headers={"Range": header})

    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{size}"


def test_a_range_beyond_the_end_is_explained(world: World) -> None:
    answer = world.vendor.ask("GET", FILE, headers={"Range": "bytes=9999999999-"})

    assert_refused(answer, 416)


@pytest.mark.parametrize(
    "header", ["bytes=5-1", "bytes=0-0,2-3", MANY_RANGES, "bytes=abc", "bytes=", "bytes=-", "lines=0-5", "bytes=0x1-5"]
)
def test_a_range_that_means_nothing_gets_the_whole_file(world: World, header: str) -> None:
    whole = world.vendor.ask("GET", FILE)

    answer = world.vendor.ask("GET", FILE, headers={"Range": header})

    assert answer.status == 200
    assert answer.body == whole.body


def test_a_range_of_an_older_file_gets_the_whole_file(world: World) -> None:
    whole = world.vendor.ask("GET", FILE)

    answer = world.vendor.ask("GET", FILE, headers={"Range": "bytes=0-9", "If-Range": '"another"'})

    assert (answer.status, answer.body) == (200, whole.body)


@pytest.mark.parametrize("path", ["nothing.json", "..%2f..%2f..%2fdb.sqlite3", "%2fetc%2fpasswd", "config.json%00"])
def test_a_file_that_is_not_of_the_release_is_not_found(world: World, path: str) -> None:
    answer = world.vendor.ask("GET", f"listings/{FREE}/releases/1.0/artifacts/{path}")

    assert_refused(answer, 404)


# Predictions


@pytest.mark.parametrize(
    ("make", "kind", "status"),
    [
        pytest.param(lambda: b"", BINARY, 422, id="nothing"),
        pytest.param(lambda: b"garbage" * 100, BINARY, 422, id="garbage"),
        pytest.param(lambda: b"hello", "text/plain", 422, id="text"),
        pytest.param(lambda: b"{}", "application/json", 422, id="JSON"),
        pytest.param(lambda: GOOD_ZIP, "application/zip", 422, id="a zip"),
        pytest.param(lambda: b"<svg/>", "image/svg+xml", 422, id="a drawing"),
        pytest.param(lambda: encoded(picture(1), "BMP"), "image/bmp", 422, id="BMP"),
        pytest.param(lambda: encoded(picture(1), "GIF"), "image/gif", 422, id="GIF"),
        pytest.param(lambda: encoded(picture(1), "JPEG")[:-400], "image/jpeg", 422, id="a truncated JPEG"),
        pytest.param(lambda: b"\x89PNG\r\n\x1a\n" + b"\xff" * 1000, "image/png", 422, id="a broken PNG"),
        pytest.param(lambda: hostile.png_of(0, 0), "image/png", 422, id="0 pixels"),
        pytest.param(hostile.vast_png, "image/png", 422, id="20,000 pixels"),
        pytest.param(lambda: hostile.png_of(30_000, 30_000), "image/png", 422, id="a false size"),
        pytest.param(hostile.text_bomb_png, "image/png", 422, id="a comment that is a bomb"),
        pytest.param(lambda: bytes(30 << 20), BINARY, 413, id="30 MiB"),
        pytest.param(lambda: b"--b--", "multipart/form-data; boundary=b", 422, id="an empty form"),
    ],
)
def test_only_an_image_is_classified(world: World, make: Callable[[], bytes], kind: str, status: int) -> None:
    answer = world.vendor.ask("POST", f"predict/{FREE}/", body=make(), kind=kind)

    assert_refused(answer, {status, 400})


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: hostile.sixteen_bit_png(1), id="16 bit"),
        pytest.param(lambda: encoded(picture(1).convert("CMYK"), "JPEG"), id="CMYK"),
        pytest.param(lambda: encoded(picture(1).convert("P")), id="palette"),
        pytest.param(lambda: hostile.rotated_jpeg(1), id="a photo on its side"),
        pytest.param(lambda: hostile.animated(1, "WEBP"), id="animated WebP"),
    ],
)
def test_an_odd_image_is_classified(world: World, make: Callable[[], bytes]) -> None:
    answer = world.vendor.ask("POST", f"predict/{FREE}/", body=make(), kind=BINARY)

    assert answer.status == 200, answer
    assert len(answer.json["predictions"]) == 5


@pytest.mark.parametrize("query", ["version=99", "version=%00", "version=" + "9" * 3000])
def test_an_unknown_version_predicts_nothing(world: World, query: str) -> None:
    answer = world.vendor.ask("POST", f"predict/{FREE}/?{query}", body=PICTURE, kind="image/png")

    assert_refused(answer, {400, 404})


@pytest.mark.parametrize("top", ["-1", "0", "abc", "NaN", "1e3"])
def test_a_bad_number_of_predictions_is_refused(world: World, top: str) -> None:
    answer = world.vendor.ask("POST", f"predict/{FREE}/?top={top}", body=PICTURE, kind="image/png")

    assert "top" in field_names(assert_refused(answer, {400, 422}))


def test_the_server_met_no_error_of_its_own(world: World) -> None:
    """Last of all: whatever the tests above sent, none of it is in the log as the server's own mistake."""
    log = world.stack.log.read_bytes()[world.log_start :].decode(errors="replace")

    assert not re.findall(r"Internal Server Error: \S+", log)
