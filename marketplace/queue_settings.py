"""django-q2's settings for each slot. Plain values: settings.py imports this before Django is ready."""

from __future__ import annotations

from typing import Any

SITE = "marketplace"
FAST, TRAIN = "fast", "train"
_MAX_TRAIN_SECONDS = 6 * 3600 + 600

# retry must exceed timeout, or the broker hands a running message out again; losing or doubling a message
# is harmless all the same, because the rows are the truth (docs/adr/0004).
_SLOTS: dict[str, dict[str, Any]] = {
    FAST: {"workers": 2, "timeout": 1800, "retry": 5500, "queue_limit": 2},
    TRAIN: {"workers": 1, "timeout": _MAX_TRAIN_SECONDS, "retry": 4 * _MAX_TRAIN_SECONDS, "queue_limit": 1},
}


def q_cluster(*, slot: str, broker_url: str) -> dict[str, Any]:
    """Returns Q_CLUSTER for the slot; the other one is reachable by name for enqueueing."""
    broker: dict[str, Any] = {"redis": broker_url} if broker_url else {"orm": "default"}
    shared = {
        **broker,
        "poll": 0.2,
        "bulk": 1,
        "ack_failures": True,
        "save_limit": -1,
        "guard_cycle": 0.5,
        "max_attempts": 1,
        "recycle": 200,
        "catch_up": False,
        "label": "Jobs",
    }
    return {
        "name": SITE,  # messages are signed with it: the same in every process
        **shared,
        **_SLOTS.get(slot, _SLOTS[FAST]),
        "ALT_CLUSTERS": {name: {**shared, **values} for name, values in _SLOTS.items()},
    }
