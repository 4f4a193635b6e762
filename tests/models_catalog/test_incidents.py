"""Quarantine, and what a withdrawal or quarantine means for everything that was made from the release."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import scenarios
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from finetuning import policies as finetuning_policies
from marketplace.accounts.models import AuditEvent, Notification, User
from marketplace.errors import Conflict, Denied, DomainError, Invalid
from models_catalog import policies
from models_catalog.models import Flag, Incident, LineageEdge, Listing, Release
from models_catalog.models.lineage import Relation
from models_catalog.presets import PRESETS
from models_catalog.services import lineage, publishing, quarantine

pytestmark = pytest.mark.django_db
NOTICED = PRESETS["apache-2.0"]
API = "/api/v1/listings/vera/net/releases/1.0/"


def derived(maker: User, parent: Release, name: str) -> Release:
    """A published release of the maker's, made from `parent` under a license of theirs."""
    if parent.listing.namespace.user != maker:
        scenarios.licensed(maker, parent)
    draft = scenarios.draft_release(maker, name=name, terms=NOTICED)
    lineage.declare(user=maker, release=draft, parent=parent, relation=Relation.FINETUNE, now=timezone.now())
    return publishing.publish(user=maker, release=scenarios.verify(maker, draft), now=timezone.now())


def staff() -> User:
    user = scenarios.person("root")
    user.is_staff = True
    user.save()
    return user


def fresh(release: Release) -> Release:
    return Release.objects.select_related("listing__namespace", "terms").get(pk=release.pk)


def quarantined(release: Release, *, reason: str = "Its data were stolen") -> Release:
    root = User.objects.filter(username="root").first() or staff()
    quarantine.quarantine(user=root, release=fresh(release), reason=reason, now=timezone.now())
    return fresh(release)


def lifted(release: Release) -> Release:
    quarantine.lift(user=User.objects.get(username="root"), release=fresh(release), now=timezone.now())
    return fresh(release)


def yanked(release: Release) -> Release:
    vendor = scenarios.vendor_of(release)
    publishing.yank(user=vendor, release=fresh(release), reason="It drifts", now=timezone.now())
    return fresh(release)


def told() -> dict[str, list[str]]:
    rows = Notification.objects.order_by("id").values_list("user__username", "kind")
    kinds: dict[str, list[str]] = {}
    for username, kind in rows:
        kinds.setdefault(username, []).append(kind)
    return kinds


@pytest.fixture
def family() -> list[Release]:
    """vera/net, from which mo/small was made, and from that ada/tiny; bo licenses the first, cy the last."""
    root = scenarios.published_release(scenarios.person("vera"))
    child = derived(scenarios.person("mo"), root, "small")
    grandchild = derived(scenarios.person("ada"), child, "tiny")
    scenarios.licensed(scenarios.person("bo"), root)
    scenarios.licensed(scenarios.person("cy"), grandchild)
    Notification.objects.all().delete()
    return [root, child, grandchild]


# Quarantine


@pytest.mark.parametrize("withdrawn", [False, True])
def test_a_quarantined_release_is_served_to_nobody_until_it_is_lifted_to_its_earlier_state(
    family: list[Release], *, withdrawn: bool
) -> None:
    root = yanked(family[0]) if withdrawn else family[0]
    vendor, buyer, now = scenarios.vendor_of(root), User.objects.get(username="bo"), timezone.now()
    before = root.status

    release = quarantined(root)

    assert release.status == "quarantined"
    for person in (vendor, buyer, User.objects.get(username="root")):
        assert policies.may_download(person, release, now=now).code == "quarantined"
        assert policies.may_predict(person, release, now=now).code == "quarantined"
        assert policies.may_fine_tune(person, release, now=now).code == "quarantined"
        assert policies.may_share_derivative(person, release, now=now).code == "quarantined"
    assert policies.may_license(scenarios.person("dan"), release, now=now).code == "quarantined"
    assert policies.may_declare_parent(buyer, release, relation="finetune", now=now, holder=buyer.namespace).code
    release = lifted(root)
    assert (release.status, release.quarantined_from, release.quarantine_reason) == (before, "", "")
    assert policies.may_download(buyer, release, now=now).allowed


