"""How the times of a rehearsal become those of the whole, and how the training loop tells its progress."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from tiny_trainee import TinyTrainee, fitted

from finetuning.engine import rehearsal
from finetuning.engine.hyper import Hyper
from finetuning.engine.rehearsal import Growth, Passage


def stage(name: str, seconds: float, told: dict[str, list[tuple[float, int, int]]] | None = None) -> Passage:
    return Passage(name, 0.0, seconds, told or {})


GROWTH = Growth(items=10, validation=3, test=5, views=2, epochs=7, sample=40)


def test_a_training_grows_by_steps_and_epochs_and_its_validations_by_their_items() -> None:
    # Four steps of 1 s an epoch, 5 s between the two epochs, 6 s after the last, of which 1 s comes once.
    ends = [1.0, 2.0, 3.0, 4.0, 10.0, 11.0, 12.0, 13.0]
    rows = [(end, 10 * (number + 1), 80) for number, end in enumerate(ends)]

    found = rehearsal.whole([stage("tune", 19.0, {"tune": rows})], GROWTH)

    assert found == {"tune": pytest.approx(7 * (40 * 1.0 + 5.0 * 3) + 1.0 * 3)}


def test_epochs_that_a_task_sets_itself_are_not_those_of_the_settings() -> None:
    rows = [(float(number), 20 * number, 200) for number in range(1, 11)]

    found = rehearsal.whole([stage("tune", 10.0, {"probe_tune": rows})], GROWTH)

    assert found == {"tune": pytest.approx(5 * 20)}


def test_items_grow_and_what_is_done_once_does_not() -> None:
    # The first batch of 10 took 4 s, of which 3 s made the network ready; each item takes 0.1 s.
    rows = [(4.0, 10, 40), (5.0, 20, 40), (6.0, 30, 40), (7.0, 40, 40)]

    found = rehearsal.whole(
        [stage("load", 2.0), stage("features", 7.0, {"features": rows}), stage("head", 1.0), stage("evaluate", 2.0)],
        GROWTH,
    )

    assert found == {"load": 2.0, "features": pytest.approx(3 + 40), "head": 10.0, "evaluate": 10.0}


def test_batches_that_are_told_together_count_by_rounds() -> None:
    # Rounds of two batches of 5 take 1 s, the first one 3 s more; of the last batch alone nobody knows.
    ends = [4.0, 4.0, 5.0, 5.0, 6.0, 6.0, 6.5]
    rows = [(end, 5 * (number + 1), 35) for number, end in enumerate(ends)]
    two = dataclasses.replace(GROWTH, at_once=2)

    found = rehearsal.whole([stage("features", 6.5, {"features": rows})], two)

    assert found == {"features": pytest.approx(3.5 * 10 + 3.0)}
    assert rehearsal.rate_of([stage("features", 6.5, {"features": rows})], "features", at_once=2) == pytest.approx(10)


def test_of_less_than_two_rounds_nothing_is_known_of_what_comes_once() -> None:
    rows = [(4.0, 5, 20), (4.0, 10, 20), (4.0, 15, 20), (4.1, 20, 20)]
    four = dataclasses.replace(GROWTH, at_once=4)

    assert rehearsal.whole([stage("features", 4.2, {"features": rows})], four) == {"features": pytest.approx(42)}
    assert rehearsal.rate_of([stage("features", 4.2, {"features": rows})], "features", at_once=4) is None


def test_activations_are_computed_for_every_view() -> None:
    found = rehearsal.whole([stage("activations", 3.0)], GROWTH)

    assert found == {"activations": 3.0 * 10 * 2}


def test_progress_of_a_training_is_told_in_items_of_all_epochs(tmp_path: Path) -> None:
    torch.manual_seed(0)

    fitted(TinyTrainee(Hyper(epochs=2, batch_size=32)), tmp_path / "run")

    events = [json.loads(line) for line in (tmp_path / "run/events.jsonl").read_text().splitlines()]
    last = [event for event in events if event["kind"] == "progress"][-1]
    assert (last["done"], last["total"]) == (640, 640)
    assert last["rate"] > 0
