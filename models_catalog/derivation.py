"""What a derivative's terms must carry of its parent's: the one comparison, clause by clause. Pure.

Asked when a draft takes over its parents, when terms are published, and where a page says what would be refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from models_catalog.plain_words import WORDS
from models_catalog.terms import Approval, Attribution, DerivativeTerms, Right, Terms, as_json

PRICE = "have a price"
_DUTIES = {
    "include_text": "go without the license text",
    "state_changes": "leave unsaid what was changed",
    "pass_to_users": "let its users off the use restrictions",
    "network_source": "be served without publishing its weights and configuration",
}
# What two offers under one license may differ in; credits are compared apart.
_OF_THE_OFFER = ("approval", "price_minor", "currency", "term_days", "royalty_bps", "attribution_text")


def derive(parent: Terms) -> Terms:
    """Returns the widest terms that a derivative of `parent` may carry, without a price.

    What others may do with the child follows from the parent's `share_derivatives`, its price from
    `sell_derivatives` (docs/architecture.md, "Terms"). Everything else travels as it is.
    """
    shared = parent.answer(Right.SHARE_DERIVATIVES)
    sold = min(shared, parent.answer(Right.SELL_DERIVATIVES), key=lambda answer: answer.rank)
    rights = {
        **{right: min(parent.answer(right), shared, key=lambda answer: answer.rank) for right in Right},
        Right.REDISTRIBUTE: shared,
        Right.SELL_DERIVATIVES: sold,
    }
    credit = parent.attribution_text or f"Based on a model under {parent.name}."
    return dataclasses.replace(
        parent,
        rights=rights,
        attribution_text="" if parent.attribution is Attribution.NONE else credit,
        price_minor=0,
    )


def credited(child: Terms, parents: Iterable[Terms]) -> Terms:
    """Returns the child's terms with the credit of each parent added where it is missing; they never widen."""
    text = child.attribution_text
    for parent in parents:
        credit = derive(parent).attribution_text
        if credit not in text:
            text = f"{text}\n{credit}" if text else credit
    return dataclasses.replace(child, attribution_text=text)


def widenings(child: Terms, parent: Terms) -> list[str]:
    """Returns in words every clause in which `child` gives more, or asks for less, than a derivative of
    `parent` must; each completes "the parent lets no derivative ...". Empty for `derive(parent)`."""
    limit = derive(parent)
    return [
        *(f"allow “{WORDS[right].lower()}”" for right in Right if child.answer(right).rank > limit.answer(right).rank),
        *_dropped_limits(child, limit),
        *_dropped_duties(child, limit),
        *_freer_offspring(child, limit),
        *_cheaper(child, limit),
    ]


def _dropped_limits(child: Terms, limit: Terms) -> Iterator[str]:
    for use in limit.prohibited_uses:
        if use not in child.prohibited_uses:
            yield f"drop the ban on {use}"
    if limit.research_only and not child.research_only:
        yield "be for more than research"


def _dropped_duties(child: Terms, limit: Terms) -> Iterator[str]:
    if child.attribution.rank < limit.attribution.rank:
        yield "ask for less credit"
    if limit.attribution_text not in child.attribution_text:
        yield f"leave out the credit “{limit.attribution_text}”"
    for name, words in _DUTIES.items():
        if getattr(limit, name) and not getattr(child, name):
            yield words


def _freer_offspring(child: Terms, limit: Terms) -> Iterator[str]:
    if child.derivative_terms.rank < limit.derivative_terms.rank:
        yield "leave its own derivatives freer"
    if limit.derivative_terms is DerivativeTerms.SAME and not _is_same_license(child, limit):
        yield "have another license than this one"
    elif limit.derivative_terms is DerivativeTerms.SAME_OR_COMPATIBLE and _adds_limits(child, limit):
        yield "add restrictions of its own"


def _is_same_license(child: Terms, limit: Terms) -> bool:
    offer = {name: getattr(child, name) for name in _OF_THE_OFFER}
    return as_json(dataclasses.replace(limit, **offer)) == as_json(child)


def _adds_limits(child: Terms, limit: Terms) -> bool:
    narrower = any(child.answer(right).rank < limit.answer(right).rank for right in Right)
    more_bans = set(child.prohibited_uses) - set(limit.prohibited_uses)
    return narrower or bool(more_bans) or (child.research_only and not limit.research_only)


def _cheaper(child: Terms, limit: Terms) -> Iterator[str]:
    if child.royalty_bps < limit.royalty_bps:
        yield f"lower the royalty below {limit.royalty_bps / 100:g}%"
    if limit.approval is Approval.MANUAL and child.approval is not Approval.MANUAL:
        yield "be licensed without approval"
    if limit.term_days and not 0 < child.term_days <= limit.term_days:
        yield f"be licensed for longer than {limit.term_days} days"
    if child.price_minor and not (limit.permits(Right.SELL_DERIVATIVES) and limit.permits(Right.COMMERCIAL_USE)):
        yield PRICE
