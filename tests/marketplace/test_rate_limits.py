"""Limits of calls, and the headers that tell them."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import scenarios
from django.test import Client
from huggingface_hub.utils import parse_ratelimit_headers

from marketplace.accounts.models import AuditEvent, User
from marketplace.accounts.services import tokens
from marketplace.rate_settings import Rate, plans, rate
from marketplace.throttling import ACCOUNT_FACTOR, FILES_FACTOR, spend

LISTINGS = "/api/v1/listings/"
PAIR = Rate(2, 60)


def token_of(user: User, name: str = "a", scopes: tuple[str, ...] = ("models:read",)) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens.issue(user=user, name=name, scopes=scopes)[1]}"}


def left(answer: Any) -> int:
    found = parse_ratelimit_headers(answer.headers)
    assert found is not None, answer.headers
    return found.remaining


@pytest.mark.django_db
def test_every_answer_says_in_the_form_of_hub_clients_how_many_calls_are_left(client: Client, settings: Any) -> None:
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "anonymous": Rate(50, 300)}
    headers = token_of(scenarios.person("bo"), scopes=("models:write",))

    first, second = client.get(LISTINGS, headers=headers), client.get(LISTINGS, headers=headers)
    found = parse_ratelimit_headers(first.headers)

    assert (found.resource_type, found.limit, found.window_seconds) == ("api", 1200, 60)
    assert 0 < found.reset_in_seconds <= 60
    assert (left(first), left(second)) == (1199, 1198)
    refusals = {
        401: client.get(LISTINGS, headers={"Authorization": "Bearer mkt_wrong"}),
        403: client.get("/api/v1/runs/", headers=headers),
        404: client.get("/api/v1/listings/no/thing/", headers=headers),
        405: client.delete(LISTINGS, headers=headers),
        406: client.get(LISTINGS, headers={**headers, "Accept": "image/png"}),
        422: client.get(LISTINGS, {"page_size": "x"}, headers=headers),
    }
    assert {status: answer.status_code for status, answer in refusals.items()} == {
        status: status for status in refusals
    }
    assert [left(answer) for answer in refusals.values()] == [49, 1197, 1196, 1195, 1194, 1193]
    assert left(client.get("/api/v1/nothing/")) == 48
    assert left(client.get("/api/models", headers=headers)) == 1192
    assert left(client.get("/api/models/no/thing", headers=headers)) == 1191
    assert "RateLimit" not in client.get("/").headers


@pytest.mark.django_db
@pytest.mark.parametrize("path", [LISTINGS, "/api/models"])
def test_one_call_too_many_is_told_when_to_come_back(client: Client, settings: Any, path: str) -> None:
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "anonymous": PAIR}

    answers = [client.get(path) for _ in range(3)]
    found = parse_ratelimit_headers(answers[-1].headers)

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert (found.remaining, found.limit) == (0, 2)
    assert answers[-1]["Retry-After"] == str(found.reset_in_seconds)


@pytest.mark.django_db
def test_guesses_at_tokens_are_counted_for_their_address(client: Client, settings: Any) -> None:
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "anonymous": PAIR}

    answers = [client.get(LISTINGS, headers={"Authorization": f"Bearer mkt_{number}"}) for number in range(3)]

    assert [answer.status_code for answer in answers] == [401, 401, 429]
    assert answers[-1].json()["code"] == "throttled"


@pytest.mark.django_db
def test_each_token_has_its_own_window_and_the_account_an_end(client: Client, settings: Any) -> None:
    settings.RATE_LIMIT_PLANS = {"standard": PAIR}
    user, other = scenarios.person("bo"), scenarios.person("cy")
    headers = [token_of(user, str(number)) for number in range(ACCOUNT_FACTOR + 1)]

    own = [client.get(LISTINGS, headers=headers[0]).status_code for _ in range(3)]
    rest = [client.get(LISTINGS, headers=one).status_code for one in headers[1:] for _ in range(2)]

    assert own == [200, 200, 429]
    assert rest == [200] * (2 * ACCOUNT_FACTOR - 2) + [429] * 2
    assert client.get(LISTINGS, headers=token_of(other)).status_code == 200


@pytest.mark.django_db
def test_the_plan_of_its_owner_is_a_tokens_limit(client: Client, settings: Any) -> None:
    settings.RATE_LIMIT_PLANS = {"standard": Rate(10, 60), "partner": Rate(100, 60)}
    user = scenarios.person("bo")
    headers = token_of(user)

    assert left(client.get(LISTINGS, headers=headers)) == 9
    User.objects.filter(pk=user.pk).update(api_plan="partner")
    assert left(client.get(LISTINGS, headers=headers)) == 99
    settings.RATE_LIMIT_PLANS = {"standard": Rate(10, 60)}
    assert left(client.get(LISTINGS, headers=headers)) == 8


@pytest.mark.django_db
def test_the_staff_choose_a_plan_in_the_admin_and_nothing_else(client: Client, settings: Any) -> None:
    settings.RATE_LIMIT_PLANS = {"standard": Rate(10, 60), "partner": Rate(100, 60)}
    user, root = scenarios.person("bo"), scenarios.person("root")
    User.objects.filter(pk=root.pk).update(is_staff=True)
    page = f"/admin/accounts/user/{user.pk}/change/"
    client.force_login(user)
    assert client.post(page, {"api_plan": "partner"}).status_code == 302
    client.force_login(root)

    unknown = client.post(page, {"api_plan": "gold"})
    chosen = client.post(page, {"api_plan": "partner", "username": "eve", "is_staff": "on"})

    user.refresh_from_db()
    assert (unknown.status_code, chosen.status_code) == (200, 302)
    assert (user.api_plan, user.username, user.is_staff) == ("partner", "bo", False)
    assert AuditEvent.objects.get(action="api_plan.set").details == {"plan": "partner"}
    shown = client.get(page).content.decode() + client.get("/admin/accounts/user/?q=bo").content.decode()
    assert user.password not in shown


@pytest.mark.django_db
def test_files_are_counted_apart(client: Client, settings: Any) -> None:
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "anonymous": PAIR}
    release = scenarios.published_release(scenarios.person("vera"))
    card = f"/{release.listing}/resolve/main/README.md"

    listed = [client.get(LISTINGS).status_code for _ in range(3)]
    found = parse_ratelimit_headers(client.get(card).headers)

    assert listed[-1] == 429
    assert (found.resource_type, found.limit, found.remaining) == ("resolvers", 2 * FILES_FACTOR, 2 * FILES_FACTOR - 1)


def test_a_window_begins_with_the_first_call_and_then_another_one() -> None:
    calls = [spend("api", "somebody", rate=PAIR, now=now) for now in (1000.0, 1059.5, 1059.9, 1060.0, 1130.0)]

    assert [call.is_exceeded for call in calls] == [False, False, True, False, False]
    assert [(call.left, call.ends_in_seconds) for call in calls] == [(1, 60), (0, 1), (0, 1), (1, 60), (1, 60)]


def test_of_many_calls_at_once_none_is_lost() -> None:
    start, used = threading.Barrier(8), []

    def ask() -> None:
        start.wait()
        used.extend(spend("api", "somebody", rate=Rate(100, 60), now=1000.0).used for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(used) == list(range(1, 161))


@pytest.mark.parametrize("text", ["", "0/min", "-1/min", "many/min", "10", "10/week", "10/min/min"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="rate"):
        rate(text)


def test_plans_are_read_beside_the_standard_one() -> None:
    assert plans(["partner=6000/min", " bulk=2/s"], standard=PAIR) == {
        "standard": PAIR,
        "partner": Rate(6000, 60),
        "bulk": Rate(2, 1),
    }
    with pytest.raises(ValueError, match="name of a plan"):
        plans(["A plan=1/s"], standard=PAIR)
