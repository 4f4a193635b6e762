"""Where webhooks go and where they do not, and what a hostile receiver can do: nothing beyond one deadline."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from receivers import Receiver, receiver

from marketplace.errors import Invalid
from marketplace.webhook_settings import allowed
from marketplace.webhooks import addresses, transport
from marketplace.webhooks.addresses import Target
from marketplace.webhooks.models import EXCERPT_CHARACTERS, Outcome
from marketplace.webhooks.transport import Answer


@pytest.fixture
def hooks() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def _loopback_allowed(settings: Any) -> None:
    settings.WEBHOOK_ALLOW = allowed(["127.0.0.1"])


def post(to: Target, *, seconds: float = 5.0, **given: Any) -> Answer:
    return transport.post(to, body=b"{}", headers={"webhook-id": "msg_1"}, seconds=seconds, **given)


def plain(port: int, host: str = "127.0.0.1", path: str = "/") -> Target:
    return Target(host, port, path, is_tls=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hooks",
        "ftp://example.com/",
        "//example.com/hooks",
        "https://",
        "example.com",
        "https://example.com:22/",
        "https://example.com:99999/",
        "https://example.com:port/",
        "https://user:password@example.com/",
        "https://example.com@127.0.0.1/",
        "https://example.com/#part",
        "https://example.com/a b",
        "https://example.com/\r\nX-Injected: 1",
        "https://exam\tple.com/",
        "https://bücher.example/",
        "https://example.com/" + "a" * 500,
        "https://-example.com/",
        "https://example..com/",
        "https://[::1",
        # This machine and its network, however they are written.
        "https://localhost/",
        "https://LOCALHOST./",
        "https://intranet/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://8.8.8.8/",
    ],
)
def test_an_address_that_is_not_for_webhooks_is_refused_as_it_is_named(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        addresses.target(url)

    assert (refused.value.code, refused.value.field) == ("webhook_url", "url")


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "authority"),
    [
        ("https://example.com", "example.com", 443, "/", "example.com"),
        ("https://Hooks.Example.com./a/b?c=d", "hooks.example.com", 443, "/a/b?c=d", "hooks.example.com"),
        ("https://example.com:8443/", "example.com", 8443, "/", "example.com:8443"),
        ("https://xn--bcher-kva.example/%20", "xn--bcher-kva.example", 443, "/%20", "xn--bcher-kva.example"),
    ],
)
def test_a_public_name_is_taken(url: str, host: str, port: int, path: str, authority: str) -> None:
    to = addresses.target(url)

    assert (to.host, to.port, to.path, to.is_tls, to.authority) == (host, port, path, True, authority)


def test_the_operator_s_list_opens_hosts_and_networks_and_nothing_else(settings: Any) -> None:
    settings.WEBHOOK_ALLOW = allowed(["Hooks.internal", "10.1.0.0/16", "::1"])

    for url in ("http://hooks.internal:80/", "http://10.1.2.3:22/", "http://[::1]:8000/", "https://hooks.internal/"):
        addresses.target(url)
    for url in ("http://other.internal/", "https://10.2.0.1/", "http://127.0.0.1/", "http://a.hooks.internal/"):
        with pytest.raises(Invalid):
            addresses.target(url)
    with pytest.raises(ValueError, match="10"):
        allowed(["10.0.0.0/33"])


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1",
        "::ffff:10.0.0.1", "::127.0.0.1", "fe80::1", "fe80::1%lo", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1",
        "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
        "100::1", "3fff::1",
    ],
)  # fmt: skip
def test_no_address_inside_is_taken_for_a_public_one(address: str) -> None:
    assert not addresses.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_public_address_is_taken(address: str) -> None:
    assert addresses.is_public(ipaddress.ip_address(address))


def test_a_name_that_leads_to_this_machine_is_not_called(hooks: Receiver) -> None:
    """As the system's own resolver answers: the name is as good as any other that somebody points at 127.0.0.1."""
    answer = post(plain(hooks.port, "localhost"))

    assert answer.outcome == Outcome.ADDRESS_REFUSED
    assert not hooks.calls


