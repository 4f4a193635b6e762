"""Every rule for archives that must not be believed."""

from __future__ import annotations

import io
import stat
import struct
import tempfile
import zipfile
from pathlib import Path

import pytest
from archives_factory import Member, class_folders, encoded, inspected_bytes, picture, raw_zip, zip_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetuning.engine.archives import Archive
from finetuning.engine.problems import MAX_ITEMS, Rejected
from finetuning.engine.spec import ArchiveLimits

IMAGE = encoded(picture(1))
LIMITS = ArchiveLimits()
GOOD = zip_of(class_folders(images=3))


def open_archive(path: Path, content: bytes, limits: ArchiveLimits = LIMITS) -> dict[str, bytes]:
    path.write_bytes(content)
    with Archive(path, limits) as archive:
        return {entry.name: archive.read(entry) for entry in archive.contents.images}


def named(name: str | bytes, **fields: object) -> bytes:
    raw = name.encode() if isinstance(name, str) else name
    member = Member(name=raw, content=IMAGE, flags=0x0800 if isinstance(name, str) else 0)
    good = Member(name=b"a/good.png", content=IMAGE)
    return raw_zip([good, _replaced(member, fields)])


def _replaced(member: Member, fields: dict[str, object]) -> Member:
    values = {name: getattr(member, name) for name in Member.__slots__}
    return Member(**{**values, **fields})


def two(first: str, second: str) -> bytes:
    return raw_zip([Member(name=n.encode(), content=IMAGE, flags=0x0800) for n in (first, second)])


def unix(kind: int) -> int:
    return (kind | 0o777) << 16


BOMB = raw_zip([Member(name=b"a/bomb.png", content=bytes(4 * 2**20))])
OVERLAP = raw_zip(
    [
        Member(name=b"a/1.png", content=IMAGE),
        *(Member(name=b"a/%d.png" % number, content=IMAGE, offset=0) for number in range(2, 50)),
    ]
)
INNER = raw_zip([Member(name=b"a/2.png", content=IMAGE)])[: -22 - 46 - 7]
# A stored member whose data is the whole of the next member's local record (Fifield's quoted overlap).
QUOTED = raw_zip(
    [
        Member(name=b"a/1.png", content=INNER, method=zipfile.ZIP_STORED),
        Member(name=b"a/2.png", content=IMAGE, offset=30 + 7),
    ]
)

