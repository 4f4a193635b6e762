"""Where a webhook may go: which addresses a URL may name, and which its host may resolve to.

Public ones, and what WEBHOOK_ALLOW names beside them. A name is resolved once for each try, every address that it has is
judged, and the connection is made to one of those: a name that changes in between changes nothing.
"""

from __future__ import annotations

import ipaddress
import queue
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

from marketplace.errors import Invalid
from marketplace.webhooks.models import MAX_URL

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], list[str]]
HTTP_PORT, HTTPS_PORT, FIRST_FREE_PORT = 80, 443, 1024
_HOST = re.compile(r"^(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$")
_NUMBER = re.compile(r"^(0x[0-9a-f]*|[0-9]+)$")
_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")  # RFC 4291: all of it that is in use
# Ranges within it that lead to IPv4 addresses of one's own choosing (6to4; Teredo in 2001::/23), or that are for
# documentation: not every version of Python knows them.
_NOT_HOSTS = tuple(ipaddress.IPv6Network(text) for text in ("2002::/16", "2001::/23", "3fff::/20"))
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last four bytes are the IPv4 address that is meant


class Unresolved(Exception):
    """The name has no address, or none in time."""


class Private(Exception):
    """The name leads to an address that is not public, and that the operator does not allow."""


@dataclass(frozen=True, slots=True)
class Target:
    host: str
    port: int
    path: str
    is_tls: bool

    @property
    def authority(self) -> str:
        """The value of the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (HTTPS_PORT if self.is_tls else HTTP_PORT) else f"{host}:{self.port}"


def target(url: str) -> Target:
    """Reads a URL that may be told; asks no name server. Raises Invalid (`webhook_url`)."""
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or set(url) & set(' "<>\\^`{|}'):
        raise _refused(f"An address has at most {MAX_URL} characters, all of ASCII and none of them a space or quote.")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise _refused("This is no address. It begins with https:// and the name of a host.") from error
    if parts.scheme not in ("https", "http") or not host:
        raise _refused("An address begins with https:// and the name of a host.")
    if parts.username is not None or parts.password is not None or "#" in url:
        raise _refused("Leave out user, password and fragment: the signature says who is calling.")
    is_named = _is_named(host)
    if not is_named and not _HOST.match(host):
        raise _refused("This is no name of a host.")
    if not is_named and (_NUMBER.match(host.rpartition(".")[2]) or "." not in host):
        raise _refused("Webhooks go to public names, not to numbers or names of this machine or its network.")
    if parts.scheme == "http" and not is_named:
        raise _refused("Webhooks are sent by https alone.")
    is_tls = parts.scheme == "https"
    port = port if port is not None else HTTPS_PORT if is_tls else HTTP_PORT
    if not is_named and port != HTTPS_PORT and port < FIRST_FREE_PORT:
        raise _refused(f"Webhooks go to the port {HTTPS_PORT}, or to one of {FIRST_FREE_PORT} and above.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(host, port, path, is_tls)


def _refused(words: str) -> Invalid:
    return Invalid("webhook_url", words, field="url")


def _is_named(host: str) -> bool:
    """Does WEBHOOK_ALLOW name the host itself, or the network of the address that it is?"""
    if host in settings.WEBHOOK_ALLOW.hosts:
        return True
    try:
        return _in_allowed_network(ipaddress.ip_address(host))
    except ValueError:
        return False


def checked(to: Target, *, seconds: float, resolve: Resolve) -> list[str]:
    """Returns the addresses to connect to, of which every one may be told. Raises Unresolved, Private."""
    found = _in_time(to, seconds, resolve)
    if not found:
        raise Unresolved
    is_named = to.host in settings.WEBHOOK_ALLOW.hosts
    for text in found:
        address = ipaddress.ip_address(text)
        if not (is_named or is_public(address) or _in_allowed_network(address)):
            raise Private
    return found


def is_public(address: Address) -> bool:
    """Is the address one of the public internet, whatever it is wrapped in?"""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast and not address.is_reserved
    if (inner := _inner(address)) is not None:
        return is_public(inner)
    return address in _PUBLIC_IPV6 and address.is_global and not any(address in network for network in _NOT_HOSTS)


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Returns the IPv4 address that an IPv6 one stands for."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped


def _in_allowed_network(address: Address) -> bool:
    inner = _inner(address) if isinstance(address, ipaddress.IPv6Address) else None
    return any(
        candidate.version == network.version and candidate in network
        for candidate in (address, inner)
        if candidate is not None
        for network in settings.WEBHOOK_ALLOW.networks
    )


def resolved(host: str, port: int) -> list[str]:
    """Asks the system for the addresses of a host. Raises OSError, UnicodeError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


def _in_time(to: Target, seconds: float, resolve: Resolve) -> list[str]:
    """Resolves in a thread of its own, which is left behind where it takes longer: the system's resolver has no
    deadline."""
    answers: queue.SimpleQueue[list[str]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(resolve(to.host, to.port))
        except (OSError, UnicodeError):
            answers.put([])

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=max(0.0, seconds))
    except queue.Empty:
        raise Unresolved from None