def test_a_listing_offers_what_is_left_and_gets_it_back() -> None:
    vendor = scenarios.person("vera")
    first = scenarios.published_release(vendor)
    second = scenarios.published_release(vendor, version="2.0")

    quarantined(second)
    assert Listing.objects.get().latest_release == first
    quarantined(first)
    assert Listing.objects.get().latest_release is None
    lifted(second)
    assert Listing.objects.get().latest_release == second


@pytest.mark.parametrize(("who", "code"), [("vera", "staff_only"), ("bo", "staff_only")])
def test_only_the_staff_quarantine_and_lift(family: list[Release], who: str, code: str) -> None:
    user = User.objects.get(username=who)
    with pytest.raises(Denied) as caught:
        quarantine.quarantine(user=user, release=fresh(family[0]), reason="x", now=timezone.now())
    assert caught.value.code == code
    quarantined(family[0])
    with pytest.raises(Denied):
        quarantine.lift(user=user, release=fresh(family[0]), now=timezone.now())


def test_a_quarantine_needs_a_reason_and_something_that_was_published() -> None:
    root, vendor = staff(), scenarios.person("vera")
    draft = scenarios.draft_release(vendor, name="draft")
    release = scenarios.published_release(vendor)
    found = []
    for subject, reason in ((draft, "x"), (release, "  ")):
        with pytest.raises(DomainError) as caught:
            quarantine.quarantine(user=root, release=subject, reason=reason, now=timezone.now())
        found.append(caught.value.code)
    with pytest.raises(Denied) as caught_lift:
        quarantine.lift(user=root, release=release, now=timezone.now())

    assert [*found, caught_lift.value.code] == ["not_published", "reason_missing", "not_quarantined"]


def test_two_members_of_the_staff_at_once_quarantine_and_lift_once() -> None:
    release = scenarios.published_release(scenarios.person("vera"))
    seen_before = fresh(release)
    quarantined(release)
    with pytest.raises(Conflict):
        quarantine.quarantine(
            user=User.objects.get(username="root"), release=seen_before, reason="too", now=timezone.now()
        )
    seen_quarantined = fresh(release)
    lifted(release)
    with pytest.raises(Conflict):
        quarantine.lift(user=User.objects.get(username="root"), release=seen_quarantined, now=timezone.now())

    assert Incident.objects.count() == 1
    actions = AuditEvent.objects.filter(action__in=("release.quarantine", "release.lift"))
    assert sorted(actions.values_list("action", flat=True)) == ["release.lift", "release.quarantine"]


def test_nothing_but_lifting_leads_out_of_a_quarantine() -> None:
    release = quarantined(scenarios.published_release(scenarios.person("vera")))

    assert not Release.objects.transition(release.pk, to="published")
    assert not Release.objects.transition(release.pk, to="yanked")
    with pytest.raises(IntegrityError), transaction.atomic():
        Release.objects.filter(pk=release.pk).update(status="published")


@pytest.mark.parametrize(
    ("reader", "there"), [("", False), ("stranger", False), ("bo", True), ("vera", True), ("root", True)]
)
def test_a_quarantined_release_exists_for_its_vendor_its_licensees_and_the_staff(
    family: list[Release], client: Client, reader: str, *, there: bool
) -> None:
    quarantined(family[0])
    if reader:
        client.force_login(User.objects.filter(username=reader).first() or scenarios.person(reader))

    page = client.get("/models/vera/net/versions/1.0/")
    answer = client.get(API)

    assert (page.status_code, answer.status_code) == ((200, 200) if there else (404, 404))
    if there:
        assert "Its data were stolen" in page.content.decode()
        assert answer.json()["quarantine_reason"] == "Its data were stolen"
        file = client.get("/models/vera/net/files/1.0/config.json")
        assert (file.status_code, client.get(f"{API}artifacts/config.json").json()["code"]) == (403, "quarantined")


def test_staff_quarantine_and_lift_by_page_and_by_api(client: Client) -> None:
    scenarios.published_release(scenarios.person("vera"))
    client.force_login(staff())
    page = "/models/vera/net/versions/1.0/"
    states = []
    for call in (
        lambda: client.post(f"{page}quarantine/", {"reason": "stolen"}),
        lambda: client.post(f"{page}lift/"),
        lambda: client.post(f"{API}quarantine/", {"reason": "stolen"}, content_type="application/json"),
        lambda: client.post(f"{API}lift/"),
    ):
        answer = call()
        assert answer.status_code in (200, 302), answer.content
        states.append(Release.objects.get().status)

    assert states == ["quarantined", "published", "quarantined", "published"]
    assert Incident.objects.unresolved().count() == 0