@pytest.mark.parametrize(
    "found",
    [["127.0.0.1"], ["::ffff:127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["169.254.169.254"], ["fe80::1%1"], ["0.0.0.1"]],
)
def test_one_private_address_among_those_of_a_name_is_enough(hooks: Receiver, found: list[str]) -> None:
    answer = post(plain(hooks.port, "rebind.example"), resolve=lambda _host, _port: found)

    assert answer.outcome == Outcome.ADDRESS_REFUSED
    assert not hooks.calls


@pytest.mark.usefixtures("_loopback_allowed")
def test_a_name_is_resolved_once_and_the_checked_address_is_called(hooks: Receiver) -> None:
    """A name server that answers something else the second time is never asked a second time."""
    asked: list[str] = []

    def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    answer = post(plain(hooks.port, "hooks.example"), resolve=resolve)

    assert (answer.outcome, asked) == (Outcome.DELIVERED, ["hooks.example"])
    assert hooks.calls[0].headers["host"] == f"hooks.example:{hooks.port}"


@pytest.mark.usefixtures("_loopback_allowed")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(hooks: Receiver, status: int) -> None:
    with receiver() as inside:
        hooks.answers(status, Location=inside.url)

        answer = post(plain(hooks.port))

        assert (answer.outcome, answer.http_status) == (Outcome.REDIRECTED, status)
        assert not inside.calls
        assert len(hooks.calls) == 1


@pytest.mark.usefixtures("_loopback_allowed")
def test_of_a_huge_answer_the_beginning_is_kept_and_little_more_is_read(hooks: Receiver) -> None:
    written = 0

    def flood(handler: BaseHTTPRequestHandler) -> None:
        nonlocal written
        handler.send_response(200)
        handler.end_headers()
        for _ in range(1000):
            written += handler.wfile.write(b"\x00flood" + b"x" * 2**20)

    hooks.reply = flood
    answer = post(plain(hooks.port))

    assert answer.outcome == Outcome.DELIVERED
    assert len(answer.text) == EXCERPT_CHARACTERS
    assert answer.text.startswith("\ufffdflood")
    assert written < 100 * 2**20


@pytest.mark.usefixtures("_loopback_allowed")
def test_headers_without_end_are_an_answer_that_is_none(hooks: Receiver) -> None:
    def flood(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.flush_headers()
        for number in range(2**14):
            handler.wfile.write(f"X-{number}: {'x' * 1000}\r\n".encode())

    hooks.reply = flood

    assert post(plain(hooks.port)).outcome == Outcome.BAD_ANSWER


def drip_headers(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
    handler.send_response(200)
    handler.flush_headers()
    for number in range(90):
        handler.wfile.write(f"X-{number}: 1\r\n".encode())
        over.wait(0.1)


def drip_body(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(90):
        handler.wfile.write(b"x")
        over.wait(0.1)


def say_nothing(_handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
    over.wait(9)


@pytest.mark.usefixtures("_loopback_allowed")
@pytest.mark.parametrize("slow", [drip_headers, drip_body, say_nothing])
def test_a_slow_receiver_has_one_deadline_for_everything(hooks: Receiver, slow: Any) -> None:
    hooks.reply = partial(slow, over=hooks.over)

    answer = post(plain(hooks.port), seconds=0.5)

    assert answer.outcome == Outcome.TIMED_OUT
    assert 450 <= answer.milliseconds < 5000


def test_a_slow_name_server_has_the_same_deadline() -> None:
    over = threading.Event()

    def tarpit(_host: str, _port: int) -> list[str]:
        over.wait(9)
        return ["8.8.8.8"]

    answer = post(plain(80, "slow.example"), seconds=0.3, resolve=tarpit)
    over.set()

    assert answer.outcome == Outcome.UNRESOLVED
    assert answer.milliseconds < 5000


@pytest.mark.usefixtures("_loopback_allowed")
@pytest.mark.parametrize("words", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\xff" * 100])
def test_what_speaks_no_http_is_told_as_that(words: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            line, _ = listener.accept()
            with line:
                line.recv(65536)
                line.sendall(words)

        thread = threading.Thread(target=serve)
        thread.start()
        answer = post(plain(listener.getsockname()[1]))
        thread.join()

    assert answer.outcome in {Outcome.BAD_ANSWER, Outcome.UNREACHABLE}


@pytest.mark.usefixtures("_loopback_allowed")
def test_nobody_listens_and_no_such_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    assert post(plain(port)).outcome == Outcome.UNREACHABLE
    assert post(plain(port, "gone.example"), resolve=lambda _host, _port: []).outcome == Outcome.UNRESOLVED


def certificate(folder: Path, name: str) -> ssl.SSLContext:
    """A server's context with a certificate for the name, that ca.pem in the folder vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = signed.public_bytes(serialization.Encoding.PEM)
    (folder / "ca.pem").write_bytes(pem)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(pem + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


@pytest.mark.usefixtures("_loopback_allowed")
@pytest.mark.parametrize(
    ("trusted", "name", "outcome"),
    [
        (True, "hooks.example", Outcome.DELIVERED),
        (True, "other.example", Outcome.TLS_FAILED),
        (False, "hooks.example", Outcome.TLS_FAILED),
    ],
)
def test_the_certificate_must_be_of_the_name_although_the_address_is_called(
    trusted: bool, name: str, outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = certificate(tmp_path, "hooks.example")
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with receiver(context=context) as safe:
        answer = post(Target(name, safe.port, "/", is_tls=True), resolve=lambda _host, _port: ["127.0.0.1"])

        assert answer.outcome == outcome
        assert len(safe.calls) == (outcome == Outcome.DELIVERED)
