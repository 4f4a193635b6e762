"""One POST to a receiver that nobody trusts: to a checked address, within one deadline for everything, without
following a redirect, and reading no more of the answer than is kept."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

from marketplace.webhooks import addresses
from marketplace.webhooks.addresses import Resolve, Target
from marketplace.webhooks.models import EXCERPT_CHARACTERS, Outcome

DEADLINE_SECONDS = 10.0  # of name, connection, handshake, request and answer together
MAX_ANSWER_BYTES = 64 * 1024  # of status, headers and body: more is not read
MAX_ADDRESSES = 3  # that are tried one after the other
_AGENT = "model-marketplace-webhooks/1"


@dataclass(frozen=True, slots=True)
class Answer:
    outcome: Outcome
    milliseconds: int
    http_status: int | None = None
    text: str = ""


def post(
    to: Target,
    *,
    body: bytes,
    headers: Mapping[str, str],
    seconds: float = DEADLINE_SECONDS,
    resolve: Resolve = addresses.resolved,
) -> Answer:
    """Sends the body once, and returns how that ended; raises nothing that a receiver can cause."""
    began = time.monotonic()
    status, text = None, ""
    try:
        status, text = _exchange(to, body, headers, began + seconds, resolve)
        outcome = _meaning(status)
    except addresses.Unresolved:
        outcome = Outcome.UNRESOLVED
    except addresses.Private:
        outcome = Outcome.ADDRESS_REFUSED
    except TimeoutError:
        outcome = Outcome.TIMED_OUT
    except ssl.SSLError:
        outcome = Outcome.TLS_FAILED
    except OSError:
        outcome = Outcome.UNREACHABLE
    except (http.client.HTTPException, ValueError):
        outcome = Outcome.BAD_ANSWER
    return Answer(outcome, round(1000 * (time.monotonic() - began)), status, text)


def _meaning(status: int) -> Outcome:
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Outcome.DELIVERED
    if status == HTTPStatus.GONE:
        return Outcome.GONE
    is_redirect = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
    return Outcome.REDIRECTED if is_redirect else Outcome.REFUSED


def _exchange(
    to: Target, body: bytes, headers: Mapping[str, str], deadline: float, resolve: Resolve
) -> tuple[int, str]:
    found = addresses.checked(to, seconds=deadline - time.monotonic(), resolve=resolve)
    with _connected(to, found[:MAX_ADDRESSES], deadline) as line:
        connection = http.client.HTTPConnection(to.host, to.port)
        connection.sock = cast("socket.socket", _Bounded(line, deadline))
        own = {"Host": to.authority, "User-Agent": _AGENT, "Content-Type": "application/json", "Connection": "close"}
        connection.request("POST", to.path, body=body, headers={**own, **headers})
        response = connection.getresponse()
        return response.status, _as_text(_first_bytes(response))


@contextlib.contextmanager
def _connected(to: Target, found: list[str], deadline: float) -> Iterator[socket.socket]:
    """Connects to the first address that answers; the certificate must be of the host's name all the same."""
    with _first_socket(found, to.port, deadline) as plain:
        if not to.is_tls:
            yield plain
            return
        plain.settimeout(_left(deadline))
        with ssl.create_default_context().wrap_socket(plain, server_hostname=to.host) as safe:
            yield safe


def _first_socket(found: list[str], port: int, deadline: float) -> socket.socket:
    for place, address in enumerate(found, start=1):
        share = _left(deadline) / (len(found) - place + 1)  # an address that is silent leaves time for the others
        try:
            return socket.create_connection((address, port), timeout=share)
        except OSError:
            if place == len(found):
                raise
    raise addresses.Unresolved


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _first_bytes(response: http.client.HTTPResponse) -> bytes:
    """Returns the beginning of the body. What follows is none of our business, nor that it follows badly."""
    with contextlib.suppress(http.client.HTTPException, ValueError):
        return response.read(EXCERPT_CHARACTERS)
    return b""


def _as_text(content: bytes) -> str:
    """Returns bytes as text that any database and page can hold."""
    text = content.decode("utf-8", "replace")
    return "".join(character if character.isprintable() or character in "\n\t" else "\ufffd" for character in text)


class _Bounded(io.RawIOBase):
    """What http.client takes for a socket: each read has the time that is left of the deadline, and all of them
    together MAX_ANSWER_BYTES."""

    def __init__(self, line: socket.socket, deadline: float) -> None:
        super().__init__()
        self._line = line
        self._deadline = deadline
        self._most = MAX_ANSWER_BYTES

    def sendall(self, content: bytes) -> None:
        self._line.settimeout(_left(self._deadline))
        self._line.sendall(content)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer is wider
        if not self._most:
            raise http.client.HTTPException("the head of the answer has no end")
        self._line.settimeout(_left(self._deadline))
        read = self._line.recv_into(buffer[: self._most])
        self._most -= read
        return read

    def close(self) -> None:
        """http.client closes its socket before it reads the body; the line is closed by whoever opened it."""
