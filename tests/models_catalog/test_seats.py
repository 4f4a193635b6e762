"""Seats of a grant that limits them: who has one, who gives them out, and who gets the last."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import scenarios
from django.db import connections
from django.test import Client
from django.utils import timezone

from marketplace.accounts.models import Namespace, Role, User
from marketplace.accounts.services import people, tokens
from marketplace.errors import Denied, DomainError
from models_catalog import policies
from models_catalog.models import Grant, Release, Seat
from models_catalog.presets import PRESETS
from models_catalog.services import seats
from models_catalog.terms import Terms

TWO = dataclasses.replace(PRESETS["mit"], license_id="other", spdx_id="", name="Two seats", seats=2)
ONE = dataclasses.replace(TWO, name="One seat", seats=1)
POSTGRES = os.environ.get("POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres")
ROOT = Path(__file__).resolve().parents[2]


def team(terms: Terms = TWO) -> tuple[Release, Namespace, list[User]]:
    """A release that acme has licensed, and acme's owner and three writers."""
    release = scenarios.published_release(scenarios.person("vera"), terms=terms)
    olga = scenarios.person("olga")
    acme = scenarios.organization(olga, "acme")
    writers = [scenarios.member(acme, name, Role.WRITER) for name in ("ann", "ben", "cleo")]
    scenarios.licensed(olga, release, licensee=acme)
    return release, acme, [olga, *writers]


def refusal(act: Callable[..., object], **given: object) -> str:
    with pytest.raises(DomainError) as caught:
        act(**given)
    return caught.value.code


@pytest.mark.django_db
def test_the_first_use_takes_a_free_seat_and_the_next_ones_keep_it() -> None:
    release, _, (_, ann, *_) = team()
    now = timezone.now()

    for days in (0, 1):
        seats.use(user=ann, release=release, now=now + timedelta(days=days))

    seat = Seat.objects.get()
    assert (seat.user, seat.since, seat.last_used_at) == (ann, now, now + timedelta(days=1))


@pytest.mark.django_db
def test_out_of_seats_the_refusal_says_who_can_free_one(client: Client) -> None:
    release, acme, (_, ann, ben, cleo) = team()
    now = timezone.now()
    for user in (ann, ben):
        seats.use(user=user, release=release, now=now)

    for may in (policies.may_download, policies.may_predict):
        decision = may(cleo, release, now=now)
        assert (decision.code, "olga" in decision.why) == ("no_seat", True)
    assert policies.may_fine_tune(cleo, release, now=now, holder=acme).code == "no_seat"
    assert policies.may_share_derivative(cleo, release, now=now, holder=acme).allowed  # offers, does not use
    assert refusal(seats.use, user=cleo, release=release, now=now) == "no_seat"
    client.force_login(cleo)
    answer = client.get("/api/v1/listings/vera/net/releases/1.0/artifacts/model.safetensors")
    assert (answer.status_code, answer.json()["code"]) == (403, "no_seat")


@pytest.mark.django_db
def test_a_download_by_page_or_api_takes_the_seat(client: Client) -> None:
    _, _, (_, ann, ben, _) = team()
    client.force_login(ann)
    client.get("/models/vera/net/files/1.0/model.safetensors")
    client.force_login(ben)
    client.get("/api/v1/listings/vera/net/releases/1.0/artifacts/model.safetensors")

    assert set(Seat.objects.values_list("user__username", flat=True)) == {"ann", "ben"}


@pytest.mark.django_db
def test_an_admin_frees_a_seat_for_somebody_else_and_a_writer_does_not() -> None:
    release, _, (olga, ann, ben, cleo) = team()
    now = timezone.now()
    for user in (ann, ben):
        seats.use(user=user, release=release, now=now)
    seat = Seat.objects.select_related("grant__licensee", "grant__listing__namespace").get(user=ann)

    assert refusal(seats.release, seat=seat, actor=cleo, now=now) == "not_an_admin"
    seats.release(seat=seat, actor=olga, now=now)
    assert refusal(seats.release, seat=seat, actor=olga, now=now) == "already_released"

    seats.use(user=cleo, release=release, now=now)
    assert policies.may_download(ann, release, now=now).code == "no_seat"


