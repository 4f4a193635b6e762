"""Starts `manage.py up` as an operator would, waits until it answers, and stops it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 600
STOP_SECONDS = 30
STEP_SECONDS = 0.1


class Stack:
    """`arguments` are those of `up`; `changes` are variables of its environment."""

    def __init__(self, data_dir: Path, *arguments: str, **changes: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data_dir / "up.log"
        # Nor the servers of a suite that asks servers: a product has its own database, and `changes` may name another.
        unwanted = {"DJANGO_SETTINGS_MODULE", "DJANGO_ALLOW_ASYNC_UNSAFE", "DATABASE_URL", "BROKER_URL"}
        kept = {name: value for name, value in os.environ.items() if name not in unwanted}
        self.environment = {**kept, "DATA_DIR": str(data_dir), "PORT": str(self.port), **changes}
        self.arguments = arguments

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.process.send_signal(signal.SIGINT)  # or it would stay behind: nobody calls __exit__
            self.process.wait(STOP_SECONDS)
            raise
        return self

    def start(self) -> None:
        """Returns once the product says that it is ready; what an earlier start wrote into the log stays."""
        with self.log.open("ab") as log:
            written = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up", *self.arguments],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        self.wait_for(lambda: b"Ready:" in self.log.read_bytes()[written:] or None, seconds=START_SECONDS)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(STOP_SECONDS) == 0, self.log.read_text()[-2000:]

    def wait_for(self, question: Any, *, seconds: float) -> Any:
        """Asks until the answer is not None. Fails with the server's log when the time is over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (answer := question()) is not None:
                return answer
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            time.sleep(STEP_SECONDS)
        raise AssertionError(f"not within {seconds} s; the log ends:\n{self.log.read_text()[-4000:]}")

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()


class Client:
    """The API as a script without any library would use it."""

    def __init__(self, stack: Stack, token: str) -> None:
        self._stack, self._token = stack, token

    def call(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        body: bytes | None = None,
        kind: str = "application/json",
        key: str = "",
    ) -> tuple[int, Any]:
        """`key` is the Idempotency-Key of a call that costs money."""
        content = json.dumps(document).encode() if document is not None else body
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": kind}
        headers |= {"Idempotency-Key": key} if key else {}
        url = f"{self._stack.url}/api/v1/{path}"
        request = urllib.request.Request(url, data=content, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


def multipart(fields: dict[str, str], filename: str, content: bytes) -> tuple[bytes, str]:
    """Returns (body, content type) of a form with one file named `file`."""
    boundary = "boundary-of-a-test"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'.encode()
    body = b"".join(parts) + head + content + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"