def test_a_run_s_result_is_not_published_while_its_parent_is_quarantined(family: list[Release]) -> None:
    """The one gate of the other app that does not ask for the files."""
    assert finetuning_policies.catalog.may_share_derivative is policies.may_share_derivative
    child = family[1]
    draft = scenarios.draft_release(scenarios.vendor_of(child), name="later", terms=NOTICED)
    now = timezone.now()
    lineage.declare(user=scenarios.vendor_of(child), release=draft, parent=child, relation="finetune", now=now)
    ready = scenarios.verify(scenarios.vendor_of(child), draft)
    quarantined(family[0])

    with pytest.raises(Conflict) as caught:
        publishing.publish(user=scenarios.vendor_of(child), release=ready, now=now)

    assert caught.value.code == "ancestor_quarantined"
    lifted(family[0])
    assert publishing.publish(user=scenarios.vendor_of(child), release=ready, now=now).is_live


# What was made from it


@pytest.mark.parametrize("act", [yanked, quarantined])
def test_every_descendant_is_flagged_and_everybody_concerned_is_told_once(family: list[Release], act: Any) -> None:
    act(family[0])

    assert set(Flag.objects.values_list("release_id", flat=True)) == {family[1].pk, family[2].pk}
    own = "release.yank" if act is yanked else "release.quarantine"
    expected = {"mo": [own], "bo": [own], "ada": ["lineage.flag"], "cy": ["lineage.flag"]}
    assert told() == (expected if act is yanked else {**expected, "vera": [own]})


def test_lifting_clears_the_flags_and_tells_the_same_people(family: list[Release]) -> None:
    quarantined(family[0])
    Notification.objects.all().delete()

    lifted(family[0])

    assert not Flag.objects.shown_to(scenarios.vendor_of(family[1])).exists()
    everybody = {"vera": "release.lift", "mo": "release.lift", "bo": "release.lift"}
    assert told() == {who: [kind] for who, kind in {**everybody, "ada": "lineage.clear", "cy": "lineage.clear"}.items()}


def test_a_second_quarantine_is_an_event_of_its_own(family: list[Release]) -> None:
    quarantined(family[0])
    lifted(family[0])
    quarantined(family[0])

    assert told()["cy"] == ["lineage.flag", "lineage.clear", "lineage.flag"]


def test_what_is_published_after_a_withdrawal_is_flagged_too(family: list[Release]) -> None:
    child = family[1]
    maker = scenarios.vendor_of(child)
    yanked(family[0])

    later = derived(maker, child, "later")

    assert [flag.incident.release_id for flag in later.flags.all()] == [family[0].pk]


@pytest.mark.parametrize(("reader", "named"), [("cy", False), ("mo", True)])
def test_flags_are_shown_with_what_and_why_and_name_the_cause_only_where_it_exists(
    family: list[Release], client: Client, reader: str, *, named: bool
) -> None:
    yanked(family[0])
    client.force_login(User.objects.get(username=reader))

    page = client.get("/models/ada/tiny/").content.decode()
    [flag] = client.get("/api/v1/listings/ada/tiny/releases/1.0/").json()["flags"]
    [listed] = client.get("/api/v1/listings/ada/tiny/releases/").json()["results"]
    incident = client.get(f"/incidents/{flag['id']}/").content.decode()

    assert "It drifts" in page
    assert (flag["kind"], flag["reason"]) == ("yanked", "It drifts")
    assert flag["manifest_sha256"] == family[0].manifest_sha256
    assert flag["release"] == ("vera/net@1.0" if named else None)
    assert ("vera/net" in page, "vera/net" in incident) == (named, named)
    assert listed["flags"] == [flag]
    assert client.get(f"/api/v1/incidents/{flag['id']}/").json() == flag
    affected = client.get(f"/api/v1/incidents/{flag['id']}/affected/").json()["results"]
    own, why = {"mo": ("mo/small@1.0", "is_mine"), "cy": ("ada/tiny@1.0", "is_licensed")}[reader]
    assert [row[why] for row in affected if row["release"] == own] == [True]
    assert incident.index(own) == min(incident.index(row["release"]) for row in affected)


