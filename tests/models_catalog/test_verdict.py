"""The fold over a lineage and what is judged by it, as pure functions of terms."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from terms_strategy import everything

from models_catalog.models.lineage import Relation
from models_catalog.presets import APPROVAL_TEMPLATE, COMMERCIAL_TEMPLATE, PRESETS, RESEARCH_TEMPLATE
from models_catalog.terms import Answer, Approval, Attribution, DerivativeTerms, DownstreamGrant, Right, Terms
from models_catalog.verdict import (
    ADAPTER,
    COPY,
    Code,
    Edge,
    Effective,
    Lineage,
    Node,
    Outcome,
    credited,
    derive,
    effective,
    judge_offer,
    judge_use,
    widenings,
)

CHILD = "child"


def bound(*parents: Terms, relation: str = "finetune") -> Effective:
    nodes = {str(key): Node(str(key), f"v/n{key}@1.0", terms) for key, terms in enumerate(parents)}
    return effective(Lineage(nodes, {CHILD: [Edge(key, relation) for key in nodes]}), CHILD)


def clauses(found: Effective) -> dict[str, Any]:
    """What the fold says, apart from whose name and text stand over it."""
    limit = dataclasses.asdict(found.limit)
    own = {"name", "license_id", "spdx_id", "kind", "text", "edition", "downstream_grant", "transferable"}
    own |= {"revocable_on", "attribution_text"}
    lines = sorted({*found.limit.attribution_text.split("\n")})
    return {**{name: value for name, value in limit.items() if name not in own}, "credits": lines}


# The fold


@given(st.lists(everything, min_size=1, max_size=4))
def test_a_derivative_is_never_wider_than_any_parent(parents: list[Terms]) -> None:
    together = bound(*parents)

    for parent in parents:
        alone = bound(parent)
        for right in Right:
            assert together.limit.answer(right).rank <= alone.limit.answer(right).rank
            if right is not Right.REDISTRIBUTE:  # of the child's own weights, which share_derivatives decides
                assert together.limit.answer(right).rank <= parent.answer(right).rank
        assert set(parent.prohibited_uses) <= set(together.limit.prohibited_uses)
        assert set(parent.denied_territories) <= set(together.limit.denied_territories)
        assert not parent.max_monthly_users or 0 < together.limit.max_monthly_users <= parent.max_monthly_users
        assert together.limit.attribution.rank >= parent.attribution.rank
        assert together.limit.derivative_terms.rank >= parent.derivative_terms.rank
        mixed = dataclasses.replace(together.limit, license_id=alone.limit.license_id, text=alone.limit.text)
        if together.licenses is None and len(together.revenue_caps) < 2 and not together.clashes:
            assert widenings(mixed, alone) == []


@given(st.lists(everything, min_size=1, max_size=5), st.randoms())
def test_the_order_of_the_parents_changes_nothing(parents: list[Terms], rng: random.Random) -> None:
    nodes = {str(key): Node(str(key), f"v/n{key}", terms) for key, terms in enumerate(parents)}
    shuffled = list(nodes)
    rng.shuffle(shuffled)

    one = effective(Lineage(nodes, {CHILD: [Edge(key) for key in nodes]}), CHILD)
    other = effective(Lineage(nodes, {CHILD: [Edge(key) for key in shuffled]}), CHILD)

    assert one == other


@given(st.lists(everything, min_size=2, max_size=4))
def test_folding_by_way_of_models_in_between_is_folding_at_once(parents: list[Terms]) -> None:
    """Associative over the graph: a child of children carries what a child of all the roots carries."""
    nodes = {str(key): Node(str(key), f"v/n{key}", terms) for key, terms in enumerate(parents)}
    between = Node("m", "v/m", bound(*parents[:-1]).limit)
    last = str(len(parents) - 1)
    edges = {CHILD: [Edge("m"), Edge(last)], "m": [Edge(key) for key in nodes if key != last]}

    deep = effective(Lineage({**nodes, "m": between}, edges), CHILD)
    flat = effective(Lineage(nodes, {CHILD: [Edge(key) for key in nodes]}), CHILD)

    assert clauses(deep) == clauses(flat)


@given(everything, everything)
def test_a_diamond_counts_its_root_once(root: Terms, side: Terms) -> None:
    nodes = {key: Node(key, key, terms) for key, terms in (("root", root), ("a", side), ("b", side))}
    edges = {CHILD: [Edge("a"), Edge("b")], "a": [Edge("root")], "b": [Edge("root")]}

    found = effective(Lineage(nodes, edges), CHILD)

    assert [row.node.key for row in found.ancestors].count("root") == 1
    lines = found.limit.attribution_text.split("\n")
    assert len(lines) == len(set(lines))


def test_lineages_that_run_in_circles_end() -> None:
    nodes = {key: Node(key, key, PRESETS["mit"]) for key in ("a", "b")}
    edges = {CHILD: [Edge("a")], "a": [Edge("b"), Edge(CHILD)], "b": [Edge("a")]}

    assert [row.node.key for row in effective(Lineage(nodes, edges), CHILD).ancestors] == ["a", "b"]


@given(st.lists(everything, min_size=1, max_size=3))
def test_every_clause_that_narrows_has_the_ancestor_it_comes_from(parents: list[Terms]) -> None:
    found = bound(*parents)

    for right in Right:
        if found.limit.answer(right) is not Answer.ALLOW:
            assert f"rights.{right}" in found.origins or "rights.share_derivatives" in found.origins
    for use in found.limit.prohibited_uses:
        assert use in found.origins[f"prohibited_uses.{use}"].terms.prohibited_uses
    for name in ("max_monthly_users", "term_days"):
        least = getattr(found.limit, name)
        assert not least or getattr(found.origins[name].terms, name) == least


@given(everything)
def test_what_a_derivative_may_carry_at_most_is_not_too_wide(parent: Terms) -> None:
    found = bound(parent)

    assert widenings(found.limit, found) == [] or len(found.revenue_caps) > 1
    assert widenings(derive(found.limit), found) == []


def test_relations_that_matter_are_those_of_the_catalog() -> None:
    assert {COPY, ADAPTER} <= set(Relation.values)


# One clause wider at a time


def wider(name: str, values: Callable[[Terms], list[object]]) -> Callable[[Terms], list[Terms]]:
    return lambda limit: [dataclasses.replace(limit, **{name: value}) for value in values(limit)]


def without(name: str) -> Callable[[Terms], list[Terms]]:
    return wider(name, lambda limit: [False] if getattr(limit, name) else [])


def dropped(name: str) -> Callable[[Terms], list[Terms]]:
    return wider(name, lambda limit: [getattr(limit, name)[1:]] if getattr(limit, name) else [])


def loosened(name: str) -> Callable[[Terms], list[Terms]]:
    return wider(name, lambda limit: [0, getattr(limit, name) + 1] if getattr(limit, name) else [])


def wider_rights(limit: Terms) -> list[Terms]:
    more = [(right, answer) for right in Right for answer in Answer if answer.rank > limit.answer(right).rank]
    return [dataclasses.replace(limit, rights={**limit.rights, right: answer}) for right, answer in more]


def priced(limit: Terms) -> list[Terms]:
    sellable = limit.permits(Right.SELL_DERIVATIVES) and limit.permits(Right.COMMERCIAL_USE)
    return [] if sellable else [dataclasses.replace(limit, price_minor=1)]


# For each clause: every way in which terms can be wider in this clause alone.
WIDENED: dict[str, Callable[[Terms], list[Terms]]] = {
    "rights": wider_rights,
    "attribution": wider("attribution", lambda limit: [a for a in Attribution if a.rank < limit.attribution.rank]),
    "attribution_text": wider("attribution_text", lambda limit: [""] if limit.attribution_text else []),
    "include_text": without("include_text"),
    "state_changes": without("state_changes"),
    "pass_to_users": without("pass_to_users"),
    "network_source": without("network_source"),
    "research_only": without("research_only"),
    "prohibited_uses": dropped("prohibited_uses"),
    "denied_territories": dropped("denied_territories"),
    "max_monthly_users": loosened("max_monthly_users"),
    "max_revenue_minor": loosened("max_revenue_minor"),
    "name_prefix": wider("name_prefix", lambda limit: [""] if limit.name_prefix else []),
    "derivative_terms": wider(
        "derivative_terms", lambda limit: [d for d in DerivativeTerms if d.rank < limit.derivative_terms.rank]
    ),
    "approval": wider("approval", lambda limit: [Approval.AUTOMATIC] if limit.approval is Approval.MANUAL else []),
    "term_days": loosened("term_days"),
    "price_minor": priced,
}


@pytest.mark.parametrize("clause", WIDENED)
@given(parents=st.lists(everything, min_size=1, max_size=2), pick=st.integers(0, 100))
def test_whatever_is_wider_in_one_clause_is_named_with_its_parent(clause: str, parents: list[Terms], pick: int) -> None:
    found = bound(*parents)
    children = WIDENED[clause](found.limit)
    assume(children)

    reasons = widenings(children[pick % len(children)], found)

    named = [reason for reason in reasons if reason.clause.partition(".")[0] == clause]
    assert named
    for reason in named:
        assert reason.parent in {"v/n0@1.0", "v/n1@1.0"}
        assert reason.words.endswith(".")
        assert reason.fix.endswith(".")


@given(everything, st.lists(everything, min_size=1, max_size=3))
def test_credits_are_added_once_and_change_nothing_else(child: Terms, parents: list[Terms]) -> None:
    found = bound(*parents)
    twice = credited(credited(child, found), found)

    assert twice == credited(child, found)
    assert all(line in twice.attribution_text for line in found.limit.attribution_text.split("\n"))
    assert dataclasses.replace(twice, attribution_text=child.attribution_text) == child


# Share-alike


def test_two_share_alike_licenses_without_a_common_one_cannot_be_kept() -> None:
    found = bound(PRESETS["cc-by-sa-4.0"], PRESETS["agpl-3.0"])

    [first, *_] = found.clashes
    assert first.clause == "derivative_terms"
    assert judge_offer(found, found.limit).code is Code.CLASH


@pytest.mark.parametrize("other", ["mit", "apache-2.0", "cc-by-4.0", "cc0-1.0", "openmdw-1.0"])
@pytest.mark.parametrize("alike", ["cc-by-sa-4.0", "agpl-3.0"])
def test_share_alike_goes_with_what_adds_no_limits(alike: str, other: str) -> None:
    found = bound(PRESETS[alike], PRESETS[other])

    assert found.clashes == ()
    assert found.limit.license_id == alike
    assert judge_offer(found, found.limit).outcome is Outcome.WITH_OBLIGATIONS


def test_a_compatible_license_is_one_way() -> None:
    found = bound(PRESETS["cc-by-sa-4.0"])
    gpl = dataclasses.replace(found.limit, license_id="gpl-3.0", name="GNU GPL 3.0", text="…")

    assert judge_offer(found, gpl).is_allowed
    other = dataclasses.replace(gpl, license_id="cc-by-4.0")
    assert [reason.clause for reason in judge_offer(found, other).reasons] == ["derivative_terms"]
    assert not judge_offer(
        bound(dataclasses.replace(gpl, derivative_terms=DerivativeTerms.SAME)), found.limit
    ).is_allowed


@pytest.mark.parametrize(
    "more",
    [
        {"research_only": True},
        {"prohibited_uses": ("military",)},
        {"denied_territories": ("KP",)},
        {"max_monthly_users": 10},
        {"term_days": 30},
        {"seats": 5},
    ],
)
def test_share_alike_takes_no_limits_of_the_child_s_own(more: dict[str, Any]) -> None:
    found = bound(PRESETS["cc-by-sa-4.0"])

    verdict = judge_offer(found, dataclasses.replace(found.limit, **more))

    assert verdict.code is Code.TERMS
    assert "adds a restriction of its own" in verdict.reasons[0].words
    assert judge_offer(found, dataclasses.replace(found.limit, price_minor=100)).is_allowed


# Roles, copies, data, adapters, royalties, ends


def test_others_rights_in_a_derivative_come_from_the_right_to_share_it() -> None:
    limit = derive(COMMERCIAL_TEMPLATE)

    assert COMMERCIAL_TEMPLATE.answer(Right.REDISTRIBUTE) is Answer.DENY
    assert limit.answer(Right.REDISTRIBUTE) is Answer.ALLOW
    assert derive(APPROVAL_TEMPLATE).answer(Right.USE) is Answer.ASK
    assert derive(PRESETS["cc-by-nd-4.0"]).answer(Right.USE) is Answer.DENY


def test_a_copy_is_bound_by_the_right_to_pass_on_and_not_by_that_to_share_derivatives() -> None:
    mirrored = bound(PRESETS["cc-by-nd-4.0"], relation=COPY)
    sold = bound(COMMERCIAL_TEMPLATE, relation=COPY)

    assert judge_offer(mirrored, credited(PRESETS["cc-by-nd-4.0"], mirrored)).is_allowed
    assert judge_offer(sold, sold.limit).code is Code.USE


def test_a_derivative_of_a_copy_is_a_derivative_all_the_same() -> None:
    nodes = {key: Node(key, key, PRESETS["cc-by-nd-4.0"]) for key in ("root", "mirror")}
    edges = {CHILD: [Edge("mirror")], "mirror": [Edge("root", COPY)]}

    assert judge_offer(effective(Lineage(nodes, edges), CHILD), PRESETS["mit"]).code is Code.USE


def test_terms_of_data_bind_and_are_called_data() -> None:
    nodes = {"d": Node("d", "the data “birds”", PRESETS["cc-by-nc-4.0"], is_data=True)}
    found = effective(Lineage(nodes, {CHILD: [Edge("d", "trained_on")]}), CHILD)

    verdict = judge_offer(found, dataclasses.replace(found.limit, price_minor=100))

    assert verdict.code is Code.PRICE
    assert "does not allow to sell what was trained on it" in verdict.reasons[0].words
    assert found.limit.attribution_text == "Trained on data under Creative Commons Attribution-NonCommercial 4.0."


def test_a_licensee_of_an_adapter_needs_the_model_that_it_adapts() -> None:
    asks = dataclasses.replace(PRESETS["mit"], downstream_grant=DownstreamGrant.OWN_GRANT_REQUIRED)
    nodes = {key: Node(key, key, terms) for key, terms in (("a", PRESETS["mit"]), ("b", PRESETS["mit"]), ("c", asks))}
    edges = {CHILD: [Edge("a", ADAPTER)], "a": [Edge("b"), Edge("c")]}

    assert [node.key for node in effective(Lineage(nodes, edges), CHILD).own_grants] == ["a", "c"]


def test_a_parent_s_royalty_is_not_the_child_s_own() -> None:
    """Each ancestor is paid by its own clause: tests/models_catalog/test_royalties.py."""
    nodes = {"near": Node("near", "near", COMMERCIAL_TEMPLATE)}

    found = effective(Lineage(nodes, {CHILD: [Edge("near")]}), CHILD)

    assert COMMERCIAL_TEMPLATE.royalty_bps
    assert found.limit.royalty_bps == 0


def test_the_earliest_end_of_a_parent_s_license_bounds_the_child() -> None:
    early, late = datetime(2027, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
    nodes = {key: Node(key, key, PRESETS["mit"]) for key in ("a", "b")}
    edges = {CHILD: [Edge("a", expires_at=late)], "a": [Edge("b", expires_at=early)]}

    found = effective(Lineage(nodes, edges), CHILD)

    assert (found.expires_at, found.expires_with) == (early, nodes["b"])


def test_names_carry_their_parents_prefixes_and_two_prefixes_exclude_each_other() -> None:
    found = bound(PRESETS["llama3.1"])

    assert judge_offer(found, found.limit, name="llama-tuned").is_allowed
    verdict = judge_offer(found, found.limit, name="tuned")
    assert verdict.code is Code.NAME
    assert verdict.reasons[0].fix == "Name it Llama-tuned, for example."
    other = dataclasses.replace(PRESETS["llama3.1"], name="Other", name_prefix="Other")
    assert judge_offer(bound(PRESETS["llama3.1"], other), found.limit).code is Code.CLASH


def test_what_is_asked_for_needs_approval_and_says_of_whom() -> None:
    found = bound(RESEARCH_TEMPLATE)

    verdict = judge_offer(found, found.limit)

    assert (verdict.outcome, verdict.code) == (Outcome.NEEDS_APPROVAL, Code.NEEDS_APPROVAL)
    [reason] = verdict.reasons
    assert (reason.parent, reason.clause) == ("v/n0@1.0", "rights.share_derivatives")
    assert "ask the vendor of v/n0@1.0 for other terms" in reason.fix


def test_a_use_is_narrowed_by_what_the_model_was_made_of() -> None:
    node = Node(CHILD, "v/child@1.0", PRESETS["mit"])

    verdict = judge_use(node, bound(PRESETS["cc-by-nc-4.0"]), Right.USE, Right.COMMERCIAL_USE)

    assert verdict.outcome is Outcome.REFUSED
    assert [(reason.parent, reason.right) for reason in verdict.reasons] == [("v/n0@1.0", "commercial_use")]
    assert judge_use(node, bound(PRESETS["cc-by-nc-4.0"]), Right.USE).outcome is Outcome.WITH_OBLIGATIONS


def test_obligations_name_every_ancestor_that_asks_once() -> None:
    found = bound(PRESETS["apache-2.0"], PRESETS["mit"])

    duties = {duty.words: duty.parents for duty in judge_offer(found, found.limit).obligations}

    assert duties["Keep the copyright and license notices"] == ("v/n0@1.0", "v/n1@1.0")
    assert duties["Pass on the text of “MIT License”"] == ("v/n1@1.0",)
