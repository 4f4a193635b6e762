"""What a hostile engine cannot do: probes that run confined, as the runner confines every engine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from finetuning.engine.spec import Verb
from finetuning.runner import Ending, Outcome, Sandbox, Signal, run_engine, unconfined
from marketplace.management.commands import up

GRANTED = not unconfined()
PROBES = {
    "read the database": "open(SECRET).read()",
    "list the site's folder": "os.listdir(os.path.dirname(SECRET))",
    "read the passwords' file": "open('/etc/passwd').read()",
    "read the parent's environment": "open(f'/proc/{os.getppid()}/environ').read()",
    "write beside its directory": "open(os.path.join(os.path.dirname(RUN), 'x'), 'w')",
    "write to /tmp": "open('/tmp/probe-of-the-sandbox', 'w')",
    "write to its inputs": "open(RUN + '/inputs/given', 'w')",
    "remove an input": "os.remove(RUN + '/inputs/given')",
    "change the mode of an input": "os.chmod(RUN + '/inputs/given', 0o777)",
    "add an input": "open(RUN + '/inputs/more', 'w')",
    "connect by TCP": "socket.create_connection(('127.0.0.1', PORT), 2)",
    "send by UDP": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
    "look a name up": "socket.getaddrinfo('example.com', 80)",
    "take 4 GiB of memory": "bytearray(4 * 2**30)",
    "write 80 MiB into one file": "open(RUN + '/outputs/big', 'wb').write(bytes(80 * 2**20))",
    "become another user": "os.setuid(12345)",
    "mount": "mount()",
    "run a program that it wrote": "script()",
}
ENGINE = """
import ctypes, json, os, socket, subprocess, sys
from pathlib import Path
from finetuning.engine import confinement
RUN, SECRET, PORT, PROBES = sys.argv[2], sys.argv[3], int(sys.argv[4]), json.loads(sys.argv[5])
os.mkdir(RUN + "/outputs")
missing = confinement.confine(confinement.asked_for(), Path(RUN))

def mount():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2((RUN + "/inputs").encode(), 2) and libc.mount(b"none", RUN.encode(), b"tmpfs", 0, None):
        raise PermissionError

def script():
    path = RUN + "/outputs/script"
    Path(path).write_text("#!/bin/sh\\n")
    os.chmod(path, 0o755)
    subprocess.run([path], check=True)

done = {}
for name, code in PROBES.items():
    try:
        exec(code)
        done[name] = "done"
    except BaseException as error:
        done[name] = type(error).__name__
Path(RUN, "result.json").write_text(json.dumps({"done": done, "missing": missing, "environ": dict(os.environ)}))
"""


@pytest.fixture
def given(tmp_path: Path) -> Path:
    run_dir = tmp_path / "run"
    (run_dir / "inputs").mkdir(parents=True)
    (run_dir / "inputs" / "given").write_text("an input")
    (tmp_path / "secret").write_text("the secret")
    return run_dir


def probed(run_dir: Path, probes: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Runs the probes in a process that is confined as an engine is; a server listens meanwhile."""

    with socket.create_server(("127.0.0.1", 0)) as server:
        arguments = [str(run_dir.parent / "secret"), str(server.getsockname()[1]), json.dumps(probes)]
        monkeypatch.setenv("A_SECRET_OF_THE_SITE", "secret")
        outcome = engine(run_dir, (sys.executable, "-P", "-c", _with(arguments)))
    assert outcome.ending is Ending.SUCCEEDED, (outcome, (run_dir / "engine.log").read_text())
    return outcome.result


def _with(arguments: list[str]) -> str:
    """The program takes what the runner does not pass on."""
    return f"import sys\nsys.argv[1:] = [*sys.argv[1:], *{arguments!r}]\n{ENGINE}"


def engine(run_dir: Path, program: Sequence[str], *, verb: Verb = Verb.TRAIN, required: bool = False) -> Outcome:
    return run_engine(
        verb,
        run_dir,
        on_events=lambda _: None,
        heartbeat=lambda: Signal.CONTINUE,
        deadline_seconds=120,
        sandbox=Sandbox(required=required, memory_bytes=2 * 2**30, file_bytes=64 * 2**20),
        program=program,
    )


@pytest.mark.skipif(not GRANTED, reason="this kernel or container grants no name spaces or no Landlock")
def test_every_probe_is_blocked_and_the_engine_can_do_its_work(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = {
        "read an input": "open(RUN + '/inputs/given').read()",
        "write an output": "open(RUN + '/outputs/x', 'w').write('x')",
        "rename an output": "os.replace(RUN + '/outputs/x', RUN + '/outputs/y')",
        "share memory": "__import__('multiprocessing').get_context('fork').Lock()",
        "start an interpreter": "subprocess.run([sys.executable, '-c', 'import ssl, sqlite3'], check=True)",
    }

    result = probed(given, {**PROBES, **work}, monkeypatch)

    assert result["missing"] == []
    assert [name for name in PROBES if result["done"][name] == "done"] == []
    assert {name: result["done"][name] for name in work} == dict.fromkeys(work, "done")
    assert (given / "inputs" / "given").read_text() == "an input"
    assert not Path("/tmp/probe-of-the-sandbox").exists()  # noqa: S108 - as the probe names it
    assert "A_SECRET_OF_THE_SITE" not in result["environ"]


def test_an_engine_that_must_be_confined_and_cannot_be_does_not_work(given: Path) -> None:
    """A kernel without Landlock, as the engine's own process meets it."""
    without = (
        "import sys\nfrom finetuning.engine import __main__ as program, confinement\n"
        "confinement._restrict_files = lambda *_: False\n"
        "sys.exit(program.main(sys.argv[1:]))"
    )
    (given / "spec.json").write_text("{}")

    refused = engine(given, (sys.executable, "-P", "-c", without), required=True)
    allowed = engine(given, (sys.executable, "-P", "-c", without))

    assert (refused.code, refused.exit_code) == ("app:not_confined", 70)
    assert "files" in refused.message
    assert allowed.code == "user:bad_spec"  # it went on to the spec, which is none


def test_the_site_says_what_is_missing_and_up_refuses_where_all_is_required(
    db: None,  # noqa: ARG001 - opens the database
    settings: Any,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = client.get("/healthz").json()["sandbox"]
    assert told == {"mode": "degraded", "missing": list(unconfined())}

    settings.SANDBOX = "required"
    monkeypatch.setattr(up, "unconfined", lambda: ("network",))
    with pytest.raises(CommandError, match="network missing"):
        call_command("up")


def test_the_probe_of_the_machine_can_be_run_by_hand(tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "finetuning.engine", "confinement", str(tmp_path)],
        cwd=site.BASE_DIR,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(done.stdout) == {"missing": list(unconfined())}