BAD = {
    "empty": (b"", "empty_file"),
    "html": (b"<!DOCTYPE html><title>404</title>", "not_a_zip"),
    "one byte": (b"P", "not_a_zip"),
    "truncated": (GOOD[:-40], "zip_truncated"),
    "half": (GOOD[: len(GOOD) // 2], "zip_truncated"),
    "no entries": (zip_of({}), "zip_empty"),
    "only clutter": (zip_of({".DS_Store": b"x", "__MACOSX/a.png": IMAGE}), "zip_empty"),
    "only folders": (raw_zip([Member(name=b"cats/", method=0)]), "zip_empty"),
    "bomb by ratio": (BOMB, "zip_bomb"),
    "declared bomb": (named("a/b.png", declared_size=2**32 - 2), "zip_bomb"),
    "overlap": (OVERLAP, "zip_overlap"),
    "quoted overlap": (QUOTED, "zip_overlap"),
    "local name differs": (named("a/b.png", local_name=b"a/c.png"), "zip_inconsistent"),
    "local name is shorter": (named("a/b.png", local_name=b"a/b.pn"), "zip_inconsistent"),
    "local name is longer": (named("a/b.png", local_name=b"a/b.png/../../c"), "zip_inconsistent"),
    "directory size lies": (GOOD[:-10] + struct.pack("<L", 7) + GOOD[-6:], "polyglot"),
    "count lies": (GOOD[:-14] + struct.pack("<HH", 5, 5) + GOOD[-10:], "zip_inconsistent"),
    "twins": (two("a/1.png", "a/1.png"), "duplicate_name"),
    "case twins": (two("a/1.png", "A/1.PNG"), "duplicate_name"),
    "accent twins": (two("a/\u00e9.png", "a/e\u0301.png"), "duplicate_name"),
    "dot twins": (two("a/1.png", "./a//1.png"), "duplicate_name"),
    "file as folder": (two("a/1.png", "a/1.png/2.png"), "duplicate_name"),
    "traversal": (named("../../x.png"), "unsafe_path"),
    "inner traversal": (named("a/../../x.png"), "unsafe_path"),
    "absolute": (named("/x.png"), "unsafe_path"),
    "drive": (named("C:/x.png"), "unsafe_path"),
    "backslash": (named("..\\x.png"), "unsafe_path"),
    "symlink": (named("a/l.png", attributes=unix(stat.S_IFLNK)), "links_not_allowed"),
    "device": (named("a/d.png", attributes=unix(stat.S_IFCHR)), "links_not_allowed"),
    "pipe": (named("a/p.png", attributes=unix(stat.S_IFIFO)), "links_not_allowed"),
    "windows link": (named("a/l.png", attributes=0x400), "links_not_allowed"),
    "encrypted": (named("a/e.png", flags=1), "encrypted_zip"),
    "bzip2": (named("a/b.png", method=zipfile.ZIP_BZIP2), "unsupported_compression"),
    "lzma": (named("a/b.png", method=zipfile.ZIP_LZMA), "unsupported_compression"),
    "unknown method": (named("a/b.png", method=99), "unsupported_compression"),
    "nested by name": (zip_of({"a/1.png": IMAGE, "a/more.zip": GOOD}), "nested_archive"),
    "nested by content": (zip_of({"a/1.png": IMAGE, "a/2.png": GOOD}), "nested_archive"),
    "nul in name": (named(b"a/x\0.png"), "bad_name"),
    "newline in name": (named("a/x\n.png"), "bad_name"),
    "bidi override": (named("a/\u202egnp.exe.png"), "bad_name"),
    "not utf-8": (named(b"a/\xff\xfe.png", flags=0x0800), "bad_name"),
    "empty name": (named(b""), "bad_name"),
    "long name": (named("a/" + "x" * 300 + ".png"), "name_too_long"),
    "long class name": (named("y" * 300 + "/1.png"), "name_too_long"),
    "deep": (named("/".join("abcdefghi") + "/1.png"), "name_too_long"),
    "prefix": (IMAGE + GOOD, "polyglot"),
    "suffix": (GOOD + b"trailing", "polyglot"),
    "crc": (named("a/b.png", crc=1), "corrupt_member"),
    "declares too little": (named("a/b.png", declared_size=len(IMAGE) - 1), "zip_inconsistent"),
    "declares too much": (named("a/b.png", declared_size=len(IMAGE) + 1), "zip_inconsistent"),
    "html inside": (zip_of({"a/1.png": IMAGE, "evil.html": b"<script>"}), "file_type"),
    "svg inside": (zip_of({"a/1.png": IMAGE, "a/x.svg": b"<svg>"}), "file_type"),
    "program inside": (zip_of({"a/1.png": IMAGE, "setup.exe": b"MZ"}), "file_type"),
}


@pytest.mark.parametrize(("content", "code"), BAD.values(), ids=BAD.keys())
def test_bad_archive_is_refused_with_its_code(tmp_path: Path, content: bytes, code: str) -> None:
    with pytest.raises(Rejected) as refusal:
        open_archive(tmp_path / "zip", content)

    problem = refusal.value.problems[0]
    assert problem.code == code
    assert problem.message.endswith(".")
    assert all(item.isprintable() and len(item) < 130 for item in problem.items)


def test_stored_junk_as_deflate_is_a_corrupt_member(tmp_path: Path) -> None:
    good = raw_zip([Member(name=b"a/b.png", content=IMAGE)])
    start = 30 + len(b"a/b.png")
    damaged = good[:start] + b"\xff" * 20 + good[start + 20 :]

    with pytest.raises(Rejected, match="corrupt_member"):
        open_archive(tmp_path / "zip", damaged)


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="too_many_files"):
        open_archive(tmp_path / "zip", GOOD, ArchiveLimits(max_files=5))


def test_total_and_single_size_limits_are_kept(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="zip_bomb"):
        open_archive(tmp_path / "zip", GOOD, ArchiveLimits(max_total_bytes=1000))
    with pytest.raises(Rejected, match="file_too_large"):
        open_archive(tmp_path / "zip", GOOD, ArchiveLimits(max_file_bytes=1000))


def test_items_of_a_problem_are_the_first_twenty(tmp_path: Path) -> None:
    files = {f"a/{number}.exe": b"MZ" for number in range(50)}

    with pytest.raises(Rejected) as refusal:
        open_archive(tmp_path / "zip", zip_of(files))

    assert len(refusal.value.problems[0].items) == MAX_ITEMS


def test_clutter_is_skipped_and_counted(tmp_path: Path) -> None:
    clutter = {
        "__MACOSX/cats/._1.png": b"x",
        "cats/.DS_Store": b"x",
        "cats/Thumbs.db": b"x",
        ".git/config": b"x",
        "cats/.ipynb_checkpoints/1.png": IMAGE,
        "._cats": b"x",
        "README.md": b"hello",
        "LICENSE": b"MIT",
    }
    (tmp_path / "zip").write_bytes(zip_of({**class_folders(images=2), **clutter}))

    with Archive(tmp_path / "zip", LIMITS) as archive:
        contents = archive.contents

    assert len(contents.images) == 4
    assert contents.skipped == {
        ".DS_Store": 1,
        "Thumbs.db": 1,
        "__MACOSX": 1,
        "documents": 2,
        "hidden files": 1,
        "hidden folders": 2,
    }


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_ordinary_zips_read_back(tmp_path: Path, method: int) -> None:
    files = class_folders(images=2)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.mkdir("cats")
        for name, content in files.items():
            archive.writestr(name, content)

    assert open_archive(tmp_path / "zip", buffer.getvalue()) == files


def test_streamed_zip_with_data_descriptors_reads_back(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        """A file that cannot seek, so the writer needs data descriptors."""

        def __init__(self) -> None:
            super().__init__()
            self.content = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, part: bytes) -> int:  # type: ignore[override]
            self.content += part
            return len(part)

    files, pipe = class_folders(images=2), Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    by_hand = raw_zip([Member(name=n.encode(), content=c, has_descriptor=True) for n, c in files.items()])

    assert open_archive(tmp_path / "zip", bytes(pipe.content)) == files
    assert open_archive(tmp_path / "zip", by_hand) == files


def test_zip64_members_read_back(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open("a/1.png", "w", force_zip64=True) as member:
        member.write(IMAGE)

    assert open_archive(tmp_path / "zip", buffer.getvalue()) == {"a/1.png": IMAGE}


def test_names_without_the_utf8_flag_are_read_as_their_system_wrote_them(tmp_path: Path) -> None:
    mac, chinese = named("\u732b/\u00e9.png".encode()), named("\u732b\u54aa/1.png".encode("gb2312"))
    western = named("caf\u00e9/1.png".encode("cp437"))

    names = [list(open_archive(tmp_path / "zip", content))[-1] for content in (mac, chinese, western)]

    assert names == ["\u732b/\u00e9.png", "\u732b\u54aa/1.png", "caf\u00e9/1.png"]


def test_an_archive_comment_is_allowed(tmp_path: Path) -> None:
    content = raw_zip([Member(name=b"a/1.png", content=IMAGE)], comment=b"made by hand")

    assert open_archive(tmp_path / "zip", content)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    cut=st.one_of(st.none(), st.integers(0, len(GOOD))),
    near_the_end=st.booleans(),
)
def test_a_mutated_zip_always_gets_a_result(edits: list[tuple[int, int]], cut: int | None, near_the_end: bool) -> None:
    content = bytearray(GOOD)
    for at, value in edits:
        position = at % len(content)
        content[-1 - position % 700 if near_the_end else position] = value
    with tempfile.TemporaryDirectory() as folder:
        result = inspected_bytes(Path(folder), bytes(content[:cut]))

    assert result["status"] == ("invalid" if result["problems"] else "valid")
    assert (result["report"] is None) == (result["status"] == "invalid")
