"""Engines that begin with their libraries imported: what they are to a caller, and what dies with whom."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from shapes_factory import ARCHITECTURE, LABELS, weights_at, write_pack, write_release
from test_drain import is_alive
from texts_factory import tiny_encoder
from texts_factory import weights_at as text_weights_at

from finetuning import engine_processes
from finetuning.engine import crash_points
from finetuning.engine import spec as specs
from finetuning.engine.events import Event, Kind
from finetuning.engine.hyper import Hyper, Strategy
from finetuning.engine.spec import Framework, Split, Task, Verb
from finetuning.runner import Ending, Outcome, Signal, run_engine

ROOT = Path(__file__).resolve().parents[2]
WARM_SECONDS = 60.0
SOON_SECONDS = 30.0
LONG = {"epochs": 200, "patience": 200}

pytestmark = pytest.mark.skipif(
    not engine_processes._can_fork(),
    reason="engines are executed here: an accelerator, or no Linux",
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fork-server") / "inputs"
    write_release(directory / "release")
    write_pack(directory / "train.pack", {Split.TRAIN: 6, Split.VALIDATION: 3})
    return directory


@pytest.fixture(autouse=True)
def own_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server of the test's own, which ends with it."""
    place = type(engine_processes._own)()
    monkeypatch.setattr(engine_processes, "_own", place)
    yield
    if server := getattr(place, "server", None):
        server.end()


class Engines:
    """Runs trainings in this thread, and remembers what their engines said first."""

    def __init__(self, folder: Path, inputs: Path) -> None:
        self.folder, self._inputs = folder, inputs
        self.started: list[Event] = []

    def laid_out(self, name: str, **hyper: Any) -> Path:
        run_dir = self.folder / name
        run_dir.mkdir()
        shutil.copytree(self._inputs, run_dir / "inputs")
        chosen = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "start_from_probe": False, **hyper}
        order = specs.TrainSpec(
            weights=weights_at("inputs/release"),
            strategy=Strategy.FULL,
            labels=LABELS,
            hyper=Hyper(**chosen),
            device="cpu",
            threads=1,
        )
        specs.write(order, run_dir)
        return run_dir

    def run(
        self,
        run_dir: Path,
        *,
        verb: Verb = Verb.TRAIN,
        warm_seconds: float = WARM_SECONDS,
        once_started: Callable[[int], object] = lambda _: None,
        heartbeat: Callable[[], Signal] = lambda: Signal.CONTINUE,
    ) -> Outcome:
        def take(events: list[Event]) -> None:
            for event in events:
                if event.kind is Kind.STARTED:
                    self.started.append(event)
                    once_started(event.payload["pid"])

        return run_engine(
            verb,
            run_dir,
            on_events=take,
            heartbeat=heartbeat,
            deadline_seconds=240,
            threads=1,
            warm_seconds=warm_seconds,
        )


