"""Which acts in the catalog are told to whose webhooks, and that the addresses in them open for those who are told."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from typing import Any

import pytest
import scenarios
from django.conf import settings
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from finetuning.services import reaping
from marketplace.accounts.models import Namespace, User
from marketplace.errors import DomainError
from marketplace.webhooks.models import Message
from marketplace.webhooks.services import endpoints
from models_catalog.models import Grant, Order, Release
from models_catalog.models.lineage import Relation
from models_catalog.presets import COMMERCIAL_TEMPLATE, PRESETS
from models_catalog.services import (
    access,
    grants,
    lineage,
    moderation,
    orders,
    payouts,
    publishing,
    quarantine,
    questions,
    refunds,
    reviews,
)
from models_catalog.terms import Approval

pytestmark = pytest.mark.django_db
FREE = PRESETS["apache-2.0"]
DAY = timedelta(days=1)


def listens(username: str) -> User:
    user = scenarios.person(username)
    namespace = Namespace.objects.get(user=user)
    endpoints.create(user=user, namespace=namespace, url="https://example.com/hooks", now=timezone.now())
    return user


def told(user: User) -> list[str]:
    """The types of what the user's webhook owes, in order; what was told is forgotten."""
    rows = Message.objects.filter(endpoint__namespace__user=user).order_by("pk")
    found = []
    for row in rows:
        found.append(row.type)
        for thing in json.loads(row.body)["data"].values():
            opens(user, thing)
    rows.delete()
    return found


def opens(user: User, thing: Any) -> None:
    if not isinstance(thing, dict):
        return
    client = Client()
    client.force_login(user)
    assert thing["url"].startswith(f"{settings.SITE_URL}/api/v1/")
    assert client.get(thing["url"].removeprefix(settings.SITE_URL)).status_code == 200, thing


def staff() -> User:
    user = scenarios.person("root")
    User.objects.filter(pk=user.pk).update(is_staff=True)
    user.refresh_from_db()
    return user


def test_a_vendor_is_told_of_verification_and_publication() -> None:
    vera = listens("vera")
    rejected = scenarios.draft_release(vera, name="bad")
    publishing.submit(user=vera, release=rejected)
    publishing.record_verification(release_id=rejected.pk, result={"status": "rejected", "problems": []}, golden=None)
    assert told(vera) == ["release.verification_failed"]

    scenarios.published_release(vera)

    assert told(vera) == ["release.verified", "release.published"]


def test_an_act_that_is_refused_is_told_to_nobody() -> None:
    vera = listens("vera")
    draft = scenarios.draft_release(vera)

    with pytest.raises(DomainError):
        publishing.publish(user=vera, release=draft, now=timezone.now())

    assert told(vera) == []


def test_both_sides_of_a_sale_are_told_and_of_its_refund() -> None:
    vera, bo = listens("vera"), listens("bo")
    release = scenarios.published_release(vera, terms=COMMERCIAL_TEMPLATE)
    told(vera)

    order = scenarios.accepted(bo, release)
    assert isinstance(order, Order)
    assert [told(vera), told(bo)] == [["order.placed"]] * 2
    orders.settle_order(order=order, actor=vera, now=timezone.now())
    assert [set(told(vera)), set(told(bo))] == [{"grant.given", "order.paid"}] * 2
    refunds.refund_order(order=Order.objects.get(), actor=vera, reason="A mistake", now=timezone.now())
    assert [set(told(vera)), set(told(bo))] == [{"order.refunded", "grant.revoked"}] * 2

    second = scenarios.accepted(bo, release)
    assert isinstance(second, Order)
    orders.cancel_order(order=second, actor=bo, now=timezone.now())
    assert told(bo) == ["order.placed", "order.canceled"]


def test_a_free_license_is_one_event_and_a_stranger_is_told_nothing() -> None:
    vera, bo, cy = listens("vera"), listens("bo"), listens("cy")
    release = scenarios.published_release(vera)
    told(vera)

    scenarios.licensed(bo, release)

    assert [told(vera), told(bo), told(cy)] == [["grant.given"], ["grant.given"], []]


def test_requests_for_access_and_their_answers() -> None:
    vera, bo = listens("vera"), listens("bo")
    release = scenarios.published_release(vera, terms=dataclasses.replace(FREE, approval=Approval.MANUAL))
    told(vera)

    asked = access.request_access(user=bo, release=release, reason="For a study", now=timezone.now())
    access.decide_request(request_id=asked.pk, actor=vera, approve=True, answer="", now=timezone.now())

    assert told(vera) == told(bo) == ["access.requested", "access.decided"]


