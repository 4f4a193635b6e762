"""Which combinations of licenses are refused, and which are not: asked of the services that people act through."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from itertools import pairwise

import pytest
import scenarios
from django.test import Client
from django.utils import timezone

from marketplace.accounts.models import User
from marketplace.errors import Denied
from models_catalog import ancestry, policies, quotes
from models_catalog.models import LineageEdge, Release
from models_catalog.models.lineage import Relation
from models_catalog.presets import APPROVAL_TEMPLATE, COMMERCIAL_TEMPLATE, PRESETS
from models_catalog.services import lineage, publishing
from models_catalog.terms import DerivativeTerms, DownstreamGrant, Terms
from models_catalog.verdict import derive

pytestmark = pytest.mark.django_db


def parent(key: str | Terms, vendor: str = "vera", name: str = "net", **given: object) -> Release:
    user = User.objects.filter(username=vendor).first() or scenarios.person(vendor)
    terms = PRESETS[key] if isinstance(key, str) else key
    return scenarios.published_release(user, name=name, terms=terms, **given)


def maker(*parents: Release) -> User:
    user = User.objects.filter(username="mo").first() or scenarios.person("mo")
    for release in parents:
        scenarios.licensed(user, release)
    return user


def made_of(*parents: Release, terms: Terms, relation: str = Relation.FINETUNE, name: str = "child") -> Release:
    """A licensee declares the parents of a draft under these terms, has it verified and publishes it."""
    user = maker(*parents)
    draft = scenarios.draft_release(user, name=name, terms=terms)
    for release in parents:
        lineage.declare(user=user, release=draft, parent=release, relation=relation, now=timezone.now())
    return publishing.publish(user=user, release=scenarios.verify(user, draft), now=timezone.now())


def refusal(*parents: Release, **given: object) -> Denied:
    with pytest.raises(Denied) as caught:
        made_of(*parents, **given)  # type: ignore[arg-type]
    assert not Release.objects.filter(listing__name="child", status="published").exists()
    return caught.value


def clauses(error: Denied) -> set[tuple[str, str]]:
    return {(reason["parent"], reason["clause"]) for reason in error.extra["reasons"]}


# Refused


def test_a_noncommercial_parent_refuses_a_priced_child() -> None:
    release = parent("cc-by-nc-4.0")

    error = refusal(release, terms=scenarios.priced(derive(PRESETS["cc-by-nc-4.0"]), 500))

    assert error.code == "price_not_allowed"
    assert clauses(error) == {("vera/net@1.0", "price_minor")}
    assert {reason["right"] for reason in error.extra["reasons"]} == {"sell_derivatives", "commercial_use"}
    assert "Offer it without a price" in error.extra["reasons"][0]["fix"]


def test_a_no_derivatives_parent_refuses_publication() -> None:
    release = parent("cc-by-nd-4.0")

    with pytest.raises(Denied) as caught:
        made_of(release, terms=PRESETS["cc-by-nd-4.0"])

    assert caught.value.code == "use_not_granted"
    assert "share what you fine-tune from it" in caught.value.message


@pytest.mark.parametrize("terms", ["cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"])
def test_a_merge_of_share_alike_and_noncommercial_is_not_published(terms: str) -> None:
    alike, noncommercial = parent("cc-by-sa-4.0"), parent("cc-by-nc-4.0", "nina")

    error = refusal(alike, noncommercial, terms=PRESETS[terms], relation=Relation.MERGE)

    assert error.code in {"lineage_clash", "terms_too_wide"}
    if terms == "cc-by-sa-4.0":
        assert error.code == "lineage_clash"
        assert ("vera/net@1.0", "derivative_terms") in clauses(error)


def test_a_merge_of_agpl_and_open_rail_is_not_published() -> None:
    copyleft, rail = parent("agpl-3.0"), parent("bigscience-openrail-m", "rae")

    error = refusal(copyleft, rail, terms=PRESETS["agpl-3.0"], relation=Relation.MERGE)

    assert error.code == "lineage_clash"
    clash = error.extra["reasons"][0]
    assert clash["parent"] == "vera/net@1.0"
    assert "another parent of this restricts its use" in clash["words"]


def test_an_agpl_parent_refuses_a_proprietary_child() -> None:
    release = parent("agpl-3.0")
    proprietary = dataclasses.replace(COMMERCIAL_TEMPLATE, include_text=True, state_changes=True, network_source=True)

    error = refusal(
        release, terms=dataclasses.replace(proprietary, derivative_terms=DerivativeTerms.SAME, price_minor=0)
    )

    assert error.code == "terms_too_wide"
    assert clauses(error) == {("vera/net@1.0", "derivative_terms")}
    assert "Choose the license “GNU Affero General Public License 3.0”" in error.extra["reasons"][0]["fix"]


def test_an_open_rail_parent_refuses_a_child_without_the_use_restrictions() -> None:
    release = parent("bigscience-openrail-m")

    error = refusal(release, terms=PRESETS["apache-2.0"])

    bans = {clause for _, clause in clauses(error) if clause.startswith("prohibited_uses.")}
    assert bans == {f"prohibited_uses.{use}" for use in PRESETS["bigscience-openrail-m"].prohibited_uses}
    assert ("vera/net@1.0", "pass_to_users") in clauses(error)


def test_what_a_grandparent_forbids_is_refused_however_many_models_are_between() -> None:
    """The terms in between were published before the grandparent's were declared, or by hand in the database."""
    root = parent("cc-by-nc-4.0")
    middle = parent("mit", "mia", "middle")
    LineageEdge.objects.create(child=middle, parent=root, relation=Relation.FINETUNE, terms=root.terms)

    error = refusal(middle, terms=scenarios.priced(derive(PRESETS["mit"]), 500))

    assert ("vera/net@1.0", "price_minor") in clauses(error)
    buyer = scenarios.person("bo")
    scenarios.licensed(buyer, middle)
    assert policies.may_download(buyer, middle, now=timezone.now()).allowed


