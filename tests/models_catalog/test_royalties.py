"""Where the price of a sale goes, over any lineage; and which prices are legal."""

from __future__ import annotations

import dataclasses

import pytest
import scenarios
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from marketplace.accounts.models import User
from marketplace.errors import Denied, Invalid
from models_catalog import policies, royalties, selectors
from models_catalog.models import Release
from models_catalog.presets import PRESETS
from models_catalog.royalties import CAP_BPS, WHOLE_BPS, Claim
from models_catalog.services import licensing, lineage, publishing
from models_catalog.terms import Terms
from models_catalog.validation import MAX_PRICE_MINOR

SELLER = 0
claims = st.lists(
    st.builds(
        Claim,
        ancestor=st.integers(1, 6),
        title=st.just("a/model"),
        payee=st.integers(SELLER, 4),
        generations=st.integers(1, 5),
        bps=st.integers(0, WHOLE_BPS),
        floor_minor=st.integers(0, 10_000),
        currency=st.just("EUR"),
        depth=st.integers(0, 4),
    ),
    max_size=8,
)


def claim(**given_: object) -> Claim:
    defaults = {"ancestor": 1, "title": "vera/root", "payee": 1, "generations": 1, "currency": "EUR"}
    return Claim(**{**defaults, **given_})  # type: ignore[arg-type]


def shares(found: list[Claim], price: int, **given_: int) -> dict[int, int]:
    split = royalties.split(found, seller=SELLER, price_minor=price, currency="EUR", **given_)
    return {share.ancestor: share.amount_minor for share in split.shares}


@given(claims, st.integers(0, MAX_PRICE_MINOR - 60_000), st.integers(0, WHOLE_BPS))
def test_the_parts_of_a_legal_price_sum_to_it_and_none_is_negative(found: list[Claim], above: int, fee: int) -> None:
    price = royalties.lowest_price(found, seller=SELLER) + above

    split = royalties.split(found, seller=SELLER, price_minor=price, currency="EUR", fee_bps=fee)

    amounts = [share.amount_minor for share in split.shares]
    assert sum(amounts) + split.fee_minor + split.seller_minor == price
    assert min([*amounts, split.fee_minor, split.seller_minor]) >= 0