@pytest.mark.django_db
def test_an_admin_gives_seats_to_members_alone() -> None:
    release, _, (olga, ann, *_) = team()
    grant, now = Grant.objects.get(), timezone.now()

    seat = seats.assign(grant=grant, actor=olga, username="ann", now=now)
    assert seats.assign(grant=grant, actor=olga, username="ann", now=now) == seat
    assert refusal(seats.assign, grant=grant, actor=ann, username="ben", now=now) == "not_an_admin"
    scenarios.person("sam")
    assert refusal(seats.assign, grant=grant, actor=olga, username="sam", now=now) == "user_unknown"
    seats.assign(grant=grant, actor=olga, username="ben", now=now)
    assert refusal(seats.assign, grant=grant, actor=olga, username="cleo", now=now) == "no_seat"
    assert policies.may_download(ann, release, now=now).allowed


@pytest.mark.django_db
def test_who_leaves_the_organisation_leaves_the_seat() -> None:
    release, acme, (olga, ann, ben, cleo) = team()
    now = timezone.now()
    for user in (ann, ben):
        seats.use(user=user, release=release, now=now)

    people.set_role(actor=olga, namespace=acme, username="ann", role=None)
    seats.use(user=cleo, release=release, now=now)
    people.set_role(actor=olga, namespace=acme, username="ann", role=Role.WRITER)

    assert policies.may_download(ann, release, now=now).code == "no_seat"
    assert Seat.objects.taken(now).count() == 2


@pytest.mark.django_db
def test_a_token_may_have_a_seat_of_its_own(client: Client) -> None:
    release, _, (olga, ann, ben, cleo) = team()
    grant, now = Grant.objects.get(), timezone.now()
    token, secret = tokens.issue(user=cleo, name="ci", scopes=["models:read"])
    _, other = tokens.issue(user=cleo, name="other", scopes=["models:read"])
    seats.assign(grant=grant, actor=olga, username="cleo", token_id=token.pk, now=now)
    seats.use(user=ann, release=release, now=now)
    url = "/api/v1/listings/vera/net/releases/1.0/artifacts/model.safetensors"

    assert client.get(url, headers={"Authorization": f"Bearer {secret}"}).status_code == 200
    assert client.get(url, headers={"Authorization": f"Bearer {other}"}).json()["code"] == "no_seat"
    assert refusal(seats.assign, grant=grant, actor=olga, username="ben", token_id=token.pk, now=now) == "token_unknown"

    tokens.revoke(token, actor=cleo, now=now)
    seats.use(user=ben, release=release, now=timezone.now())  # a token that ended takes no seat up


@pytest.mark.django_db
def test_terms_without_a_limit_have_no_seats() -> None:
    release, _, members = team(dataclasses.replace(TWO, name="Open", seats=0))
    now = timezone.now()
    for user in members:
        seats.use(user=user, release=release, now=now)

    assert not Seat.objects.exists()
    grant = Grant.objects.get()
    assert refusal(seats.assign, grant=grant, actor=members[0], username="ann", now=now) == "seats_unlimited"


@pytest.mark.django_db(transaction=True)
def test_of_two_who_take_the_last_seat_at_once_one_gets_it() -> None:
    release, _, (_, *writers) = team(ONE)
    barrier, outcomes = threading.Barrier(len(writers)), []

    def take(user: User) -> None:
        try:
            barrier.wait(timeout=20)
            seats.use(user=user, release=release, now=timezone.now())
            outcomes.append("")
        except Denied as denied:
            outcomes.append(denied.code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=take, args=(user,)) for user in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert sorted(outcomes) == ["", "no_seat", "no_seat"]
    assert Seat.objects.taken(timezone.now()).count() == 1