def test_a_parent_that_is_hidden_from_the_maker_is_not_named_in_the_refusal() -> None:
    secret = parent("cc-by-nc-4.0", name="codename")
    middle = parent("mit", "mia", "middle")
    LineageEdge.objects.create(child=middle, parent=secret, relation=Relation.FINETUNE, terms=secret.terms)
    publishing.yank(user=scenarios.vendor_of(secret), release=secret, reason="x", now=timezone.now())

    error = refusal(middle, terms=scenarios.priced(derive(PRESETS["mit"]), 500))

    assert "codename" not in f"{error.message} {error.items} {error.extra}"
    assert ("a private model", "price_minor") in clauses(error)


def test_a_name_without_its_parents_prefix_is_refused() -> None:
    release = parent("llama3.1")

    error = refusal(release, terms=derive(PRESETS["llama3.1"]))

    assert error.code == "name_prefix_missing"
    assert made_of(release, terms=derive(PRESETS["llama3.1"]), name="Llama-child").is_live


def test_what_needs_the_vendor_s_consent_says_so() -> None:
    asks = dataclasses.replace(APPROVAL_TEMPLATE, approval=COMMERCIAL_TEMPLATE.approval)

    with pytest.raises(Denied) as caught:
        made_of(parent(asks), terms=derive(asks))

    assert caught.value.code == "needs_approval"


def test_a_grandchild_of_a_royalty_bearing_root_is_not_given_away_for_nothing() -> None:
    rights = PRESETS["mit"].rights
    root = parent(
        dataclasses.replace(COMMERCIAL_TEMPLATE, rights=rights, price_minor=500, royalty_bps=0, royalty_floor_minor=100)
    )
    middle_terms = dataclasses.replace(COMMERCIAL_TEMPLATE, rights=rights, price_minor=300, royalty_bps=0)
    middle = made_of(root, terms=middle_terms, name="middle")
    other = scenarios.person("gus")
    scenarios.licensed(other, middle)
    draft = scenarios.draft_release(other, name="child", terms=dataclasses.replace(middle_terms, price_minor=0))

    with pytest.raises(Denied) as caught:
        lineage.declare(user=other, release=draft, parent=middle, relation="finetune", now=timezone.now())

    assert caught.value.code == "price_below_floor"
    assert "€1.00" in caught.value.message


