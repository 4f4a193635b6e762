"""Threads that compute by themselves give what one thread gives, in its order, and disturb nobody."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from shapes_factory import weights_at, write_pack, write_release
from torchvision.transforms.v2 import functional

from finetuning.engine import boundary, features, frameworks, lone_threads, preprocessing
from finetuning.engine.events import EventWriter
from finetuning.engine.frameworks import stage_head
from finetuning.engine.packs import PackReader
from finetuning.engine.spec import Preprocessing, Split

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_what_was_given_though_a_later_one_is_ready_first() -> None:
    second_is_done = threading.Event()

    def result(number: int) -> tuple[int, int]:
        if number == 0:
            assert second_is_done.wait(60)
        if number == 1:
            second_is_done.set()
        return number, torch.get_num_threads()

    assert list(lone_threads.each(result, range(5), 2)) == [(number, 1) for number in range(5)]


def test_no_more_is_taken_than_is_worked_on_and_one_to_go_on_with() -> None:
    taken: list[int] = []

    def given() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = lone_threads.each(abs, given(), 2)
    assert next(results) == 0
    assert taken == [0, 1, 2]
    results.close()


def test_a_fault_reaches_whoever_asks_and_nothing_behind_it_is_begun() -> None:
    begun: list[int] = []

    def faulty(number: int) -> int:
        begun.append(number)
        if number == 1:
            raise ValueError("of the second")
        return number

    results = lone_threads.each(faulty, range(100), 1)
    assert next(results) == 0
    with pytest.raises(ValueError, match="of the second"):
        next(results)
    assert max(begun) <= 3


def test_whoever_comes_later_has_as_many_threads_as_before() -> None:
    list(lone_threads.each(abs, range(4), 2))
    seen: list[int] = []

    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()

    assert seen == [torch.get_num_threads()] == [2]


@pytest.mark.parametrize("reads", ["the last layer", "several stages"])
def test_features_are_the_same_however_many_threads_compute_them(tmp_path: Path, reads: str) -> None:
    write_release(tmp_path / "release")
    write_pack(tmp_path / "train.pack", {Split.TRAIN: 30})
    loaded = frameworks.load(weights_at("release"), tmp_path)
    if reads == "several stages":
        loaded = frameworks.with_stage_head(loaded)
    pack, to_input = PackReader(tmp_path / "train.pack"), preprocessing.transform(loaded.preprocessing)

    def table(threads: int) -> torch.Tensor:
        torch.set_num_threads(threads)
        with EventWriter(tmp_path / f"events-{threads}.jsonl") as events:
            return features.extract(
                frameworks.headless(loaded),
                pack,
                pack.items,
                lambda _item, image: to_input(image),
                device=CPU,
                events=events,
            )[0]

    alone, together = table(1), table(4)
    assert len(alone) == len(pack.items)
    assert torch.equal(alone, together)
    assert len(alone.unique(dim=0)) > 1


def test_a_hook_is_met_by_its_own_thread_alone() -> None:
    module, seen = torch.nn.Linear(2, 2), []

    with lone_threads.hooked((module.register_forward_hook, lambda *_: seen.append(threading.get_ident()))):
        list(lone_threads.each(module, [torch.zeros(1, 2)] * 4, 2))
        module(torch.zeros(1, 2))
    module(torch.zeros(1, 2))

    assert seen == [threading.get_ident()]


def test_stages_are_read_by_many_threads_that_take_turns_at_every_moment() -> None:
    backbone = torch.nn.Sequential(*(torch.nn.Conv2d(2, 2, 1) for _ in range(6))).eval()
    images = [torch.full((1, 2, 3, 3), float(number)) for number in range(4)]

    def read(image: torch.Tensor) -> list[list[float]]:
        with torch.inference_mode():
            _, last_is_all = stage_head.outputs(backbone, ["1", "3"], image, stop=True)
            prefix = boundary.Prefix(backbone, backbone[4])(image)
        return [value.flatten().tolist() for value in (*last_is_all, prefix)]

    wanted = [read(image) for image in images]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        got = list(lone_threads.each(read, images * 250, 4))
    finally:
        sys.setswitchinterval(interval)

    assert all(found == wanted[number % 4] for number, found in enumerate(got))
    assert wanted[0] != wanted[1]


@pytest.mark.parametrize("size", [(7, 5), (64, 64)])
def test_a_picture_is_normalized_as_torchvision_does_it(size: tuple[int, int]) -> None:
    pixels = torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    image, spec = Image.fromarray(pixels.numpy(), "RGB"), Preprocessing()

    scaled = functional.to_dtype(functional.pil_to_tensor(image), scale=True)
    wanted = functional.normalize(scaled, list(spec.mean), list(spec.std))

    assert torch.equal(preprocessing.to_tensor(image, spec), wanted)


def test_batches_lie_in_memory_as_convolutions_want_them(tmp_path: Path) -> None:
    write_pack(tmp_path / "train.pack", {Split.TRAIN: 5})
    pack, to_input = PackReader(tmp_path / "train.pack"), preprocessing.transform(Preprocessing(size=32))

    def pair(_item: object, image: Image.Image) -> tuple[torch.Tensor, torch.Tensor]:
        return to_input(image), torch.zeros(32, 32, dtype=torch.uint8)

    ((group, (images, masks)),) = features.batches(pack, pack.items, pair)

    assert len(group) == len(pack) == 15
    assert (tuple(images.shape), tuple(masks.shape)) == ((15, 3, 32, 32), (15, 32, 32))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images[2], to_input(pack.image(pack.items[2])))
