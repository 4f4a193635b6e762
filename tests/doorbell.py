"""The messages that wait for a slot, whichever broker holds them: the tests' view of the queue."""

from __future__ import annotations

from typing import Any

from django_q.brokers import Broker, get_broker
from django_q.signing import SignedPackage

from marketplace.queue_settings import FAST, TRAIN


def waiting() -> int:
    return sum(int(_broker(slot).queue_size()) for slot in (FAST, TRAIN))


def taken(slot: str) -> dict[str, Any]:
    """Takes the slot's next message, as a worker does, and returns what it asks for."""
    broker = _broker(slot)
    [(number, message)] = broker.dequeue()
    broker.acknowledge(number)
    return dict(SignedPackage.loads(message))


def all_taken() -> list[dict[str, Any]]:
    return [taken(slot) for slot in (FAST, TRAIN) for _ in range(int(_broker(slot).queue_size()))]


def silence() -> None:
    for slot in (FAST, TRAIN):
        _broker(slot).purge_queue()


def _broker(slot: str) -> Broker:
    return get_broker(list_key=slot)
