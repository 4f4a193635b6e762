"""When the supervisor starts again what has died."""

from __future__ import annotations

from marketplace.supervision.supervisor import LONGEST_PAUSE_SECONDS, STEADY_SECONDS, next_pause


def test_what_had_started_comes_back_at_once_however_often_it_is_killed() -> None:
    assert next_pause(0.0, lived=STEADY_SECONDS) == 0
    assert next_pause(LONGEST_PAUSE_SECONDS, lived=STEADY_SECONDS) == 0


def test_what_cannot_start_is_given_growing_pauses() -> None:
    pauses = [0.0]
    for _ in range(8):
        pauses.append(next_pause(pauses[-1], lived=1.0))

    assert pauses == [0, 1, 2, 4, 8, 16, 30, 30, 30]
