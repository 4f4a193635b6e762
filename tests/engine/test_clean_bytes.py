"""Images keep their own bytes in the packs, without what is not pixels; what was checked is what is stored."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import random
import signal
import zipfile
from pathlib import Path
from typing import Any

import pytest
from archives_factory import class_folders, encoded, inspected, items_of, picture, zip_of
from PIL import Image, ImageOps, PngImagePlugin

from finetuning.engine import clean_bytes, images, workers
from finetuning.engine.failures import AppFault
from finetuning.engine.images import BadImage
from finetuning.engine.packs import PackReader, PackWriter
from finetuning.engine.results import sha256_of
from finetuning.engine.spec import ArchiveLimits, Task

LIMITS = ArchiveLimits()
PHOTO = picture(1, 80)
EXIF = Image.Exif()
EXIF[0x010E] = "secret place"
TOLD = {"exif": EXIF, "comment": b"secret", "icc_profile": b"secret profile" * 20, "dpi": (72, 72)}
JPEGS: dict[str, bytes] = {
    "baseline": encoded(PHOTO, "JPEG", **TOLD),
    "progressive": encoded(PHOTO, "JPEG", progressive=True, **TOLD),
    "grey": encoded(PHOTO.convert("L"), "JPEG", **TOLD),
    "stored as RGB": encoded(PHOTO, "JPEG", keep_rgb=True, subsampling=0, **TOLD),
    "restart markers": encoded(PHOTO, "JPEG", restart_marker_blocks=2, **TOLD),
    "with a zip behind": encoded(PHOTO, "JPEG", **TOLD) + zip_of({"secret.html": b"<script>"}),
}
TEXT = PngImagePlugin.PngInfo()
TEXT.add_text("Comment", "secret")
PNGS: dict[str, bytes] = {
    "RGB": encoded(PHOTO, "PNG", pnginfo=TEXT, exif=EXIF, icc_profile=b"secret" * 20),
    "grey PNG": encoded(PHOTO.convert("L"), "PNG", pnginfo=TEXT),
    "black and white": encoded(PHOTO.convert("1"), "PNG", pnginfo=TEXT),
    "palette": encoded(PHOTO.convert("P"), "PNG", pnginfo=TEXT),
    "with HTML behind": encoded(PHOTO, "PNG") + b"<script>secret</script>",
}
FRAMES = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
ANEW: dict[str, bytes] = {
    "CMYK": encoded(PHOTO.convert("CMYK"), "JPEG"),
    "transparent": encoded(PHOTO.convert("RGBA")),
    "transparent grey": encoded(PHOTO.convert("LA")),
    "a transparent color": encoded(PHOTO.convert("P"), "PNG", transparency=3),
    "16 bits": encoded(Image.new("I;16", (20, 20), 40_000)),
    "animated": encoded(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]),
    "WebP": encoded(PHOTO, "WEBP"),
    "JPEG with more bytes than pixels": encoded(Image.new("RGB", (8, 8)), "JPEG")[:-2] + b"x" * 5000 + b"\xff\xd9",
}


def checked(content: bytes, suffix: str = ".jpg") -> images.Picture:
    return images.decode(content, suffix, LIMITS, plain=clean_bytes.jpeg(content))


def seen(content: bytes) -> bytes:
    """Returns the pixels that a viewer shows."""
    with Image.open(io.BytesIO(content)) as image:
        return ImageOps.exif_transpose(image).convert("RGB").tobytes()


@pytest.mark.parametrize("content", [*JPEGS.values(), *PNGS.values()], ids=[*JPEGS, *PNGS])
def test_a_plain_file_keeps_its_pixels_and_nothing_else(content: bytes) -> None:
    found = checked(content)

    assert found.clean
    assert seen(found.clean) == seen(content) == found.image.tobytes()
    assert b"secret" not in found.clean
    assert checked(found.clean).clean == found.clean


@pytest.mark.parametrize("content", ANEW.values(), ids=ANEW)
def test_what_is_no_plain_file_is_encoded_anew(content: bytes) -> None:
    assert checked(content, "").clean == b""


@pytest.mark.parametrize("name", ["baseline", "progressive"])
def test_a_jpeg_cut_off_anywhere_is_not_kept(name: str) -> None:
    content = JPEGS[name]

    assert [cut for cut in range(len(content)) if clean_bytes.jpeg(content[:cut])] == []


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Tag data larger")
@pytest.mark.parametrize("kind", ["baseline", "progressive", "grey", "RGB"])
def test_what_is_kept_of_damaged_files_holds_the_pixels_that_were_checked(kind: str) -> None:
    rng, content, kept = random.Random(kind), {**JPEGS, **PNGS}[kind], 0
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)

        try:
            found = checked(bytes(damaged))
        except BadImage:
            continue

        kept += bool(found.clean)
        if found.clean:
            assert images.upright(images.to_rgb(Image.open(io.BytesIO(found.clean))), found.orientation).tobytes() == (
                found.image.tobytes()
            )
    assert kept


def test_a_turned_photograph_is_stored_as_it_came_and_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0)}
    content = encoded(picture(9, 60).crop((0, 0, 60, 40)), "JPEG", exif=exif)

    report = inspected(tmp_path, {**class_folders(images=12), "cats/turned.jpg": content})["report"]

    item = next(item for item in items_of(tmp_path) if item.name == "cats/turned.jpg")
    pack = PackReader(tmp_path / f"outputs/{'test' if item.split == 'test' else 'train'}.pack")
    assert item.size == pack.image(item).size == (40, 60)
    assert pack.image(item).tobytes() == seen(content)
    assert b"Exif" not in pack.content(item)
    assert {"rotated"} <= {finding["code"] for finding in report["findings"]}


def test_a_truncated_photograph_among_many_is_found(tmp_path: Path) -> None:
    files = {f"{'ab'[at % 2]}/{at:03d}.jpg": encoded(picture(at), "JPEG") for at in range(150)}
    files["a/000.jpg"] = files["a/000.jpg"][:-30]

    report = inspected(tmp_path, files)["report"]

    assert [(entry["name"], entry["code"]) for entry in report["corrupt"]] == [("a/000.jpg", "bad_image")]
    assert report["counts"] == {"given": 150, "used": 149, "left_out": 1}


def mixed(count: int) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for at in range(count):
        kind = ("JPEG", "PNG", "WEBP")[at % 3]
        files[f"{'ab'[at % 2]}/{at:03d}.{kind.lower()}"] = encoded(picture(at, 40 + at % 7), kind)
    return files


@pytest.mark.parametrize("way", ["one process", "three processes", "threads"])
def test_the_packs_do_not_depend_on_who_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    files = mixed(160)
    inspected(tmp_path / "usual", files)
    monkeypatch.setattr(os, "cpu_count", lambda: 1 if way == "one process" else 3)
    monkeypatch.setattr(workers, "_FORKS", way != "threads")

    inspected(tmp_path / "other", files)

    usual, other = (
        {path.name: sha256_of(path) for path in (tmp_path / name / "outputs").iterdir()} for name in ("usual", "other")
    )
    assert usual == other
    assert len(usual) == 4


def test_the_first_part_that_fails_is_told_whoever_is_faster() -> None:
    def work(part: int) -> int:
        if part in {3, 5}:
            raise BadImage("bad_image", f"part {part}")
        return part * 2

    results = workers.in_order(work, range(20))

    assert [next(results) for _ in range(3)] == [0, 2, 4]
    with pytest.raises(BadImage) as fault:
        next(results)
    assert (fault.value.code, fault.value.message) == ("bad_image", "part 3")


@pytest.mark.skipif(not workers._FORKS, reason="no processes here")
def test_a_worker_that_is_killed_ends_the_work_with_a_code() -> None:
    with pytest.raises(AppFault) as fault:
        list(workers.in_order(lambda _: os.kill(os.getpid(), signal.SIGKILL), range(8)))

    assert fault.value.code == "worker_lost"


@pytest.mark.skipif(not workers._FORKS, reason="no processes here")
def test_a_worker_that_is_killed_while_it_keeps_others_waiting_ends_the_work_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lock = workers.shared_lock()

    def work(part: int) -> None:
        with lock:
            if part == 2:
                os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    with pytest.raises(AppFault) as fault:
        list(workers.in_order(work, range(40)))

    assert fault.value.code == "worker_lost"
    assert not multiprocessing.active_children()


@pytest.mark.skipif(not workers._FORKS, reason="no processes here")
def test_a_refusal_ends_the_work_though_a_worker_was_killed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, refused = workers.shared_lock(), multiprocessing.get_context("fork").Event()

    def work(part: int) -> None:
        if part == 0:
            refused.set()
            raise BadImage("bad_image", "part 0")
        refused.wait()
        with lock:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    with pytest.raises((BadImage, AppFault)):
        list(workers.in_order(work, range(40)))

    assert not multiprocessing.active_children()


def test_packs_written_before_bytes_were_kept_are_still_read(tmp_path: Path) -> None:
    entry: dict[str, Any] = {
        "index": 1,
        "file": "000001.png",
        "name": "a/1.jpg",
        "label": 0,
        "split": "train",
        "width": 80,
        "height": 80,
        "sha256": "a" * 64,
        "pixel_sha256": "b" * 64,
        "phash": "0" * 16,
        "group": "",
        "boxes": [],
        "mask": "",
        "text": "",
    }
    with zipfile.ZipFile(tmp_path / "old.pack", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("index.jsonl", date_time=(1980, 1, 1, 0, 0, 0)), json.dumps(entry) + "\n")
        archive.writestr(zipfile.ZipInfo("000001.png", date_time=(1980, 1, 1, 0, 0, 0)), images.encode_png(PHOTO))

    pack = PackReader(tmp_path / "old.pack")

    assert pack.items[0].orientation == 1
    assert pack.image(pack.items[0]).tobytes() == PHOTO.tobytes()


def test_a_pack_of_over_65_535_members_is_a_zip_that_others_read(tmp_path: Path) -> None:
    with PackWriter(tmp_path / "many.pack", []) as pack:
        for number in range(66_000):
            pack._archive.add(f"{number:06d}.jpg", b"%d" % number)

    with zipfile.ZipFile(tmp_path / "many.pack") as archive:
        assert len(archive.namelist()) == 66_001
        assert archive.read("065999.jpg") == b"65999"


def test_masks_fit_their_images_of_over_1024_pixels(tmp_path: Path) -> None:
    large = picture(5, 1200)
    files = {"classes.txt": b"ground\ncup\n"}
    for at in range(8):
        image = large if at == 0 else picture(at)
        mask = Image.new("L", image.size, 0)
        mask.paste(1, (0, 0, image.width // 2, image.height))
        files |= {f"images/{at}.jpg": encoded(image, "JPEG"), f"masks/{at}.png": encoded(mask)}

    result = inspected(tmp_path, files, task=Task.SEMANTIC_SEGMENTATION)

    assert result["problems"] == []
    item = next(item for item in items_of(tmp_path) if item.name == "images/0.jpg")
    pack = PackReader(tmp_path / f"outputs/{'test' if item.split == 'test' else 'train'}.pack")
    assert item.size == pack.image(item).size == pack.mask(item).size == (1024, 1024)
