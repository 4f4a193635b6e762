"""Policies answer with a Decision: yes, or no with a stable code and a reason for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from marketplace.errors import Conflict, Denied


@dataclass(frozen=True, slots=True)
class Decision:
    allowed: bool
    code: str = ""
    why: str = ""
    is_about_state: bool = False  # the same person may, once the thing is in another state
    reasons: tuple[Mapping[str, str], ...] = ()  # of a license: parent, clause, right, words, fix

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def sentences(self) -> list[str]:
        """Each reason with what would fix it; nothing where a single one is what `why` says already."""
        return [f"{reason['words']} {reason['fix']}" for reason in self.reasons] if len(self.reasons) > 1 else []


ALLOW = Decision(allowed=True)


def deny(code: str, why: str, *, reasons: Sequence[Mapping[str, str]] = ()) -> Decision:
    return Decision(allowed=False, code=code, why=why, reasons=tuple(reasons))


def not_in_this_state(code: str, why: str) -> Decision:
    """Refuses what the same person may do in another state of the thing (409, not 403)."""
    return Decision(allowed=False, code=code, why=why, is_about_state=True)


def all_of(*rules: Callable[[], Decision]) -> Decision:
    """Returns the first refusal, else ALLOW. Rules are callables so that later ones cost nothing."""
    for rule in rules:
        decision = rule()
        if not decision.allowed:
            return decision
    return ALLOW


def require(decision: Decision) -> None:
    """Raises Denied, or Conflict where the present state is the cause, with the decision's code and reason unless it allows."""
    if not decision.allowed:
        raise (Conflict if decision.is_about_state else Denied)(
            decision.code,
            decision.why,
            items=decision.sentences,
            extra={"reasons": [dict(reason) for reason in decision.reasons]} if decision.reasons else None,
        )