def test_a_refusal_over_the_api_names_every_clause_with_what_would_fix_it(client: Client) -> None:
    release = parent("bigscience-openrail-m")
    user = maker(release)
    scenarios.draft_release(user, name="child", terms=PRESETS["mit"])
    client.force_login(user)

    answer = client.post(
        "/api/v1/listings/mo/child/releases/1.0/parents/",
        {"listing": "vera/net", "relation": "finetune"},
        content_type="application/json",
    )

    body = answer.json()
    assert (answer.status_code, answer["Content-Type"], body["code"]) == (
        403,
        "application/problem+json",
        "terms_too_wide",
    )
    by_clause = {reason["clause"]: reason for reason in body["reasons"]}
    assert by_clause["prohibited_uses.medical_advice"] == {
        "parent": "vera/net@1.0",
        "clause": "prohibited_uses.medical_advice",
        "right": "share_derivatives",
        "words": "vera/net@1.0 (“BigScience Open RAIL-M License”) lets no derivative be under an offer that drops "
        "the ban on medical advice or reading medical results.",
        "fix": "Add medical_advice to the bans, or ask the vendor of vera/net@1.0 for other terms.",
    }
    assert len(body["items"]) == len(body["reasons"])


def test_a_refusal_on_a_page_lists_every_clause(client: Client) -> None:
    release = parent("cc-by-nc-4.0")
    child = made_of(release, terms=derive(PRESETS["cc-by-nc-4.0"]))
    client.force_login(child.created_by)

    page = client.post("/vendor/mo/child/", {"version": "2.0", "license": "mit", "price": "5"}).content.decode()

    assert "does not allow to sell what you fine-tune from it" in page
    assert "leaves unsaid what was changed" in page
    assert "Offer it without a price" in page


# Allowed


def test_an_mit_parent_lets_a_proprietary_child_be_sold_with_its_notice() -> None:
    release = parent("mit")

    child = made_of(release, terms=dataclasses.replace(COMMERCIAL_TEMPLATE, include_text=True))

    assert child.is_live
    assert child.terms.value.price_minor == COMMERCIAL_TEMPLATE.price_minor
    assert "Based on a model under MIT License." in child.terms.value.attribution_text


def test_a_cc_by_parent_lets_a_commercial_child_be_sold_with_its_credit() -> None:
    ours = dataclasses.replace(
        COMMERCIAL_TEMPLATE, attribution=PRESETS["cc-by-4.0"].attribution, state_changes=True, price_minor=100
    )

    child = made_of(parent("cc-by-4.0"), terms=ours)

    assert child.is_live
    assert "Based on a model under Creative Commons Attribution 4.0." in child.terms.value.attribution_text


def test_what_no_derivatives_forbids_to_publish_may_be_fine_tuned_in_private() -> None:
    release = parent("cc-by-nd-4.0")

    user = maker(release)

    assert policies.may_fine_tune(user, release, now=timezone.now()).allowed
    assert policies.may_download(user, release, now=timezone.now()).allowed


def test_any_terms_that_add_the_use_restrictions_pass_under_open_rail() -> None:
    rail = PRESETS["bigscience-openrail-m"]
    ours = dataclasses.replace(
        COMMERCIAL_TEMPLATE,
        include_text=True,
        state_changes=True,
        pass_to_users=True,
        derivative_terms=DerivativeTerms.CARRY_RESTRICTIONS,
        prohibited_uses=rail.prohibited_uses,
    )

    assert made_of(parent("bigscience-openrail-m"), terms=ours).is_live


def test_a_merge_of_permissive_parents_is_published_with_the_credits_of_both() -> None:
    first, second = parent("apache-2.0"), parent("cc-by-4.0", "cleo")

    child = made_of(first, second, terms=derive(PRESETS["apache-2.0"], PRESETS["cc-by-4.0"]), relation=Relation.MERGE)

    assert child.terms.value.attribution_text.splitlines() == [
        "Based on a model under Apache License 2.0.",
        "Based on a model under Creative Commons Attribution 4.0.",
    ]


