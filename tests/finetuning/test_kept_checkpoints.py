"""Checkpoints that follow a run to another machine, and what an engine could do to those who read and write them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from finetuning.engine import spec as engine
from finetuning.services import kept_checkpoints, workspaces
from finetuning.services.kept_checkpoints import Kept
from marketplace import storage
from marketplace.errors import Unavailable

SECRET = b"what no engine may read"
NAME = "checkpoints/000000000007.ckpt"


@pytest.fixture(autouse=True)
def _shared(settings: Any, tmp_path: Path) -> None:
    settings.STORAGE_DIR = tmp_path / "blobs"
    settings.STORAGE_IS_SHARED = True


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    return tmp_path / "run"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the site that looks like a whole checkpoint."""
    return written(tmp_path / "secret", SECRET)


def written(path: Path, payload: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(hashlib.sha256(payload).digest() + payload)
    return path


def payload_of(sha256: str) -> bytes:
    return b"".join(storage.chunks(sha256))[engine.CHECKPOINT_DIGEST_BYTES :]


def lay(path: Path, kept: dict[str, str]) -> None:
    kept_checkpoints.lay(path, kept, goes_on=lambda: True)


def keep(run_dir: Path, *, goes_on: Callable[[], bool] = lambda: True) -> Kept:
    return kept_checkpoints.keep(run_dir, goes_on=goes_on)


def opened_below(folder: Path) -> list[str]:
    """The files and folders below it that this process has open."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them
            found.append(str(descriptor.readlink()))
    return [path for path in found if path.startswith(str(folder))]


def storing() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == kept_checkpoints.THREAD]


def test_the_newest_of_a_training_and_of_each_part_is_kept(run_dir: Path) -> None:
    for step in (3, 20, 100):
        written(run_dir / f"checkpoints/{step:012d}.ckpt", f"step {step}".encode())
    written(run_dir / "checkpoints/probe-head/000000000005.ckpt", b"the probe")
    (run_dir / "checkpoints/empty").mkdir()
    (run_dir / "checkpoints/notes").write_text("no part")

    kept = keep(run_dir)

    assert {name: payload_of(sha256) for name, sha256 in kept.items()} == {
        "checkpoints/000000000100.ckpt": b"step 100",
        "checkpoints/probe-head/000000000005.ckpt": b"the probe",
    }


def test_where_nobody_else_has_the_blobs_nothing_is_kept(run_dir: Path, settings: Any) -> None:
    settings.STORAGE_IS_SHARED = False
    written(run_dir / NAME, b"a state")

    assert keep(run_dir) == {}
    assert list(storage.stored()) == []


def linked(run_dir: Path, secret: Path) -> None:
    (run_dir / NAME).symlink_to(secret)


def linked_hard(run_dir: Path, secret: Path) -> None:
    (run_dir / NAME).hardlink_to(secret)


def in_a_linked_folder(run_dir: Path, secret: Path) -> None:
    (run_dir / "checkpoints").rmdir()
    written(secret.parent / "site/000000000007.ckpt", SECRET)
    (run_dir / "checkpoints").symlink_to(secret.parent / "site")


def in_a_linked_part(run_dir: Path, secret: Path) -> None:
    written(secret.parent / "site/000000000007.ckpt", SECRET)
    (run_dir / "checkpoints/probe").symlink_to(secret.parent / "site")


def a_pipe(run_dir: Path, _secret: Path) -> None:
    os.mkfifo(run_dir / NAME)


def a_folder(run_dir: Path, _secret: Path) -> None:
    (run_dir / NAME).mkdir()


def torn(run_dir: Path, _secret: Path) -> None:
    path = written(run_dir / NAME, SECRET)
    path.write_bytes(path.read_bytes()[:-1])


def gone(run_dir: Path, _secret: Path) -> None:
    (run_dir / "checkpoints").rmdir()


@pytest.mark.parametrize(
    "trick", [linked, linked_hard, in_a_linked_folder, in_a_linked_part, a_pipe, a_folder, torn, gone]
)
def test_nothing_but_a_whole_file_of_its_own_is_kept(
    tmp_path: Path, run_dir: Path, secret: Path, settings: Any, trick: Callable[[Path, Path], None]
) -> None:
    trick(run_dir, secret)

    assert keep(run_dir) == {}
    assert list(storage.stored()) == []
    assert opened_below(tmp_path) == []
    assert [path.name for path in Path(settings.STORAGE_DIR).glob("incoming-*")] == []


def test_one_larger_than_an_engine_s_files_may_be_is_not_kept(run_dir: Path, settings: Any) -> None:
    settings.ENGINE_FILE_BYTES = 100
    written(run_dir / NAME, b"x" * 100)

    assert keep(run_dir) == {}
    assert list(storage.stored()) == []


def test_a_torn_one_leaves_the_older_one_and_the_other_parts(run_dir: Path, secret: Path) -> None:
    written(run_dir / "checkpoints/000000000003.ckpt", b"older")
    torn(run_dir, secret)
    written(run_dir / "checkpoints/probe/000000000001.ckpt", b"the probe")

    assert sorted(keep(run_dir)) == ["checkpoints/000000000003.ckpt", "checkpoints/probe/000000000001.ckpt"]


def test_one_that_is_rewritten_while_it_is_read_is_not_kept(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(run_dir / NAME, b"x" * 3 * storage.CHUNK_BYTES)
    pieces = storage.pieces

    def read(file: Any) -> Iterator[bytes]:
        for number, piece in enumerate(pieces(file)):
            if number == 0:
                with (run_dir / NAME).open("r+b") as other:
                    other.seek(2 * storage.CHUNK_BYTES)
                    other.write(b"another")
            yield piece

    monkeypatch.setattr(storage, "pieces", read)

    assert keep(run_dir) == {}
    assert list(storage.stored()) == []


def test_who_is_about_to_stop_does_not_wait_for_a_storage_that_hangs(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(run_dir / "checkpoints/probe/000000000001.ckpt", b"the probe")
    written(run_dir / NAME, b"a state")
    hangs, answers, put = threading.Event(), threading.Event(), storage.put_own

    def hanging(content: Iterator[bytes], *, max_bytes: int) -> storage.Blob:
        blob = put(content, max_bytes=max_bytes)
        if list(storage.stored()) != [blob.sha256]:  # the second
            hangs.set()
            answers.wait(60)
        return blob

    monkeypatch.setattr(storage, "put_own", hanging)

    kept = keep(run_dir, goes_on=lambda: not hangs.is_set())

    assert list(kept) == [NAME]  # the first was stored in time
    (thread,) = storing()
    answers.set()
    thread.join(60)
    assert not thread.is_alive()


def test_of_each_folder_the_newer_one_counts() -> None:
    earlier = {"checkpoints/000000000050.ckpt": "a", "checkpoints/probe/000000000001.ckpt": "b"}
    kept = {"checkpoints/000000000001.ckpt": "c", "checkpoints/probe/000000000002.ckpt": "d"}

    assert kept_checkpoints.merged(earlier, kept) == {
        "checkpoints/000000000050.ckpt": "a",
        "checkpoints/probe/000000000002.ckpt": "d",
    }
    assert kept_checkpoints.merged(earlier, {}) == earlier


def test_what_was_kept_is_laid_as_a_copy_that_an_engine_may_write_into(run_dir: Path, tmp_path: Path) -> None:
    written(run_dir / NAME, b"a state")
    written(run_dir / "checkpoints/probe/000000000001.ckpt", b"the probe")
    kept = keep(run_dir)
    other = tmp_path / "other"
    other.mkdir()

    lay(other, kept)

    assert (other / NAME).read_bytes() == (run_dir / NAME).read_bytes()
    assert (other / "checkpoints/probe/000000000001.ckpt").exists()
    with (other / NAME).open("r+b") as file:
        file.write(b"spoiled")
    assert all(storage.is_whole(sha256) for sha256 in kept.values())


def test_a_newer_one_of_this_machine_is_left(run_dir: Path, tmp_path: Path) -> None:
    written(run_dir / NAME, b"a state")
    kept = keep(run_dir)
    written(tmp_path / "here/checkpoints/000000000009.ckpt", b"newer")

    lay(tmp_path / "here", kept)

    assert [path.name for path in (tmp_path / "here/checkpoints").iterdir()] == ["000000000009.ckpt"]


@pytest.mark.parametrize("link", ["checkpoints", "checkpoints/probe", "checkpoints/probe/.000000000001.ckpt.partial"])
def test_nothing_is_written_through_a_link_that_an_engine_left(run_dir: Path, tmp_path: Path, link: str) -> None:
    written(run_dir / "checkpoints/probe/000000000001.ckpt", b"the probe")
    kept = keep(run_dir)
    site, other = tmp_path / "site", tmp_path / "other"
    site.mkdir()
    (site / "settings").write_text("of the site")
    (other / link).parent.mkdir(parents=True)
    (other / link).symlink_to(site / "settings" if link.endswith(".partial") else site)

    lay(other, kept)

    assert [path.name for path in site.iterdir()] == ["settings"]
    assert (site / "settings").read_text() == "of the site"


def test_a_blob_that_is_gone_leaves_the_run_to_begin_again(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()

    lay(other, {NAME: "0" * 64})

    assert list((other / "checkpoints").iterdir()) == []


def test_who_is_told_to_stop_copies_no_checkpoint_to_its_end(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(run_dir / NAME, b"a state")
    kept = keep(run_dir)
    other, is_over = tmp_path / "other", []
    other.mkdir()

    def slow(_sha256: str) -> Iterator[bytes]:
        yield b"half"
        is_over.append(True)
        yield b"the other half"

    monkeypatch.setattr(storage, "chunks", slow)

    kept_checkpoints.lay(other, kept, goes_on=lambda: not is_over)

    assert is_over
    assert list((other / "checkpoints").iterdir()) == []


def test_a_storage_that_is_away_is_asked_again_later(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(run_dir / NAME, b"a state")
    kept = keep(run_dir)
    other = tmp_path / "other"
    other.mkdir()

    def away(_sha256: str) -> Iterator[bytes]:
        yield b"half"
        raise Unavailable("storage_failed", "The bucket is away.")

    monkeypatch.setattr(storage, "chunks", away)

    with pytest.raises(Unavailable):
        lay(other, kept)

    assert list((other / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("trick", [linked, linked_hard, a_pipe])
def test_an_output_that_is_no_file_of_its_own_is_not_collected(
    tmp_path: Path, secret: Path, trick: Callable[[Path, Path], None]
) -> None:
    outputs = tmp_path / "run/outputs"
    (outputs / "checkpoints").mkdir(parents=True)
    trick(outputs, secret)
    reported = {"sha256": hashlib.sha256(secret.read_bytes()).hexdigest(), "bytes": secret.stat().st_size}

    with pytest.raises(ValueError, match=r"no file of its own|no plain file"):
        workspaces.collect(tmp_path / "run", {"outputs": {NAME: reported}})

    assert list(storage.stored()) == []


@pytest.mark.parametrize("name", ["../secret", "/secret", "//secret", "a/../../secret"])
def test_an_output_outside_of_its_folder_is_not_collected(tmp_path: Path, secret: Path, name: str) -> None:
    (tmp_path / "outputs/a").mkdir(parents=True)
    assert secret.exists()

    with pytest.raises(ValueError, match="is not below its folder"):
        workspaces.collect(tmp_path, {"outputs": {name: {"sha256": "0" * 64, "bytes": 1}}})


@pytest.mark.parametrize("name", ["engine.log", "spec.json", "events.jsonl", "inputs", "outputs", "anything"])
@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe", "second name"])
def test_a_directory_with_tricks_in_it_is_cleared_before_it_is_used_again(
    tmp_path: Path, secret: Path, name: str, kind: str
) -> None:
    run_dir = tmp_path / "run"
    workspaces.prepare(run_dir, engine.ZooSpec(), {})
    (run_dir / name).unlink(missing_ok=True)
    match kind:
        case "link":
            (run_dir / name).symlink_to(secret)
        case "link to nothing":
            (run_dir / name).symlink_to(tmp_path / "new")
        case "pipe":
            os.mkfifo(run_dir / name)
        case "second name":
            (run_dir / name).hardlink_to(secret)
    before = secret.read_bytes()

    workspaces.prepare(run_dir, engine.ZooSpec(), {})

    assert sorted(path.name for path in run_dir.iterdir()) == ["spec.json"]
    assert engine.read(run_dir) == engine.ZooSpec()
    assert secret.read_bytes() == before
    assert not (tmp_path / "new").exists()


def test_what_an_earlier_attempt_has_done_stays(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    workspaces.prepare(run_dir, engine.ZooSpec(), {})
    written(run_dir / NAME, b"a state")
    (run_dir / "engine.log").write_text("of the first")

    workspaces.prepare(run_dir, engine.ZooSpec(), {})

    assert (run_dir / NAME).exists()
    assert (run_dir / "engine.log").read_text() == "of the first"
