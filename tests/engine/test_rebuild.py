"""Files out of chunks: as the clients send them, and as somebody sends them who means harm."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pytest
import xet_factory as xet
from hypothesis import given
from hypothesis import strategies as st
from texts_factory import run_verb

from finetuning.engine import rebuild
from finetuning.engine.problems import Rejected
from finetuning.engine.spec import RebuildSpec

CONTENT = random.Random(1).randbytes(50_001) + b"the same again " * 3000
MIB = 2**20


def lay(run_dir: Path, xorbs: dict[str, bytes], shard: bytes) -> None:
    (run_dir / "inputs/xorbs").mkdir(parents=True)
    (run_dir / "inputs/shard").write_bytes(shard)
    for name, content in xorbs.items():
        (run_dir / "inputs/xorbs" / name).write_bytes(content)


def rebuilt(run_dir: Path, xorbs: dict[str, bytes], shard: bytes, **given: int) -> dict[str, Any]:
    lay(run_dir, xorbs, shard)
    return run_verb(rebuild, RebuildSpec(**{"max_bytes": MIB, **given}), run_dir)


def refusal(run_dir: Path, xorbs: dict[str, bytes], shard: bytes, **given: int) -> str:
    with pytest.raises(Rejected) as caught:
        rebuilt(run_dir, xorbs, shard, **given)
    return caught.value.problems[0].code


def test_a_file_comes_out_as_it_went_in_whatever_its_chunks_are(tmp_path: Path) -> None:
    xorbs, shard, sha256 = xet.one_file(CONTENT)

    assert rebuilt(tmp_path, xorbs, shard)["files"] == [sha256]
    assert (tmp_path / "outputs" / sha256).read_bytes() == CONTENT


@given(st.binary(min_size=1, max_size=300), st.sampled_from([xet.PLAIN, xet.LZ4, xet.GROUPED]))
def test_every_length_survives_every_scheme(content: bytes, scheme: int) -> None:
    raw = xet.chunk(content, scheme)
    told = rebuild.Chunk(8, len(raw) - 8, scheme, len(content))

    assert rebuild._plain(raw[8:], told) == content


def test_several_files_share_chunks(tmp_path: Path) -> None:
    xorb = xet.chunk(b"one ") + xet.chunk(b"two ", xet.LZ4) + xet.chunk(b"three")
    digest = xet.digest_of(xorb)
    shard = xet.shard(
        xet.entry([xet.segment(digest, 8, 0, 2)], verified=False),
        xet.entry([xet.segment(digest, 5, 2, 3), xet.segment(digest, 8, 0, 2)]),
    )

    names = rebuilt(tmp_path, {xet.name(digest): xorb}, shard)["files"]

    assert [(tmp_path / "outputs" / name).read_bytes() for name in names] == [b"one two ", b"threeone two "]


def _shards(digest: bytes) -> dict[str, bytes]:
    whole = xet.shard(xet.entry([xet.segment(digest, 4, 0, 1)]))
    return {
        "nothing": b"",
        "another tag": b"x" + whole[1:],
        "another version": whole[:32] + b"\x03" + whole[33:],
        "no end": xet.shard(xet.entry([xet.segment(digest, 4, 0, 1)]), ends=False),
        "cut": whole[:100],
        "four billion segments": xet.shard(xet.entry([], count=2**32 - 1)),
        "a run that ends before it begins": xet.shard(xet.entry([xet.segment(digest, 4, 1, 1)])),
        "a run without end": xet.shard(xet.entry([xet.segment(digest, 4, 0, 2**32 - 1)])),
        "another length": xet.shard(xet.entry([xet.segment(digest, 3, 0, 1)])),
        "longer than its chunks can be": xet.shard(xet.entry([xet.segment(digest, 2**31, 0, 1)])),
        "too many files": xet.shard(*[xet.entry([xet.segment(digest, 4, 0, 1)])] * 3),
    }


@pytest.mark.parametrize("kind", _shards(bytes(32)))
def test_a_list_that_makes_no_sense_is_refused(tmp_path: Path, kind: str) -> None:
    xorb = xet.chunk(b"four")
    shard = _shards(xet.digest_of(xorb))[kind]

    assert refusal(tmp_path, {xet.name(xet.digest_of(xorb)): xorb}, shard, max_files=2) == "shard_invalid"


def _xorbs() -> dict[str, bytes]:
    bomb = bytes(64 * MIB)
    return {
        "a bomb in a frame": xet.chunk(bomb, xet.LZ4, says=100_000),
        "a bomb that says what it is": xet.chunk(bomb, xet.LZ4, says=MIB),
        "no frame": b"\0" + (5).to_bytes(3, "little") + b"\x01" + (4).to_bytes(3, "little") + b"12345",
        "an unknown scheme": xet.chunk(b"four")[:4] + b"\x09" + xet.chunk(b"four")[5:],
        "another version": b"\x01" + xet.chunk(b"four")[1:],
        "cut": xet.chunk(b"four")[:-1],
        "half a header": xet.chunk(b"four")[:5],
        "less than it says": xet.chunk(b"four", xet.LZ4, says=5),
        "no bytes": xet.chunk(b"", xet.PLAIN),
        "no chunks": b"XETBLOB",
    }


@pytest.mark.parametrize("kind", _xorbs())
def test_chunks_that_lie_are_refused_before_they_fill_the_memory(tmp_path: Path, kind: str) -> None:
    xorb = _xorbs()[kind]
    shard = xet.shard(xet.entry([xet.segment(xet.digest_of(xorb), 4, 0, 1)]))

    assert refusal(tmp_path, {xet.name(xet.digest_of(xorb)): xorb}, shard) == "xorb_invalid"


def test_chunks_of_somebody_else_and_names_of_files_outside_are_not_found(tmp_path: Path) -> None:
    xorbs, shard, _ = xet.one_file(CONTENT)

    assert refusal(tmp_path, dict.fromkeys(["0" * 64], b"other"), shard) == "xorb_missing"
    assert all(len(name) == 64 and "/" not in name for name in xorbs)


def test_other_bytes_than_the_digest_says_are_refused(tmp_path: Path) -> None:
    xorb = xet.chunk(b"four")
    shard = xet.shard(xet.entry([xet.segment(xet.digest_of(xorb), 4, 0, 1)], "ab" * 32))

    assert refusal(tmp_path, {xet.name(xet.digest_of(xorb)): xorb}, shard) == "checksum_mismatch"


def test_a_small_upload_cannot_ask_for_a_large_file(tmp_path: Path) -> None:
    xorb = xet.chunk(bytes(100_000), xet.LZ4)
    runs = [xet.segment(xet.digest_of(xorb), 100_000, 0, 1)] * 11

    assert refusal(tmp_path, {xet.name(xet.digest_of(xorb)): xorb}, xet.shard(xet.entry(runs))) == "file_too_large"


@given(st.binary(max_size=400), st.integers(0, 400), st.booleans())
def test_no_shard_makes_it_fall_over(noise: bytes, place: int, is_inside: bool) -> None:
    _, shard, _ = xet.one_file(b"some content of a file")
    content = shard[:place] + noise + shard[place:] if is_inside else xet.shard(noise)

    with contextlib.suppress(Rejected):
        assert len(rebuild.read_shard(content, max_files=4)) <= 4