@pytest.fixture
def engines(tmp_path: Path, inputs: Path) -> Engines:
    return Engines(tmp_path, inputs)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def die_soon(*pids: int) -> bool:
    until = time.monotonic() + SOON_SECONDS
    while any(map(is_alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(is_alive, pids))


def at_work(look: Callable[[int], None]) -> Callable[[int], None]:
    """Looks at an engine once it has written a checkpoint, and kills it."""

    def wait(pid: int) -> None:
        place = Path(os.readlink(f"/proc/{pid}/cwd"))
        until = time.monotonic() + SOON_SECONDS
        while not any(place.glob("checkpoints/*.ckpt")) and is_alive(pid) and time.monotonic() < until:
            time.sleep(0.05)
        look(pid)
        os.kill(pid, signal.SIGKILL)

    return wait


def weights_of(run_dir: Path) -> str:
    return hashlib.sha256((run_dir / "outputs/release/model.safetensors").read_bytes()).hexdigest()


def test_a_forked_engine_trains_the_same_weights_as_one_of_its_own_interpreter(engines: Engines) -> None:
    run_dirs = [engines.laid_out(name) for name in ("executed", "first", "second")]
    parents: list[int] = []

    outcomes = [
        engines.run(run_dir, warm_seconds=warm, once_started=lambda pid: parents.append(parent_of(pid)))
        for run_dir, warm in zip(run_dirs, (0.0, WARM_SECONDS, WARM_SECONDS), strict=True)
    ]

    assert [outcome.ending for outcome in outcomes] == [Ending.SUCCEEDED] * 3, outcomes
    assert len({weights_of(run_dir) for run_dir in run_dirs}) == 1
    assert parents[0] == os.getpid()
    assert parents[1] == parents[2] != os.getpid()
    assert len({event.payload["pid"] for event in engines.started}) == 3
    # It confines itself as well as an executed one, and writes into its own log.
    assert len({tuple(event.payload["unconfined"]) for event in engines.started}) == 1


def test_a_server_outlives_the_folders_that_it_has_worked_in(engines: Engines, tmp_path: Path) -> None:
    """A library that is imported for a later order may ask where it is."""
    gone = tmp_path / "gone"
    gone.mkdir()
    first = engines.run(engines.laid_out("gone/first"))
    shutil.rmtree(gone)
    run_dir = tmp_path / "text"
    tiny_encoder(run_dir / "inputs/release")
    specs.write(specs.VerifySpec(weights=text_weights_at("inputs/release")), run_dir)

    outcome = engines.run(run_dir, verb=Verb.VERIFY)

    assert first.ending is outcome.ending is Ending.SUCCEEDED, outcome


def test_a_forked_engine_finds_itself_where_an_executed_one_does(engines: Engines) -> None:
    """In a session and a directory of its own, with the same files open, no signal changed, and after the web server."""
    seen: list[dict[str, Any]] = []

    def look(pid: int) -> None:
        place, files = Path(f"/proc/{pid}"), set()
        for link in (place / "fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                files.add(Path(os.readlink(link)).name)
        status = dict(line.split(":\t", 1) for line in (place / "status").read_text().splitlines())
        seen.append(
            {
                "leads": os.getsid(pid) == os.getpgid(pid) == pid,
                "directory": Path(os.readlink(place / "cwd")).name,
                "files": {name for name in files if not name.endswith((".pack", ".ckpt", ".tmp"))},  # opened for a look
                "signals": [status[name] for name in ("SigBlk", "SigIgn", "SigCgt")],
                "niceness": os.getpriority(os.PRIO_PROCESS, pid),
                "umask": status["Umask"],
                "rights": [status[name] for name in ("CapEff", "CapPrm", "NoNewPrivs")],
            }
        )

    for folder, warm in (("a", 0.0), ("b", WARM_SECONDS)):
        (engines.folder / folder).mkdir()
        engines.run(engines.laid_out(f"{folder}/run", **LONG), warm_seconds=warm, once_started=at_work(look))

    assert seen[0] == seen[1]
    assert seen[0]["leads"]
    assert "lock" in seen[0]["files"]
    assert seen[0]["niceness"] == min(os.nice(0) + engine_processes.NICENESS, 19)


def test_a_forked_engine_is_called_what_it_does(engines: Engines) -> None:
    names: list[str] = []

    engines.run(engines.laid_out("run"), once_started=lambda pid: names.append(Path(f"/proc/{pid}/comm").read_text()))

    assert names == ["engine train\n"]


def test_what_one_engine_is_told_the_next_does_not_hear(engines: Engines) -> None:
    servers: list[int] = []

    def note(pid: int) -> None:
        servers.append(parent_of(pid))

    crash_points.arm(crash_points.Point.CHECKPOINT_SAVED)
    try:
        told = engines.run(engines.laid_out("told"), once_started=note)
    finally:
        crash_points.arm("")
    after = engines.run(engines.laid_out("after"), once_started=note)

    assert told.exit_code == -signal.SIGKILL
    assert after.ending is Ending.SUCCEEDED
    assert servers[0] == servers[1]


def test_an_engine_at_work_is_canceled_and_its_server_stays(engines: Engines) -> None:
    run_dir, pids = engines.laid_out("run", **LONG), []

    def note(pid: int) -> None:
        pids.append((pid, parent_of(pid)))

    def heartbeat() -> Signal:
        return Signal.CANCEL if any(run_dir.glob("checkpoints/*")) else Signal.CONTINUE

    canceled = engines.run(run_dir, once_started=note, heartbeat=heartbeat)
    gone = not is_alive(pids[0][0])
    after = engines.run(engines.laid_out("after"), once_started=note)

    assert (canceled.ending, canceled.exit_code) == (Ending.CANCELED, 143)
    assert gone
    assert after.ending is Ending.SUCCEEDED
    assert pids[0][1] == pids[1][1]


def test_an_estimate_counts_what_the_server_has_imported(engines: Engines) -> None:
    """Else a run would be promised sooner whenever somebody had just asked for another."""
    found = []
    for name, warm in (("executed", 0.0), ("first", WARM_SECONDS), ("second", WARM_SECONDS)):
        run_dir = engines.laid_out(name)
        specs.write(specs.EstimateSpec(order=specs.read(run_dir), steps=2), run_dir)

        outcome = engines.run(run_dir, verb=Verb.ESTIMATE, warm_seconds=warm)

        assert outcome.ending is Ending.SUCCEEDED, outcome
        found.append(outcome.result["estimate"]["parts"]["start"])
    executed, *forked = found
    # Once for the server, and twice, for the two engines of a run, for an engine that imports by itself.
    assert all(0.25 * executed < start < executed for start in forked), found


def test_what_no_framework_can_do_the_engine_says_and_its_server_stays(engines: Engines) -> None:
    run_dir, servers = engines.laid_out("run"), []
    path = run_dir / specs.SPEC_FILE
    document = path.read_text().replace('"timm"', '"transformers"')
    path.write_text(document.replace('"image-classification"', '"object-detection"'))

    def note(pid: int) -> None:
        servers.append(parent_of(pid))

    outcome = engines.run(run_dir, once_started=note)
    after = engines.run(engines.laid_out("after"), once_started=note)

    assert outcome.code == "user:config_invalid"
    assert after.ending is Ending.SUCCEEDED
    assert servers[0] == servers[1]


def test_a_server_that_could_not_import_something_forks_no_second_engine(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers: list[int] = []

    def note(pid: int) -> None:
        servers.append(parent_of(pid))

    run_dir = engines.laid_out("run")
    with monkeypatch.context() as patch:
        patch.setattr(engine_processes, "_libraries", lambda _: ("a broken one", (Task.IMAGE_CLASSIFICATION,)))
        outcome = engines.run(run_dir, once_started=note)
    after = engines.run(engines.laid_out("after"), once_started=note)

    assert outcome.ending is after.ending is Ending.SUCCEEDED
    assert "'a broken one' is not a valid Framework" in (run_dir / "engine.log").read_text()
    assert "broken" not in (engines.folder / "after" / "engine.log").read_text()
    assert servers[0] != servers[1]


TRAINING = specs.TrainSpec(
    weights=weights_at("w"), strategy=Strategy.HEAD, labels=LABELS, task=Task.OBJECT_DETECTION, hyper=Hyper()
)
ORDERS = {
    Verb.VERIFY: specs.VerifySpec(weights=weights_at("w")),
    Verb.CONVERT: specs.ConvertSpec(
        task=Task.IMAGE_CLASSIFICATION, framework=Framework.TIMM, architecture=ARCHITECTURE, url="https://example.com"
    ),
    Verb.TRAIN: TRAINING,
    Verb.SEARCH: specs.SearchSpec(
        weights=weights_at("w"), strategies=(Strategy.HEAD, Strategy.FULL), labels=LABELS, task=Task.OBJECT_DETECTION
    ),
    Verb.ESTIMATE: specs.EstimateSpec(order=TRAINING),
    Verb.EVALUATE: specs.EvaluateSpec(
        strategy=Strategy.HEAD,
        base=weights_at("w"),
        tuned=dataclasses.replace(weights_at("t"), task=Task.OBJECT_DETECTION),
    ),
}


@pytest.mark.parametrize("verb", sorted(engine_processes._FORKED))
def test_every_verb_that_is_forked_says_what_it_needs(verb: Verb) -> None:
    framework, tasks = specs.libraries(ORDERS[verb])

    assert framework is Framework.TIMM
    assert tasks[0] is Task.IMAGE_CLASSIFICATION
    assert tasks[-1] is (Task.OBJECT_DETECTION if len(tasks) > 1 else Task.IMAGE_CLASSIFICATION)


def test_a_killed_engine_leaves_its_server_to_the_next(engines: Engines) -> None:
    servers: list[int] = []

    def kill(pid: int) -> None:
        servers.append(parent_of(pid))
        os.kill(pid, signal.SIGKILL)

    killed = engines.run(engines.laid_out("killed", **LONG), once_started=kill)
    after = engines.run(engines.laid_out("after"), once_started=lambda pid: servers.append(parent_of(pid)))

    assert (killed.code, killed.exit_code) == ("app:killed", -signal.SIGKILL)
    assert after.ending is Ending.SUCCEEDED
    assert servers[0] == servers[1]


def test_an_engine_dies_with_its_server_and_the_next_has_another(engines: Engines) -> None:
    pids: list[int] = []

    def kill(pid: int) -> None:
        pids.extend((pid, parent_of(pid)))
        os.kill(parent_of(pid), signal.SIGKILL)

    killed = engines.run(engines.laid_out("killed", **LONG), once_started=kill)
    died = die_soon(*pids)
    after = engines.run(engines.laid_out("after"))

    assert (killed.code, killed.exit_code) == ("app:killed", -signal.SIGKILL)
    assert died
    assert after.ending is Ending.SUCCEEDED


def test_a_server_that_stands_still_holds_nobody_up(engines: Engines) -> None:
    pids: list[int] = []

    def stop(pid: int) -> None:
        pids.extend((pid, parent_of(pid)))
        os.kill(parent_of(pid), signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)

    def heartbeat() -> Signal:
        return Signal.LOST if pids else Signal.CONTINUE

    outcome = engines.run(engines.laid_out("run", **LONG), once_started=stop, heartbeat=heartbeat)

    assert outcome.ending is Ending.LOST
    assert die_soon(*pids)


@pytest.mark.parametrize("order", [Signal.CANCEL, Signal.PAUSE, Signal.DRAIN])
def test_an_order_that_comes_while_the_server_imports_is_obeyed_at_once(engines: Engines, order: Signal) -> None:
    outcome = engines.run(engines.laid_out("run", **LONG), heartbeat=lambda: order)

    assert outcome.ending.value.startswith(order.value)
    assert not engines.started


def test_a_pause_is_heard_by_a_forked_engine(engines: Engines) -> None:
    run_dir = engines.laid_out("run", **LONG)

    def heartbeat() -> Signal:
        return Signal.PAUSE if any(run_dir.glob("checkpoints/*")) else Signal.CONTINUE

    paused = engines.run(run_dir, heartbeat=heartbeat)

    assert (paused.ending, paused.exit_code) == (Ending.PAUSED, 85)


def test_a_server_leaves_that_nobody_asks_for_long(engines: Engines) -> None:
    servers: list[int] = []

    def note(pid: int) -> None:
        servers.append(parent_of(pid))

    engines.run(engines.laid_out("first"), warm_seconds=0.5, once_started=note)
    left = die_soon(servers[0])
    after = engines.run(engines.laid_out("second"), warm_seconds=0.5, once_started=note)

    assert left
    assert after.ending is Ending.SUCCEEDED
    assert servers[0] != servers[1]


WORKER = """
import sys
from pathlib import Path
from finetuning.engine.spec import Verb
from finetuning.runner import Signal, run_engine

def say(events):
    for event in events:
        if event.kind.value == "started":
            print(event.payload["pid"], flush=True)

run_engine(Verb.TRAIN, Path(sys.argv[1]), on_events=say, heartbeat=lambda: Signal.CONTINUE,
           deadline_seconds=240, threads=1, warm_seconds=60.0)
"""


def test_server_and_engine_die_with_a_killed_worker(engines: Engines) -> None:
    command = [sys.executable, "-c", WORKER, str(engines.laid_out("run", **LONG))]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        engine = int(worker.stdout.readline())
        server = parent_of(engine)
        assert parent_of(server) == worker.pid

        worker.kill()

        assert die_soon(server, engine)
