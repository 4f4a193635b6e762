"""The runner with small programs in the engine's place: real processes, real files."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from finetuning.engine.events import Event, EventTail, EventWriter, Kind
from finetuning.engine.plain_files import ForeignFileError
from finetuning.engine.spec import EVENTS_FILE, RESULT_FILE, Verb
from finetuning.runner import LOG_FILE, Ending, Outcome, Signal, run_engine

BEGIN = """
import json, os, signal, sys, time
from pathlib import Path
from finetuning.engine.events import EventWriter, Kind
events = EventWriter(Path(sys.argv[2]) / "events.jsonl")
events.emit(Kind.STARTED, pid=os.getpid(), engine=1)
"""
FINISH = f'Path(sys.argv[2], "{RESULT_FILE}").write_text("{{}}")'
DIE = "os.kill(os.getpid(), signal.SIGKILL)"


def program(*lines: str) -> Sequence[str]:
    return (sys.executable, "-c", "\n".join((BEGIN, *lines)))


def run(run_dir: Path, *lines: str, **changes: Any) -> tuple[Outcome, list[Event]]:
    seen: list[Event] = []
    given: dict[str, Any] = {
        "on_events": seen.extend,
        "heartbeat": lambda: Signal.CONTINUE,
        "deadline_seconds": 60,
        "program": program(*lines),
        **changes,
    }
    return run_engine(Verb.TRAIN, run_dir, **given), seen


def test_a_second_attempt_sees_only_its_own_events(tmp_path: Path) -> None:
    first, _ = run(tmp_path, 'events.emit(Kind.FAILED, code="user:bad", message="of the first")', "sys.exit(65)")
    second, seen = run(tmp_path, 'events.log("of the second")', FINISH)

    assert (first.ending, first.code) == (Ending.FAILED, "user:bad")
    assert second.ending is Ending.SUCCEEDED
    assert [event.kind for event in seen] == [Kind.STARTED, Kind.LOG]


def test_the_engine_gives_way_to_whoever_waits_for_a_page(tmp_path: Path) -> None:
    outcome, _ = run(
        tmp_path,
        "import time",
        "until = time.monotonic() + 20",
        f"while os.nice(0) <= {os.nice(0)} and time.monotonic() < until: time.sleep(0.01)",
        f"sys.exit(0 if os.nice(0) > {os.nice(0)} else 9)",
    )

    assert outcome.exit_code == 0


def test_a_killed_second_attempt_is_not_told_the_first_ones_failure(tmp_path: Path) -> None:
    run(tmp_path, 'events.emit(Kind.FAILED, code="user:bad", message="of the first")', "sys.exit(65)")
    second, _ = run(tmp_path, DIE)

    assert (second.code, second.exit_code) == ("app:killed", -signal.SIGKILL)


def test_what_an_earlier_engine_writes_while_it_dies_is_not_the_new_ones(tmp_path: Path) -> None:
    """The old one's last words come after the new engine was started, and before it says so."""
    late = json.dumps({"at": 1, "kind": "failed", "code": "user:bad", "message": "of the first"})
    old = f"import sys\nwith open(sys.argv[2] + '/{EVENTS_FILE}', 'a') as file: file.write({late!r} + '\\n')\n"

    outcome, seen = run(tmp_path, program=(sys.executable, "-c", old + BEGIN + DIE))

    assert outcome.code == "app:killed"
    assert [event.kind for event in seen] == [Kind.STARTED]


def test_half_a_line_of_a_killed_engine_does_not_swallow_the_next_ones_first(tmp_path: Path) -> None:
    (tmp_path / EVENTS_FILE).write_text('{"at": 1, "kind": "lo')

    outcome, seen = run(tmp_path, FINISH)

    assert outcome.ending is Ending.SUCCEEDED
    assert [event.kind for event in seen] == [Kind.STARTED]