def test_an_exception_is_other_terms_of_the_vendor_and_stands_in_the_lineage() -> None:
    """The vendor offers the maker a version of other terms; what was made under them stays judged by them."""
    parent("cc-by-nc-4.0")
    excepted = parent("mit", version="2.0-exception")

    child = made_of(excepted, terms=dataclasses.replace(COMMERCIAL_TEMPLATE, include_text=True))

    assert child.parent_edges.get().terms.value == PRESETS["mit"]
    assert ancestry.bounds_of(child).limit.license_id == "mit"


def test_nobody_is_their_own_licensee() -> None:
    """A vendor publishes what they made of their own model under any terms, and those bind whoever goes on."""
    vendor = scenarios.person("vera")
    root = scenarios.published_release(vendor, name="root", terms=APPROVAL_TEMPLATE)
    draft = scenarios.draft_release(vendor, name="free", terms=PRESETS["mit"])
    lineage.declare(user=vendor, release=draft, parent=root, relation=Relation.FINETUNE, now=timezone.now())
    middle = publishing.publish(user=vendor, release=scenarios.verify(vendor, draft), now=timezone.now())

    assert middle.terms.value == PRESETS["mit"]
    assert made_of(middle, terms=dataclasses.replace(COMMERCIAL_TEMPLATE, include_text=True)).is_live


# What a licensee of a derivative needs besides


@pytest.mark.parametrize("asked_by", ["adapter", "terms"])
def test_a_licensee_of_a_derivative_needs_a_license_of_the_parent_where_it_says_so(asked_by: str) -> None:
    own = dataclasses.replace(PRESETS["mit"], downstream_grant=DownstreamGrant.OWN_GRANT_REQUIRED, license_id="other")
    base = parent("mit" if asked_by == "adapter" else own)
    relation = Relation.ADAPTER if asked_by == "adapter" else Relation.FINETUNE
    child = made_of(base, terms=derive(base.terms.value), relation=relation)
    buyer, now = scenarios.person("bo"), timezone.now()
    assert quotes.quote(buyer, child, now=now).also_needed == ["vera/net@1.0"]  # before anything is paid
    scenarios.licensed(buyer, child)

    for may in (policies.may_download, policies.may_predict, policies.may_fine_tune):
        decision = may(buyer, child, now=now)
        assert decision.code == "parent_license_needed"
        assert "vera/net@1.0" in decision.why
    scenarios.licensed(buyer, base)
    assert policies.may_download(buyer, child, now=now).allowed
    assert policies.may_fine_tune(buyer, child, now=now).allowed
    assert quotes.quote(buyer, child, now=now).also_needed == []


def test_no_new_licenses_are_given_once_the_vendor_s_own_of_a_parent_has_ended() -> None:
    monthly = dataclasses.replace(PRESETS["mit"], license_id="other", term_days=30)
    base = parent(monthly)
    child = made_of(base, terms=derive(monthly))
    grant = child.parent_edges.get().grant
    early, late = scenarios.person("bo"), scenarios.person("cy")
    later = grant.expires_at + timedelta(seconds=1)
    scenarios.licensed(early, child)

    assert early.namespace.grants.get().expires_at == grant.expires_at
    assert policies.may_license(late, child, now=timezone.now()).allowed
    decision = policies.may_license(late, child, now=later)
    assert decision.code == "parent_license_ended"
    assert "vera/net@1.0" in decision.why


def test_a_lineage_is_read_in_a_constant_number_of_queries(django_assert_num_queries: object) -> None:
    releases = [parent("mit", f"v{number}", f"n{number}") for number in range(8)]
    for child, above in pairwise(releases):
        LineageEdge.objects.create(child=child, parent=above, relation=Relation.FINETUNE, terms=above.terms)
    user = User.objects.get(username="v0")

    for start, ancestors in ((5, 2), (0, 7)):
        links = ancestry.links_of(releases[start])
        with django_assert_num_queries(4):  # type: ignore[operator]
            assert len(ancestry.bounds(links, user=user).ancestors) == ancestors
