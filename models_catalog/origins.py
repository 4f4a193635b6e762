"""The terms of a release clause by clause, in words, each with where it comes from: an ancestor, or its own vendor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from models_catalog import territories, uses
from models_catalog.ancestry import release_of
from models_catalog.plain_words import WORDS
from models_catalog.selectors import PRIVATE_MODEL
from models_catalog.terms import Answer, Approval, Attribution, DerivativeTerms, Right, Terms
from models_catalog.verdict import Effective, Node

_ANSWERS = {Answer.ALLOW: "allowed", Answer.ASK: "with consent", Answer.DENY: "not allowed"}
_FLAGS = {
    "include_text": "Pass on the license text",
    "state_changes": "Say what was changed",
    "pass_to_users": "Bind your own users to the same use restrictions",
    "network_source": "Publish the weights and training configuration of what you serve",
    "research_only": "For research alone",
}
_CREDIT = {Attribution.NOTICE: "Keep the notices", Attribution.DISPLAY: "Give visible credit"}
_OFFSPRING = {
    DerivativeTerms.CARRY_RESTRICTIONS: "Derivatives carry these restrictions",
    DerivativeTerms.SAME_OR_COMPATIBLE: "Derivatives are under the same or compatible terms",
    DerivativeTerms.SAME: "Derivatives are under the same terms",
}


@dataclass(frozen=True, slots=True)
class Clause:
    """`origin` is the ancestor's name as the reader may see it, empty where the vendor chose the clause; `anchor` is
    the key of its node on the lineage page, where it has one that is named."""

    clause: str
    words: str
    answer: str = ""
    origin: str = ""
    anchor: str = ""


def clauses(terms: Terms, bound: Effective) -> list[Clause]:
    """Returns every right with its answer, then every duty and limit that the terms have."""
    return [*(_right(terms, bound, right) for right in Right), *_duties(terms, bound)]


def _right(terms: Terms, bound: Effective, right: Right) -> Clause:
    answer = terms.answer(right)
    name = f"rights.{right.value}"
    # The ancestor decides where the vendor could not have allowed more.
    is_bound = answer is not Answer.ALLOW and bound.limit.answer(right) is answer
    return _clause(name, WORDS[right], bound.origins.get(name) if is_bound else None, answer=_ANSWERS[answer])


def _duties(terms: Terms, bound: Effective) -> Iterator[Clause]:
    for name, words in _stated(terms):
        yield _clause(name, words, bound.origins.get(name))


def _stated(terms: Terms) -> Iterator[tuple[str, str]]:
    for use in terms.prohibited_uses:
        yield f"prohibited_uses.{use}", f"Not for {uses.words(use)}"
    for code in terms.denied_territories:
        yield f"denied_territories.{code}", f"Not in {territories.name(code)}"
    for name, words in _FLAGS.items():
        if getattr(terms, name):
            yield name, words
    for line in terms.attribution_text.splitlines():
        yield f"credit.{line}", f"The credit: “{line}”"
    for name, words in _words(terms).items():
        if words:
            yield name, words


def _words(terms: Terms) -> dict[str, str]:
    """The clauses that have one value, in words; empty where it says nothing."""
    users, days, prefix = terms.max_monthly_users, terms.term_days, terms.name_prefix
    return {
        "attribution": _CREDIT.get(terms.attribution, ""),
        "derivative_terms": _OFFSPRING.get(terms.derivative_terms, ""),
        "approval": "The vendor approves each licensee" if terms.approval is Approval.MANUAL else "",
        "max_monthly_users": f"At most {users:,} users a month" if users else "",
        "term_days": f"Licensed for {days} days at a time" if days else "",
        "name_prefix": f"The name of a derivative begins with “{prefix}”" if prefix else "",
    }


def _clause(name: str, words: str, origin: Node | None, *, answer: str = "") -> Clause:
    if origin is None:
        return Clause(name, words, answer)
    release_id = release_of(origin)
    is_named = release_id is not None and origin.name != PRIVATE_MODEL
    return Clause(name, words, answer, origin.name, f"r-{release_id}" if is_named else "")
