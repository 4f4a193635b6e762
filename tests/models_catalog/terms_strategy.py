"""Terms as hypothesis draws them: every clause, each value likely to meet an equal one."""

from __future__ import annotations

from hypothesis import strategies as st

from models_catalog.terms import (
    Answer,
    Approval,
    Attribution,
    Billing,
    DerivativeTerms,
    DownstreamGrant,
    Revocable,
    Right,
    Terms,
)

answers = st.sampled_from([Answer.ALLOW, Answer.ALLOW, Answer.ASK, Answer.DENY])
codes = st.lists(st.sampled_from(["military", "surveillance"]), unique=True).map(lambda found: tuple(sorted(found)))
countries = st.lists(st.sampled_from(["CU", "KP"]), unique=True).map(lambda found: tuple(sorted(found)))
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
    prohibited_uses=codes,
    research_only=st.booleans(),
    approval=st.sampled_from(Approval),
    price_minor=st.integers(0, 10**6),
    currency=st.sampled_from(["EUR", "EUR", "USD"]),
    term_days=st.sampled_from([0, 0, 30, 365]),
    royalty_bps=st.integers(0, 5000),
    edition=st.sampled_from(["", "2"]),
    name_prefix=st.sampled_from(["", "", "Abc", "Abcd", "X"]),
    max_monthly_users=st.sampled_from([0, 0, 10, 1000]),
    max_revenue_minor=st.sampled_from([0, 0, 10, 1000]),
    denied_territories=countries,
    billing=st.sampled_from(Billing),
    seats=st.sampled_from([0, 5]),
    trial_days=st.sampled_from([0, 7]),
    royalty_floor_minor=st.sampled_from([0, 100]),
    royalty_depth=st.integers(0, 3),
    downstream_grant=st.sampled_from(DownstreamGrant),
    transferable=st.booleans(),
    revocable_on=st.sampled_from(Revocable),
)
