"""What the verdict on a lineage means for a person: a Decision with the clauses that decide it."""

from __future__ import annotations

from marketplace.decisions import ALLOW, Decision, deny
from models_catalog.declarations import Declaration
from models_catalog.terms import Terms
from models_catalog.verdict import Code, Effective, Node, Verdict, judge_offer, judge_plan


def decide(verdict: Verdict) -> Decision:
    """Returns the verdict as a decision; its reasons name parent, clause, right and what would fix it."""
    if verdict.is_allowed:
        return ALLOW
    first, *others = verdict.reasons
    more = f" {len(others)} more clause{'s stand' if len(others) > 1 else ' stands'} in the way." if others else ""
    why = f"{first.words} {first.fix}{more}"
    reasons = [reason.as_json() for reason in verdict.reasons]
    match verdict.code:
        case Code.NEEDS_APPROVAL:
            return deny("needs_approval", why, reasons=reasons)
        case Code.USE:
            return deny("use_not_granted", why, reasons=reasons)
        case Code.CLASH:
            return deny("lineage_clash", why, reasons=reasons)
        case Code.PRICE:
            return deny("price_not_allowed", why, reasons=reasons)
        case Code.NAME:
            return deny("name_prefix_missing", why, reasons=reasons)
        case _:
            return deny("terms_too_wide", why, reasons=reasons)


def may_offer(terms: Terms, bound: Effective, *, name: str = "") -> Decision:
    """May what derives from this lineage be published under these terms, and with a name, under that?"""
    return decide(judge_offer(bound, terms, name=name))


def may_use_as_declared(name: str, terms: Terms, declaration: Declaration) -> Decision:
    """Do the terms of what is called `name` allow its use by somebody who states this of themselves?"""
    return decide(judge_plan(Node("declared", name, terms), declaration.plan))
