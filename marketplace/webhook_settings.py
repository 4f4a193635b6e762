"""Which receivers beside public ones the operator allows. Plain values: settings.py imports this before Django is ready."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Allowed:
    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()


def allowed(entries: Iterable[str]) -> Allowed:
    """Reads WEBHOOK_ALLOW: networks and addresses (10.1.0.0/16, ::1), and names of hosts. Raises ValueError where an
    entry that can only be a network is none."""
    hosts, networks = set(), []
    for entry in filter(None, (entry.strip() for entry in entries)):
        try:
            networks.append(ipaddress.ip_network(entry))
        except ValueError:
            if "/" in entry or ":" in entry or entry.replace(".", "").isdigit():
                raise
            hosts.add(entry.lower().rstrip("."))
    return Allowed(frozenset(hosts), tuple(networks))
