from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models_catalog import policies
from models_catalog.derivation import credited, derive, widenings
from models_catalog.presets import APPROVAL_TEMPLATE, COMMERCIAL_TEMPLATE, PRESETS
from models_catalog.terms import Answer, Approval, Attribution, DerivativeTerms, Right, Terms, as_json, from_json

answers = st.sampled_from(list(Answer))
everything = st.builds(
    Terms,
    name=st.sampled_from(["one", "two"]),
    license_id=st.sampled_from(["other", "mit"]),
    text=st.text(max_size=5),
    rights=st.fixed_dictionaries(dict.fromkeys(Right, answers)),
    attribution=st.sampled_from(Attribution),
    attribution_text=st.text(max_size=5),
    include_text=st.booleans(),
    state_changes=st.booleans(),
    derivative_terms=st.sampled_from(DerivativeTerms),
    pass_to_users=st.booleans(),
    network_source=st.booleans(),
    prohibited_uses=st.lists(st.sampled_from(["surveillance", "weapons"]), unique=True).map(tuple),
    research_only=st.booleans(),
    approval=st.sampled_from(Approval),
    price_minor=st.integers(0, 10**6),
    term_days=st.integers(0, 400),
    royalty_bps=st.integers(0, 5000),
)


@given(everything)
def test_terms_survive_storage_with_the_same_hash(value: Terms) -> None:
    assert from_json(as_json(value)).terms_hash == value.terms_hash


def test_every_right_is_denied_until_a_vendor_attests_it() -> None:
    assert not any(Terms(name="t", license_id="other").permits(right) for right in Right)


@given(everything)
def test_a_derivative_is_never_wider_than_its_parent(parent: Terms) -> None:
    child = derive(parent)

    for right in Right:
        if right is not Right.REDISTRIBUTE:  # of the child's own weights, which share_derivatives decides
            assert child.answer(right).rank <= parent.answer(right).rank
    assert widenings(child, parent) == []
    assert widenings(derive(child), parent) == []


def wider(name: str, values: Callable[[Terms], list[object]]) -> Callable[[Terms], list[Terms]]:
    return lambda limit: [dataclasses.replace(limit, **{name: value}) for value in values(limit)]


def without(name: str) -> Callable[[Terms], list[Terms]]:
    return wider(name, lambda limit: [False] if getattr(limit, name) else [])


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
    "credit": wider(
        "attribution_text", lambda limit: ["", limit.attribution_text[1:]] if limit.attribution_text else []
    ),
    "include_text": without("include_text"),
    "state_changes": without("state_changes"),
    "pass_to_users": without("pass_to_users"),
    "network_source": without("network_source"),
    "research_only": without("research_only"),
    "prohibited_uses": wider(
        "prohibited_uses", lambda limit: [limit.prohibited_uses[1:]][: len(limit.prohibited_uses)]
    ),
    "derivative_terms": wider(
        "derivative_terms", lambda limit: [d for d in DerivativeTerms if d.rank < limit.derivative_terms.rank]
    ),
    "approval": wider("approval", lambda limit: [Approval.AUTOMATIC] if limit.approval is Approval.MANUAL else []),
    "term_days": wider("term_days", lambda limit: [0, limit.term_days + 1] if limit.term_days else []),
    "royalty_bps": wider("royalty_bps", lambda limit: [limit.royalty_bps - 1] if limit.royalty_bps else []),
    "price": priced,
}


@pytest.mark.parametrize("clause", WIDENED)
@given(parent=everything, pick=st.integers(0, 100))
def test_whatever_is_wider_in_one_clause_is_named(clause: str, parent: Terms, pick: int) -> None:
    children = WIDENED[clause](derive(parent))
    assume(children)

    assert widenings(children[pick % len(children)], parent)


def test_the_same_license_means_every_clause_but_those_of_the_offer() -> None:
    parent = dataclasses.replace(PRESETS["mit"], derivative_terms=DerivativeTerms.SAME, network_source=True)
    child = derive(parent)

    assert widenings(dataclasses.replace(child, price_minor=100, royalty_bps=5), parent) == []
    for change in ({"text": "another"}, {"rights": {}}, {"research_only": True}, {"license_id": "other"}):
        assert widenings(dataclasses.replace(child, **change), parent) == ["have another license than this one"]


def test_share_alike_takes_no_restrictions_of_the_child_s_own() -> None:
    parent = dataclasses.replace(PRESETS["cc-by-4.0"], derivative_terms=DerivativeTerms.SAME_OR_COMPATIBLE)
    child = dataclasses.replace(derive(parent), license_id="other", text="compatible")

    assert widenings(child, parent) == []
    assert widenings(dataclasses.replace(child, research_only=True), parent) == ["add restrictions of its own"]
    noncommercial = {**child.rights, Right.COMMERCIAL_USE: Answer.DENY}
    assert widenings(dataclasses.replace(child, rights=noncommercial), parent) == ["add restrictions of its own"]


@given(everything, st.lists(everything, max_size=3))
def test_credits_are_added_once_and_change_nothing_else(child: Terms, parents: list[Terms]) -> None:
    twice = credited(credited(child, parents), parents)

    assert twice == credited(child, parents)
    assert all(derive(parent).attribution_text in twice.attribution_text for parent in parents)
    assert dataclasses.replace(twice, attribution_text=child.attribution_text) == child


@pytest.mark.parametrize(
    ("parent", "changes", "code"),
    [
        (PRESETS["mit"], {"price_minor": 100}, ""),
        (PRESETS["apache-2.0"], {"price_minor": 100, "license_id": "other", "text": "mine"}, ""),
        (PRESETS["cc-by-nc-4.0"], {"price_minor": 100}, "price_not_allowed"),
        (PRESETS["cc-by-nd-4.0"], {"rights": PRESETS["cc-by-nd-4.0"].rights}, "terms_too_wide"),
        (COMMERCIAL_TEMPLATE, {"royalty_bps": 0}, "terms_too_wide"),
        (APPROVAL_TEMPLATE, {"prohibited_uses": ()}, "terms_too_wide"),
        (APPROVAL_TEMPLATE, {"approval": Approval.AUTOMATIC}, "terms_too_wide"),
    ],
)
def test_a_refusal_names_the_parent_and_the_clause(parent: Terms, changes: dict[str, object], code: str) -> None:
    decision = policies.may_carry(dataclasses.replace(derive(parent), **changes), parent)

    assert decision.code == code
    assert decision.allowed or decision.why.startswith(f"The parent's “{parent.name}” lets no derivative do this: ")


def test_an_mit_release_is_no_place_for_a_noncommercial_parent() -> None:
    why = policies.may_carry(PRESETS["mit"], PRESETS["cc-by-nc-4.0"]).why

    for words in ("use it commercially", "ask for less credit", "what was changed", "derivatives freer"):
        assert words in why
