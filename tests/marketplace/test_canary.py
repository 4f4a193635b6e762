"""A slot that does not hear its own messages is found out; one that is busy is not."""

from __future__ import annotations

import doorbell
import pytest
from django.test import Client

from marketplace.queue_settings import FAST, TRAIN
from marketplace.supervision.canary import ANSWER_SECONDS, EVERY_SECONDS, Canary, heard_at, sing

pytestmark = pytest.mark.django_db


def sung(slot: str) -> None:
    """A worker takes the slot's message and does what it says."""
    message = doorbell.taken(slot)
    assert message["func"] == "marketplace.supervision.canary.sing"
    sing(*message["args"])


def test_a_canary_that_is_heard_rings_again_later_and_its_age_is_told(client: Client) -> None:
    canary = Canary(FAST, now=0)
    never = heard_at()

    answers = [canary.is_deaf(is_free=True, now=0)]
    sung(FAST)
    answers += [canary.is_deaf(is_free=True, now=second) for second in (1, 2, EVERY_SECONDS - 1)]
    between = doorbell.waiting()
    answers.append(canary.is_deaf(is_free=True, now=EVERY_SECONDS))

    assert never == {FAST: None, TRAIN: None}
    assert not any(answers)
    assert (between, doorbell.waiting()) == (0, 1)
    told = client.get("/healthz").json()["canary_seconds"]
    assert (type(told[FAST]), told[TRAIN]) == (int, None)


def test_a_free_worker_that_does_not_answer_in_time_is_deaf() -> None:
    canary = Canary(TRAIN, now=0)

    answers = [canary.is_deaf(is_free=True, now=now) for now in (0, ANSWER_SECONDS, ANSWER_SECONDS + 0.5)]

    assert answers == [False, False, True]


def test_a_worker_that_trains_for_hours_is_not_deaf_and_answers_when_it_is_free() -> None:
    canary = Canary(TRAIN, now=0)
    canary.is_deaf(is_free=True, now=0)

    busy = [canary.is_deaf(is_free=False, now=now) for now in range(0, 7201, 60)]
    free = [canary.is_deaf(is_free=True, now=now) for now in (7201, 7201 + ANSWER_SECONDS - 1)]
    sung(TRAIN)
    late = canary.is_deaf(is_free=True, now=7201 + 2 * ANSWER_SECONDS)

    assert not any([*busy, *free, late])
    assert heard_at()[TRAIN] is not None