def test_the_life_of_a_license_is_told_once_each() -> None:
    vera, bo, cy = listens("vera"), listens("bo"), listens("cy")
    release = scenarios.published_release(vera, terms=dataclasses.replace(FREE, term_days=30, transferable=True))
    scenarios.licensed(bo, release)
    told(vera), told(bo)
    now, grant = timezone.now(), Grant.objects.get()

    for days in (1, 20, 21, 31, 32):
        cache.clear()  # an hour later
        reaping.reap(now=now + days * DAY)
    assert told(bo) == told(vera) == ["grant.expiring", "grant.expired"]

    Grant.objects.filter(pk=grant.pk).update(expires_at=now + 30 * DAY)
    offer = grants.offer_transfer(grant=grant, actor=bo, recipient=Namespace.objects.get(user=cy), now=now)
    taken = grants.accept_transfer(transfer_id=offer.pk, actor=cy, terms_hash=grant.terms.terms_hash, now=now)
    assert [told(bo), told(cy), told(vera)] == [
        ["grant.transferred"],
        ["grant.given"],
        ["grant.transferred", "grant.given"],
    ]
    grants.revoke(grant=taken, actor=vera, reason="Resold", now=now)
    assert told(cy) == told(vera) == ["grant.revoked"]


def test_what_happened_to_an_ancestor_is_told_to_descendants_without_its_name() -> None:
    vera, mia, bo = listens("vera"), listens("mia"), listens("bo")
    root = scenarios.published_release(vera, name="root")
    scenarios.licensed(mia, root)
    draft = scenarios.draft_release(mia, name="child")
    lineage.declare(user=mia, release=draft, parent=root, relation=Relation.FINETUNE, now=timezone.now())
    child = publishing.publish(user=mia, release=scenarios.verify(mia, draft), now=timezone.now())
    scenarios.licensed(bo, child)
    Message.objects.all().delete()

    def fresh() -> Release:
        return Release.objects.select_related("listing__namespace").get(pk=root.pk)

    root_staff = staff()
    quarantine.quarantine(user=root_staff, release=fresh(), reason="Stolen data", now=timezone.now())
    bodies = Message.objects.filter(endpoint__namespace__user=bo).values_list("body", flat=True)
    assert not any("vera/root" in body for body in bodies)
    assert [told(user) for user in (vera, mia, bo)] == [
        ["release.quarantined"],
        ["release.quarantined"],
        ["lineage.flagged"],
    ]
    quarantine.lift(user=root_staff, release=fresh(), now=timezone.now())
    assert [told(user) for user in (vera, bo)] == [["release.lifted"], ["lineage.cleared"]]
    publishing.yank(user=vera, release=fresh(), reason="Superseded", now=timezone.now())
    assert [told(user) for user in (vera, bo)] == [["release.yanked"], ["lineage.flagged"]]


def test_reviews_and_payouts() -> None:
    vera, bo = listens("vera"), scenarios.person("bo")
    release = scenarios.published_release(vera, terms=COMMERCIAL_TEMPLATE)
    order = scenarios.accepted(bo, release)
    assert isinstance(order, Order)
    stan, now = staff(), timezone.now()
    orders.settle_order(order=order, actor=stan, now=now, received_by="site")
    told(vera)

    author = Namespace.objects.get(user=bo)
    reviews.write(user=bo, listing=release.listing, author=author, rating=5, text="Good", now=now)
    assert told(vera) == ["review.written"]

    first = payouts.create(actor=stan, currency=COMMERCIAL_TEMPLATE.currency, minimum_minor=1, now=now)
    payouts.cancel(batch=first, actor=stan, now=now)
    second = payouts.create(actor=stan, currency=COMMERCIAL_TEMPLATE.currency, minimum_minor=1, now=now)
    payouts.mark_sent(batch=second, actor=stan, reference="T-1", now=now)
    assert told(vera) == ["payout.created", "payout.canceled", "payout.created", "payout.sent"]


def test_questions_are_told_to_the_vendor_and_answers_to_who_asked() -> None:
    vera, bo, cy = listens("vera"), listens("bo"), listens("cy")
    listing, now = scenarios.published_release(vera).listing, timezone.now()
    told(vera)

    question = questions.ask(user=bo, listing=listing, text="Does it know kiwis?", now=now)
    assert [told(user) for user in (vera, bo, cy)] == [["question.asked"], [], []]
    questions.answer(user=cy, question=question, text="It does.", now=now)
    assert [told(user) for user in (vera, bo, cy)] == [[], ["question.answered"], []]


def test_a_takedown_and_its_end_are_told_to_the_owner() -> None:
    vera, bo = listens("vera"), listens("bo")
    listing, now, stan = scenarios.published_release(vera).listing, timezone.now(), staff()
    question = questions.ask(user=bo, listing=listing, text="Who wrote this nonsense?", now=now)
    told(vera)

    taken = moderation.take_down(actor=stan, subject=question, reason="Insults", legal_basis="Rules, 3", now=now)
    moderation.appeal(user=bo, takedown=taken, text="It was a joke.", now=now)
    moderation.lift(actor=stan, takedown=taken, decision="It was.", now=now)

    bodies = Message.objects.filter(endpoint__namespace__user=bo).order_by("pk").values_list("body", flat=True)
    assert [json.loads(body)["data"]["takedown"]["status"] for body in bodies] == ["in_force", "lifted"]
    assert [told(vera), told(bo)] == [[], ["takedown.begun", "takedown.decided"]]
