"""django-q2's settings for each slot. Plain values: settings.py imports this before Django is ready."""

from __future__ import annotations

from typing import Any

SITE = "marketplace"
FAST, TRAIN = "fast", "train"
VERBS_OF_A_RUN = 4  # search, train, evaluate, export: each has the whole deadline
CHECK_DEADLINE_SECONDS = 1500  # of one inspection, verification or conversion
_FILES_SECONDS = 1800  # for copying and hashing before and after the engine, which its deadline does not count


def _slots(run_deadline_seconds: int) -> dict[str, dict[str, Any]]:
    """The engine's deadlines are the rule; django-q2's own timeout only catches a task that hangs beside it.

    retry must exceed timeout, or the broker hands a running message out again; losing or doubling a message
    is harmless all the same, because the rows are the truth (docs/adr/0004)."""
    check = CHECK_DEADLINE_SECONDS + _FILES_SECONDS
    tune = VERBS_OF_A_RUN * run_deadline_seconds + _FILES_SECONDS
    return {
        FAST: {"workers": 2, "timeout": check, "retry": 3 * check, "queue_limit": 2},
        TRAIN: {"workers": 1, "timeout": tune, "retry": 3 * tune, "queue_limit": 1},
    }


def q_cluster(*, slot: str, broker_url: str, run_deadline_seconds: int) -> dict[str, Any]:
    """Returns Q_CLUSTER for the slot; the other one is reachable by name for enqueueing."""
    slots = _slots(run_deadline_seconds)
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
        **slots.get(slot, slots[FAST]),
        "ALT_CLUSTERS": {name: {**shared, **values} for name, values in slots.items()},
    }
