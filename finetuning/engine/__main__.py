"""`python -m finetuning.engine VERB RUN_DIR`: the contract of docs/engine.md, whatever the verb does."""

from __future__ import annotations

import errno
import fcntl
import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from finetuning.engine import confinement, crash_points, ranks, results
from finetuning.engine import spec as specs
from finetuning.engine.events import EventWriter, Kind
from finetuning.engine.failures import EXIT_APP, EXIT_BUSY, EXIT_USER, EngineFailure
from finetuning.engine.imports import torchvision_without_compiler, without_compiler
from finetuning.engine.memory import keep_freed_memory
from finetuning.engine.problems import Rejected
from finetuning.engine.stopping import Stopped, die_with_parent, exit_code, watch_for_stop

_LOCK_WAIT_SECONDS = 5.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


HELP = {
    specs.Verb.INSPECT: "check an uploaded archive and turn it into packs",
    specs.Verb.VERIFY: "check a release: its files, weights and golden pair",
    specs.Verb.CONVERT: "turn a pickle of tensors into a release",
    specs.Verb.ZOO: "list the pretrained models that torchvision knows of",
    specs.Verb.EXAMPLES: "build a data set to try each task with",
    specs.Verb.REBUILD: "put files together out of the chunks that a Xet client has sent",
    specs.Verb.TRAIN: "fine-tune a release on the training and validation items",
    specs.Verb.SEARCH: "try strategies and hyper-parameters on the validation items",
    specs.Verb.ESTIMATE: "rehearse a training on a few items, and say how long the whole takes",
    specs.Verb.EVALUATE: "score a finished training on the test items, and write the receipt",
    specs.Verb.EXPORT: "write a release as one ONNX file, and compare the two on the test items",
    specs.Verb.SERVE: "answer predictions on a Unix socket until SIGTERM",
}
VERIFY_RECEIPT = "verify-receipt"
CONFINEMENT = "confinement"
_WITHOUT_TORCH = frozenset({specs.Verb.INSPECT, specs.Verb.EXAMPLES, specs.Verb.REBUILD})


def main(arguments: list[str]) -> int:
    if arguments in (["--help"], ["-h"]):
        lines = [*((verb.value, text) for verb, text in HELP.items())]
        lines.append((CONFINEMENT, "say which parts of the confinement this machine does not grant"))
        lines.append((VERIFY_RECEIPT, "evaluate again from a run directory's receipt, and compare"))
        sys.stdout.write("usage: python -m finetuning.engine VERB RUN_DIR\n\n")
        sys.stdout.writelines(f"  {name:16}{text}\n" for name, text in lines)
        return 0
    if len(arguments) == 2 and (beside := _BESIDE_VERBS.get(arguments[0])):
        return beside(arguments[1])
    if len(arguments) != 2 or arguments[0] not in tuple(specs.Verb):
        names = ",".join([*specs.Verb, VERIFY_RECEIPT, CONFINEMENT])
        sys.stderr.write(f"usage: python -m finetuning.engine {{{names}}} RUN_DIR, or --help\n")
        return 64
    verb, run_dir, rank = specs.Verb(arguments[0]), Path(arguments[1]).resolve(), ranks.own()
    crash_points.arm(os.environ.get(crash_points.VARIABLE, ""))
    wish = confinement.asked_for()
    missing = confinement.confine(wish, run_dir) if wish else []
    _die_with_supervisor(rank)
    if rank.world > 1 and verb is not specs.Verb.TRAIN:
        sys.stderr.write(f"{verb.value} works in one process: start it without torchrun.\n")
        return 64
    if not rank.is_first:
        return _beside(verb, run_dir, rank)
    lock = _lock(run_dir)
    if lock is None:
        return EXIT_BUSY
    crash_points.reach(crash_points.Point.LOCK_TAKEN)
    if results.finished(run_dir, verb):  # an earlier attempt finished: never work twice
        return 0
    with EventWriter(run_dir / specs.EVENTS_FILE) as events:
        events.emit(Kind.STARTED, pid=os.getpid(), engine=specs.FORMAT, unconfined=missing)
        if missing and wish and wish.required:
            message = f"This server cannot confine the engine ({', '.join(missing)}), and is told not to work without."
            return _failed(events, "app:not_confined", message, (), EXIT_APP)
        return _guarded(verb, run_dir, events)


def _beside(verb: specs.Verb, run_dir: Path, rank: ranks.Rank) -> int:
    """Works along with the first rank, which alone writes into the run directory."""
    if results.finished(run_dir, verb):
        return 0
    with ranks.private_copy(run_dir, rank) as private, EventWriter(private / specs.EVENTS_FILE) as events:
        return _guarded(verb, private, events)


def _missing_confinement(directory: str) -> int:
    missing = confinement.confine(confinement.Wish(), Path(directory).resolve())
    sys.stdout.write(json.dumps({"missing": missing}) + "\n")
    return 0


