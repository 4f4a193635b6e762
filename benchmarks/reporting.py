"""One table for people and one JSON line for programs, with the same figures."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One side of a comparison. `accuracy` is a share of 1, `seconds` wall time, `peak_mb` MiB resident."""

    name: str
    seconds: float
    accuracy: float
    peak_mb: float


def compare(title: str, *, ours: Row, peer: Row, ratio: float = 0.0, **facts: Any) -> None:
    """Prints both sides; `ratio` is the peer's time in units of ours, for the same work where that differs."""
    ratio = ratio or peer.seconds / ours.seconds
    print(f"\n{title}\n")
    print(f"{'':34} {'seconds':>10} {'accuracy':>10} {'peak MiB':>10}")
    for row in (ours, peer):
        print(f"{row.name:34} {row.seconds:10.1f} {row.accuracy:10.1%} {row.peak_mb:10.0f}")
    print(f"\n{peer.name} takes {ratio:.2f} times as long.\n")
    print(json.dumps({"ratio": ratio, "ours": asdict(ours), "peer": asdict(peer), **facts}))