def test_an_engine_is_gone_when_its_heartbeat_says_that_the_lease_is_lost(tmp_path: Path) -> None:
    pids: list[int] = []
    started = threading.Event()

    def on_events(events: list[Event]) -> None:
        pids.extend(event.payload["pid"] for event in events)
        started.set()

    outcome, _ = run(
        tmp_path,
        "time.sleep(600)",
        on_events=on_events,
        heartbeat=lambda: Signal.LOST if started.is_set() else Signal.CONTINUE,
    )

    assert outcome.ending is Ending.LOST
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_written_and_read_as_a_gap(tmp_path: Path, value: float) -> None:
    with EventWriter(tmp_path / EVENTS_FILE) as events:
        events.metric("loss", "train", 1, value)
    (tmp_path / "raw").write_text(json.dumps({"at": 1, "kind": "metric", "name": "loss", "value": value}) + "\n")

    written = json.loads((tmp_path / EVENTS_FILE).read_text(), parse_constant=pytest.fail)
    read = [EventTail(tmp_path / name).read()[0].payload["value"] for name in (EVENTS_FILE, "raw")]

    assert written["value"] is None
    assert read == [None, None]


def test_text_that_a_database_refuses_is_made_harmless(tmp_path: Path) -> None:
    (tmp_path / EVENTS_FILE).write_text('{"at": 1, "kind": "log", "message": "a\\u0000b\\ud800"}\n')

    assert EventTail(tmp_path / EVENTS_FILE).read()[0].payload == {"message": "a\ufffdb?"}


@pytest.mark.parametrize("at", ["NaN", "1e300", "-5", '"never"'])
def test_a_time_that_no_calendar_has_makes_the_line_garbage(tmp_path: Path, at: str) -> None:
    (tmp_path / EVENTS_FILE).write_text(f'{{"at": {at}, "kind": "log"}}\n{"[" * 20_000}\n')
    tail = EventTail(tmp_path / EVENTS_FILE)

    assert tail.read() == []
    assert tail.garbage == 2


def test_progress_is_written_a_few_times_a_second_and_the_last_one_always(tmp_path: Path) -> None:
    with EventWriter(tmp_path / EVENTS_FILE) as events:
        for done in range(1, 5001):
            events.progress("tune", done, 10_000)
        events.metric("loss", "train", 1, 0.5)
        events.progress("test", 1, 3)
        events.progress("test", 2, 3)

    read = EventTail(tmp_path / EVENTS_FILE).read()
    done = [(event.kind, event.payload.get("done")) for event in read]

    assert len(read) < 50
    assert done[-4:] == [(Kind.PROGRESS, 5000), (Kind.METRIC, None), (Kind.PROGRESS, 1), (Kind.PROGRESS, 2)]


def test_a_flood_of_events_is_read_in_pieces(tmp_path: Path) -> None:
    line = json.dumps({"at": 1, "kind": "log", "message": "x" * 60_000}) + "\n"
    (tmp_path / EVENTS_FILE).write_text(line * 200)
    tail = EventTail(tmp_path / EVENTS_FILE)

    sizes = [len(tail.read())]
    while tail.has_more:
        sizes.append(len(tail.read()))

    assert sum(sizes) == 200
    assert max(sizes) < 80


def test_a_pipe_or_a_link_in_the_place_of_what_is_read_holds_nobody_up(tmp_path: Path) -> None:
    """While the engine runs it may put anything there."""
    (tmp_path / "site.json").write_text('{"secret": 1}')
    run_dir = tmp_path / "run"
    run_dir.mkdir()

    outcome, seen = run(
        run_dir,
        f'os.unlink(Path(sys.argv[2], "{EVENTS_FILE}")); os.mkfifo(Path(sys.argv[2], "{EVENTS_FILE}"))',
        f'os.symlink("../site.json", Path(sys.argv[2], "{RESULT_FILE}"))',
        f'os.unlink(Path(sys.argv[2], "{LOG_FILE}")); os.symlink("../site.json", Path(sys.argv[2], "{LOG_FILE}"))',
    )

    assert outcome.ending is Ending.FAILED
    assert outcome.result == {}
    assert all(event.kind is Kind.STARTED for event in seen)
    with pytest.raises(ForeignFileError):  # the next engine's prints would go there
        run(run_dir, "print('of the second')")
    assert (tmp_path / "site.json").read_text() == '{"secret": 1}'