def test_the_texts_that_reach_licensees_of_descendants_do_not_name_the_cause(family: list[Release]) -> None:
    yanked(family[0])

    row = Notification.objects.get(user__username="cy")

    assert "vera" not in f"{row.title} {row.body}"
    assert "It drifts" in row.body


def test_an_incident_is_nobody_s_who_can_see_nothing_of_it(family: list[Release], client: Client) -> None:
    """A draft of a stranger's does not show the event."""
    private = scenarios.published_release(scenarios.vendor_of(family[0]), name="other")
    yanked(private)
    incident = Incident.objects.get(release=private)

    assert client.get(f"/incidents/{incident.pk}/").status_code == 404
    assert client.get(f"/api/v1/incidents/{incident.pk}/affected/").status_code == 404
    client.force_login(scenarios.vendor_of(private))
    assert client.get(f"/incidents/{incident.pk}/").status_code == 200


def test_a_model_page_takes_as_many_queries_with_many_flags(family: list[Release], client: Client) -> None:
    with CaptureQueriesContext(connection) as none:
        client.get("/models/ada/tiny/")
    yanked(family[0])
    quarantined(family[0])
    quarantined(family[1])
    with CaptureQueriesContext(connection) as many:
        page = client.get("/models/ada/tiny/").content.decode()

    assert page.count("which this release comes from") == 3
    assert len(many) == len(none)


# The walk


def test_a_diamond_is_walked_once_a_generation() -> None:
    maker = scenarios.person("vera")
    top = scenarios.published_release(maker, name="top")
    sides = [derived(maker, top, f"side{number}") for number in range(4)]
    draft = scenarios.draft_release(maker, name="bottom", terms=NOTICED)
    for side in sides:
        lineage.declare(user=maker, release=draft, parent=side, relation=Relation.MERGE, now=timezone.now())

    with CaptureQueriesContext(connection) as queries:
        found = LineageEdge.objects.descendants_of(top.pk)

    assert found == {*(side.pk for side in sides), draft.pk}
    assert len(queries) == 3
    assert LineageEdge.objects.ancestors_of(draft.pk) == {top.pk, *(side.pk for side in sides)}


def cycle(first: Release, draft: Release) -> None:
    """Writes the edge that no service would: the published release comes from the draft."""
    LineageEdge.objects.create(child=first, parent=draft, relation=Relation.FINETUNE)


def test_an_edge_that_would_make_a_cycle_is_refused() -> None:
    maker = scenarios.person("vera")
    first = scenarios.published_release(maker, name="first")
    draft = scenarios.draft_release(maker, name="draft", terms=NOTICED)
    cycle(first, draft)

    with pytest.raises(Invalid) as caught:
        lineage.declare(user=maker, release=draft, parent=first, relation=Relation.FINETUNE, now=timezone.now())

    assert caught.value.code == "lineage_cycle"
    assert "vera/first@1.0 comes from this release itself" in caught.value.message
    with pytest.raises(IntegrityError), transaction.atomic():
        cycle(draft, draft)


def test_a_cycle_that_is_there_all_the_same_ends_every_walk(client: Client) -> None:
    maker = scenarios.person("vera")
    first = scenarios.published_release(maker, name="first")
    second = derived(maker, first, "second")
    cycle(first, second)

    assert LineageEdge.objects.descendants_of(first.pk) == {second.pk}
    yanked(first)
    assert list(Flag.objects.values_list("release_id", flat=True)) == [second.pk]
    assert client.get("/models/vera/second/").status_code == 200


def test_terms_of_the_flagged_release_that_nobody_holds_tell_nobody(family: list[Release]) -> None:
    """A grant of other terms of the same listing does not open the release, so its holder is not concerned."""
    other = dataclasses.replace(NOTICED, name="Other terms")
    later = scenarios.published_release(scenarios.vendor_of(family[0]), version="2.0", terms=other)
    scenarios.licensed(scenarios.person("eve"), later)

    yanked(family[0])

    assert "eve" not in told()
