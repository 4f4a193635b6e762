"""`manage.py up` restarts what dies, leaves no orphan, and ends at once on Ctrl-C: real processes, killed."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archives_factory import digits_zip
from live_stack import Client, Stack, multipart

pytestmark = pytest.mark.stack
COMES_BACK_SECONDS = 90
GONE_SECONDS = 15  # the kernel ends children with their parents; the rest is scheduling on a busy machine
PERSON = """
from marketplace.accounts.models import User
from marketplace.accounts.services import people
people.namespace_of(User.objects.create_user("bo", "bo@example.com", "a long password"))
"""
RING = "from marketplace.queue import Job, enqueue; enqueue(Job.FINE_TUNE, 0)"
WAITING = "from django_q.models import OrmQ; print(OrmQ.objects.count())"


def processes(data_dir: Path) -> dict[int, tuple[int, str]]:
    """Returns {pid: (parent, command line)} of everything that was started for this data directory."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            if os.fsencode(data_dir) in (folder / "environ").read_bytes():
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[int(folder.name)] = (parent, command)
        except OSError:
            continue  # it ended while we looked, or is somebody else's
    return found


class Running(Stack):
    """A stack whose processes are looked at one by one."""

    @property
    def data_dir(self) -> Path:
        return self.log.parent

    def child(self, command: str) -> int | None:
        """The process of `up` whose command line has these words."""
        rows = processes(self.data_dir).items()
        return next((pid for pid, (parent, line) in rows if parent == self.process.pid and command in line), None)

    def pool_of(self, slot: int) -> list[int]:
        return [pid for pid, (parent, _) in processes(self.data_dir).items() if parent == slot]

    def wait_for_another(self, command: str, *, old: int) -> int:
        def another() -> int | None:
            pid = self.child(command)
            return pid if pid is not None and pid != old else None

        return int(self.wait_for(another, seconds=COMES_BACK_SECONDS))

    def client(self) -> Client:
        self.manage("shell", "-c", PERSON)
        return Client(self, self.manage("issue_token", "bo"))

    def upload(self, client: Client, name: str, content: bytes) -> str:
        body, kind = multipart({"name": name, "task": "image-classification"}, "upload.zip", content)
        status, dataset = client.call("POST", "datasets/", body=body, kind=kind)
        assert status == 201, dataset
        return str(dataset["id"])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("processes"), "--no-demo") as stack:
        yield stack


@pytest.fixture(scope="module")
def client(running: Running) -> Client:
    return running.client()


def checked(running: Running, client: Client, dataset: str) -> str:
    def answer() -> Any:
        _, document = client.call("GET", f"datasets/{dataset}/")
        return document["status"] if document["status"] != "checking" else None

    return str(running.wait_for(answer, seconds=COMES_BACK_SECONDS))


def test_a_killed_web_server_comes_back_and_no_caller_is_refused(running: Running) -> None:
    old = running.child("manage.py web")
    assert old is not None

    os.kill(old, signal.SIGKILL)
    with urllib.request.urlopen(f"{running.url}/healthz", timeout=COMES_BACK_SECONDS) as answer:
        assert answer.status == 200

    assert running.child("manage.py web") not in {None, old}


def whole(pool: list[int]) -> list[int] | None:
    """Returns the pool once it has its two workers, its monitor and its pusher."""
    return pool if len(pool) == 4 else None


def test_a_slot_of_which_one_process_is_killed_starts_anew_and_works(running: Running, client: Client) -> None:
    slot = running.child("manage.py slot fast")
    assert slot is not None
    pool = running.wait_for(lambda: whole(running.pool_of(slot)), seconds=COMES_BACK_SECONDS)

    os.kill(pool[0], signal.SIGKILL)
    running.wait_for_another("manage.py slot fast", old=slot)

    assert not set(pool) & set(processes(running.data_dir))
    assert checked(running, client, running.upload(client, "after a killed process", b"no zip")) == "invalid"


def test_a_killed_slot_leaves_no_orphan_and_the_next_one_takes_its_messages(running: Running) -> None:
    slot = running.child("manage.py slot train")
    assert slot is not None
    pool = running.pool_of(slot)

    os.kill(slot, signal.SIGKILL)
    running.manage("shell", "-c", RING)
    running.wait_for_another("manage.py slot train", old=slot)

    running.wait_for(lambda: running.manage("shell", "-c", WAITING).endswith("0") or None, seconds=COMES_BACK_SECONDS)
    assert not set(pool) & set(processes(running.data_dir))


def test_a_killed_predictor_comes_back_and_answers(running: Running) -> None:
    path = running.data_dir / "predictor" / "predict.sock"

    def health() -> int | None:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(str(path))
            connection.request("GET", "/health")
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

    assert running.wait_for(health, seconds=COMES_BACK_SECONDS) == 200
    old = running.child("finetuning.engine serve")
    assert old is not None

    os.kill(old, signal.SIGKILL)
    running.wait_for_another("finetuning.engine serve", old=old)
    assert running.wait_for(health, seconds=COMES_BACK_SECONDS) == 200


def test_a_killed_reaper_comes_back(running: Running) -> None:
    old = running.child("manage.py reaper")
    assert old is not None

    os.kill(old, signal.SIGKILL)

    assert running.wait_for_another("manage.py reaper", old=old)


def engine_at_work(running: Running, tmp_path: Path) -> int:
    """Returns the pid of an engine that inspects an upload."""
    digits_zip(tmp_path / "digits.zip")
    running.upload(running.client(), "digits", (tmp_path / "digits.zip").read_bytes())

    def engine() -> int | None:
        rows = processes(running.data_dir).items()
        return next((pid for pid, (_, line) in rows if "finetuning.engine inspect" in line), None)

    return int(running.wait_for(engine, seconds=COMES_BACK_SECONDS))


def assert_gone(data_dir: Path) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while left := processes(data_dir):
        assert time.monotonic() < deadline, left


def test_ctrl_c_ends_everything_an_engine_at_work_included(tmp_path: Path) -> None:
    with Running(tmp_path, "--no-demo") as running:
        assert engine_at_work(running, tmp_path) in processes(tmp_path)

    assert_gone(tmp_path)


def test_when_up_itself_is_killed_nothing_of_it_survives(tmp_path: Path) -> None:
    running = Running(tmp_path, "--no-demo")
    running.__enter__()
    try:
        engine_at_work(running, tmp_path)
    finally:
        running.process.kill()
        running.process.wait()

    assert_gone(tmp_path)
