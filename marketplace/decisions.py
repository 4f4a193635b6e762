"""Policies answer with a Decision: yes, or no with a stable code and a reason for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from marketplace.errors import Denied


@dataclass(frozen=True, slots=True)
class Decision:
    allowed: bool
    code: str = ""
    why: str = ""

    def __bool__(self) -> bool:
        return self.allowed


ALLOW = Decision(allowed=True)


def deny(code: str, why: str) -> Decision:
    return Decision(allowed=False, code=code, why=why)


def all_of(*rules: Callable[[], Decision]) -> Decision:
    """Returns the first refusal, else ALLOW. Rules are callables so that later ones cost nothing."""
    for rule in rules:
        decision = rule()
        if not decision.allowed:
            return decision
    return ALLOW


def require(decision: Decision) -> None:
    """Raises Denied with the decision's code and reason unless it allows."""
    if not decision.allowed:
        raise Denied(decision.code, decision.why)