@given(claims, st.integers(0, MAX_PRICE_MINOR - 60_000))
def test_floors_are_kept_and_percentages_take_no_more_than_the_cap(found: list[Claim], above: int) -> None:
    floors = royalties.lowest_price(found, seller=SELLER)
    price = floors + above

    paid = shares(found, price)

    for due in royalties.owed(found, seller=SELLER):
        assert paid.get(due.ancestor, 0) >= due.floor_minor
        assert paid.get(due.ancestor, 0) <= max(due.floor_minor, price * due.bps // WHOLE_BPS)
    assert sum(paid.values()) <= max(floors, price * CAP_BPS // WHOLE_BPS)


@given(claims.flatmap(lambda found: st.tuples(st.just(found), st.permutations(found))), st.integers(0, 10**6))
def test_the_order_of_the_ancestors_changes_nothing(both: tuple[list[Claim], list[Claim]], above: int) -> None:
    found, shuffled = both
    price = royalties.lowest_price(found, seller=SELLER) + above

    assert shares(found, price) == shares(shuffled, price)


@given(claims, st.integers(0, 10**6))
def test_reaching_an_ancestor_twice_pays_it_once(found: list[Claim], above: int) -> None:
    price = royalties.lowest_price(found, seller=SELLER) + above
    farther = [dataclasses.replace(one, generations=one.generations + 1) for one in found]

    assert shares(found + farther, price) == shares(found, price)


@given(claims)
def test_a_price_below_the_floors_has_no_split(found: list[Claim]) -> None:
    lowest = royalties.lowest_price(found, seller=SELLER)

    for price in (lowest - 1, -1, MAX_PRICE_MINOR + 1):
        with pytest.raises(ValueError, match="is not between"):
            shares(found, price)


def test_what_rounding_leaves_over_is_the_seller_s() -> None:
    split = royalties.split([claim(bps=3333)], seller=SELLER, price_minor=101, currency="EUR", fee_bps=250)

    assert [share.amount_minor for share in split.shares] == [33]
    assert (split.fee_minor, split.seller_minor) == (2, 66)


def test_the_fee_comes_out_of_what_the_royalties_leave() -> None:
    split = royalties.split([claim(floor_minor=100)], seller=SELLER, price_minor=100, currency="EUR", fee_bps=500)

    assert (split.royalties_minor, split.fee_minor, split.seller_minor) == (100, 0, 0)


def test_three_large_percentages_share_half_of_the_price_in_proportion() -> None:
    found = [claim(ancestor=key, bps=bps) for key, bps in ((1, 4000), (2, 2000), (3, 4000))]

    assert shares(found, 1000) == {1: 200, 2: 100, 3: 200}


def test_the_depth_counts_generations_by_the_shortest_way() -> None:
    near, far = claim(bps=1000, depth=2, generations=2), claim(bps=1000, depth=2, generations=3)

    assert shares([near], 1000) == {1: 100}
    assert shares([far], 1000) == {}
    assert shares([far, near], 1000) == {1: 100}
    assert shares([claim(bps=1000, depth=0, generations=99)], 1000) == {1: 100}


def test_nobody_pays_themselves() -> None:
    assert shares([claim(payee=SELLER, bps=1000, floor_minor=50)], 0) == {}


# Over real releases


ROYAL = dataclasses.replace(
    PRESETS["mit"], license_id="other", name="Royal", royalty_bps=1000, royalty_floor_minor=200, price_minor=5000
)


def child(vendor: User, parent: Release | list[Release], *, name: str, terms: Terms) -> Release:
    """A published derivative of one or several parents, each of which its vendor has licensed."""
    draft = scenarios.draft_release(vendor, name=name, terms=terms)
    for one in parent if isinstance(parent, list) else [parent]:
        scenarios.licensed(vendor, one)
        lineage.declare(user=vendor, release=draft, parent=one, relation="finetune", now=timezone.now())
    draft.refresh_from_db()
    return publishing.publish(user=vendor, release=scenarios.verify(vendor, draft), now=timezone.now())


def priced(minor: int, **fields: object) -> Terms:
    return dataclasses.replace(ROYAL, **{"price_minor": minor, **fields})  # type: ignore[arg-type]


@pytest.mark.django_db
def test_a_diamond_pays_its_root_once_and_a_grandchild_pays_two_generations() -> None:
    root = scenarios.published_release(scenarios.person("rita"), name="root", terms=ROYAL)
    left = child(scenarios.person("lea"), root, name="left", terms=priced(6000))
    right = child(scenarios.person("ron"), root, name="right", terms=priced(7000))

    merged = child(scenarios.person("mia"), [left, right], name="merged", terms=priced(10_000))

    split = policies.split_of(merged)
    assert split is not None
    assert {share.title: share.amount_minor for share in split.shares} == {
        "rita/root": 1000,
        "lea/left": 1000,
        "ron/right": 1000,
    }
    assert split.seller_minor == 7000
    assert {claim.title: claim.generations for claim in selectors.royalty_claims(merged)} == {
        "lea/left": 1,
        "ron/right": 1,
        "rita/root": 2,
    }


@pytest.mark.django_db
def test_a_price_below_the_floors_is_refused_with_the_lowest_legal_price() -> None:
    root = scenarios.published_release(scenarios.person("rita"), name="root", terms=ROYAL)
    middle = child(scenarios.person("mia"), root, name="middle", terms=priced(6000))

    for price in (0, 399):
        with pytest.raises(Denied) as caught:
            child(scenarios.person(f"gus{price}"), middle, name="grandchild", terms=priced(price))
        assert caught.value.code == "price_below_floor"
        assert caught.value.message == (
            "Each sale owes rita/root €2.00, mia/middle €2.00: the lowest price that you may set is €4.00."
        )
    assert policies.split_of(child(scenarios.person("ok"), middle, name="fine", terms=priced(400))) is not None


@pytest.mark.django_db
def test_a_floor_in_another_currency_is_refused_by_a_sentence() -> None:
    dollars = dataclasses.replace(ROYAL, currency="USD")
    root = scenarios.published_release(scenarios.person("rita"), name="root", terms=dollars)

    with pytest.raises(Denied) as caught:
        child(scenarios.person("mia"), root, name="child", terms=priced(6000))

    assert caught.value.code == "currency_mismatch"
    assert caught.value.message == (
        "rita/root is due at least $2.00 of each sale, so the price must be in USD, not in EUR: "
        "nothing is converted here."
    )


@pytest.mark.django_db
def test_two_floors_in_two_currencies_leave_no_price() -> None:
    one = scenarios.published_release(
        scenarios.person("rita"), name="one", terms=dataclasses.replace(ROYAL, currency="USD")
    )
    two = scenarios.published_release(
        scenarios.person("rob"), name="two", terms=dataclasses.replace(ROYAL, currency="GBP")
    )

    with pytest.raises(Denied) as caught:
        child(
            scenarios.person("mia"), [one, two], name="child", terms=dataclasses.replace(priced(6000), currency="USD")
        )

    assert caught.value.code == "currency_mismatch"
    assert "GBP and USD at once" in caught.value.message


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("terms", "field"),
    [
        (priced(MAX_PRICE_MINOR + 1), "price_minor"),
        (priced(-1), "price_minor"),
        (priced(5000, royalty_bps=WHOLE_BPS + 1), "royalty_bps"),
        (priced(5000, royalty_bps=-1), "royalty_bps"),
        (priced(5000, royalty_floor_minor=-1), "royalty_floor_minor"),
    ],
)
def test_prices_and_royalties_out_of_range_are_refused(terms: Terms, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        scenarios.draft_release(scenarios.person("vera"), terms=terms)

    assert (caught.value.code, caught.value.field) == ("bad_terms", field)


@pytest.mark.django_db
def test_a_vendor_s_own_ancestor_is_due_nothing_and_its_versions_count_once() -> None:
    rita, mia = scenarios.person("rita"), scenarios.person("mia")
    first = scenarios.published_release(rita, name="root", terms=ROYAL)
    second = scenarios.draft_release(rita, name="root", terms=ROYAL, version="2.0")
    lineage.declare(user=rita, release=second, parent=first, relation="finetune", now=timezone.now())
    second = publishing.publish(user=rita, release=scenarios.verify(rita, second), now=timezone.now())
    assert policies.split_of(second).shares == ()  # type: ignore[union-attr]

    of_both = policies.split_of(child(mia, second, name="child", terms=priced(6000)))

    assert of_both is not None
    assert [(share.title, share.amount_minor) for share in of_both.shares] == [("rita/root", 600)]


@pytest.mark.django_db
def test_a_model_of_one_s_own_in_between_is_no_generation() -> None:
    near = dataclasses.replace(ROYAL, royalty_depth=1)
    rita, mia, sam = (scenarios.person(name) for name in ("rita", "mia", "sam"))
    root = scenarios.published_release(rita, name="root", terms=near)
    step = child(mia, root, name="step", terms=priced(6000, royalty_depth=1))
    sold = scenarios.draft_release(mia, name="sold", terms=priced(10_000, royalty_depth=1))
    lineage.declare(user=mia, release=sold, parent=step, relation="finetune", now=timezone.now())
    sold.refresh_from_db()
    sold = publishing.publish(user=mia, release=scenarios.verify(mia, sold), now=timezone.now())
    further = child(sam, sold, name="further", terms=priced(10_000))

    split = policies.split_of(sold)
    assert split is not None
    assert [(share.title, share.amount_minor) for share in split.shares] == [("rita/root", 1000)]
    assert {claim.title: claim.generations for claim in selectors.royalty_claims(further)} == {
        "mia/sold": 1,
        "mia/step": 2,
        "rita/root": 2,
    }


@pytest.mark.django_db
def test_the_number_of_queries_grows_with_generations_and_not_with_parents(
    django_assert_num_queries: object,
) -> None:
    parents = [
        scenarios.published_release(scenarios.person(f"p{number}"), name="m", terms=ROYAL) for number in range(4)
    ]
    many = child(scenarios.person("mia"), parents, name="child", terms=priced(6000))
    licensing.terms_row(ROYAL)

    with django_assert_num_queries(2):  # type: ignore[operator]  # one generation, and none above it
        assert len(selectors.royalty_claims(many)) == 4