def _serve_forks(descriptor: str) -> int:
    return int(importlib.import_module("finetuning.engine.fork_server").serve(int(descriptor), main))


def _verify_receipt(directory: str) -> int:
    """Prints the answer as JSON; 0 where the receipt holds. Changes nothing in the run directory."""
    run_dir = Path(directory).resolve()
    try:
        answer = importlib.import_module("finetuning.engine.verify_receipt").run(run_dir)
    except EngineFailure as error:
        sys.stderr.write(f"{error.qualified_code}: {error.message}\n")
        return error.exit_code
    except Rejected as error:
        sys.stderr.write(f"user:{error.problems[0].code}: {error.problems[0].message}\n")
        return EXIT_USER
    sys.stdout.write(json.dumps(answer, indent=1) + "\n")
    return 0 if answer["verdict"] in {"equal", "within_tolerance"} else EXIT_USER


def _die_with_supervisor(rank: ranks.Rank) -> None:
    """Under torchrun the parent is torchrun, which ends its processes itself."""
    if expected := os.environ.get("ENGINE_PARENT_PID"):
        die_with_parent(int(expected), is_direct=rank.world == 1)


def _lock(run_dir: Path) -> int | None:
    """Returns the held lock's descriptor, or None where another engine keeps the directory."""
    descriptor = os.open(run_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + _LOCK_WAIT_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.1)
        else:
            return descriptor


def _guarded(verb: specs.Verb, run_dir: Path, events: EventWriter) -> int:
    """Runs the verb and turns every way of failing into one event and one exit code."""
    try:
        watch_for_stop()
        _work(verb, run_dir, events)
    except Stopped:
        events.log("Stopped as asked.")
        return exit_code()
    except specs.SpecError as error:
        return _failed(events, "user:bad_spec", str(error), (), EXIT_USER)
    except Rejected as error:
        first = error.problems[0]
        return _failed(events, f"user:{first.code}", first.message, first.items, EXIT_USER)
    except EngineFailure as error:
        return _failed(events, error.qualified_code, error.message, error.items, error.exit_code)
    except MemoryError:
        return _failed(events, "app:out_of_memory", "The memory of this server did not suffice.", (), EXIT_APP)
    except OSError as error:
        if error.errno in _FULL:
            return _failed(events, "app:disk_full", "The disk of this server is full.", (), EXIT_APP)
        traceback.print_exc()
        return _failed(events, "app:internal", "The engine could not read or write a file.", (), EXIT_APP)
    except Exception as error:  # the process's boundary: the traceback goes to the operator's log
        traceback.print_exc()
        if "out of memory" in str(error).lower():
            message = "The memory did not suffice. Try a smaller batch."
            return _failed(events, "app:out_of_memory", message, (), EXIT_APP)
        return _failed(events, "app:internal", "The engine met an error of its own.", (), EXIT_APP)
    return 0


def _failed(events: EventWriter, code: str, message: str, items: Any, exit_code: int) -> int:
    events.emit(Kind.FAILED, code=code, message=message, items=list(items))
    return exit_code


def _work(verb: specs.Verb, run_dir: Path, events: EventWriter) -> None:
    started = time.monotonic()
    spec = specs.read(run_dir)
    if not isinstance(spec, specs.type_of_verb[verb]):
        raise specs.SpecError(f"spec.json is not for the verb {verb}.", "verb")
    (run_dir / specs.OUTPUTS_DIR).mkdir(exist_ok=True)
    # Imported late: `started` must reach the reader before torch, which takes seconds, is loaded.
    machine = _machine(spec) if verb not in _WITHOUT_TORCH else {}
    part = importlib.import_module(f"finetuning.engine.{verb.value}").run(spec, run_dir, events)
    seconds = time.monotonic() - started
    results.write(run_dir, verb=verb, part={**machine, **part}, seconds=seconds)
    crash_points.reach(crash_points.Point.RESULT_SAVED)
    events.emit(Kind.FINISHED, seconds=round(seconds, 3))


def _machine(spec: Any) -> dict[str, Any]:
    """Prepares torch as the spec asks, and says what the verb computes on."""
    if not isinstance(spec, specs.ServeSpec):
        keep_freed_memory()
    if isinstance(spec, specs.ExportSpec):
        torchvision_without_compiler()  # the exporter traces with the compiler's marks
    else:
        without_compiler()
    machine = importlib.import_module("finetuning.engine.runtime").prepare(
        device=getattr(spec, "device", "auto"),
        threads=getattr(spec, "threads", 0),
        seed=getattr(getattr(spec, "hyper", spec), "seed", 0),
    )
    return {"device": str(machine.device), "threads": machine.threads, "hardware": machine.hardware}


_BESIDE_VERBS = {VERIFY_RECEIPT: _verify_receipt, CONFINEMENT: _missing_confinement, specs.FORK_SERVER: _serve_forks}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
