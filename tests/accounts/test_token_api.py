"""Tokens over the API and on their pages: issuing, replacing, revoking, and reporting those that leaked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import scenarios
from django.test import Client
from django.utils import timezone

from marketplace.accounts.models import ApiToken, AuditEvent, Notification, User
from marketplace.accounts.services import tokens
from marketplace.errors import Conflict
from marketplace.rate_settings import Rate

pytestmark = pytest.mark.django_db
MANAGES = ("tokens:write", "models:write")
CAP = {"amount_minor": 5000, "currency": "EUR", "period": "month"}


@pytest.fixture
def bo() -> User:
    return scenarios.person("bo")


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def issued(user: User, *scopes: str, **given: Any) -> tuple[ApiToken, dict[str, str]]:
    token, secret = tokens.issue(user=user, name="a", scopes=scopes or MANAGES, **given)
    return token, bearer(secret)


def sent(client: Client, method: str, path: str, headers: dict[str, str], body: Any = None) -> Any:
    call = getattr(client, method)
    return call(f"/api/v1/{path}", body or {}, content_type="application/json", headers=headers)


def works(client: Client, headers: dict[str, str]) -> bool:
    return bool(client.get("/api/v1/listings/", headers=headers).status_code == 200)


def test_a_token_is_issued_listed_and_revoked_over_the_api(client: Client, bo: User) -> None:
    _, headers = issued(bo)
    wanted = {"name": "ci", "scopes": ["models:read"], "days": 7, "resources": ["acme/net"], "spend_cap": CAP}

    made = sent(client, "post", "tokens/", headers, wanted)
    new = bearer(made.json()["secret"])

    assert (made.status_code, made["Cache-Control"]) == (201, "no-store")
    assert made.json()["spend_cap"] == {**CAP, "spent_minor": 0}
    assert works(client, new)
    listed = client.get("/api/v1/tokens/", headers=headers).json()["results"]
    assert [row["name"] for row in listed] == ["ci", "a"]
    assert made.json()["secret"] not in str(listed)
    assert sent(client, "delete", f"tokens/{made.json()['id']}/", headers).status_code == 204
    assert not works(client, new)


def test_tokens_of_somebody_else_do_not_exist(client: Client, bo: User) -> None:
    theirs, their_headers = issued(scenarios.person("cy"))
    _, headers = issued(bo)

    answers = [
        client.get(f"/api/v1/tokens/{theirs.pk}/", headers=headers),
        sent(client, "patch", f"tokens/{theirs.pk}/", headers, {"name": "mine"}),
        sent(client, "post", f"tokens/{theirs.pk}/rotate/", headers),
        sent(client, "delete", f"tokens/{theirs.pk}/", headers),
    ]

    assert [answer.status_code for answer in answers] == [404] * 4
    client.force_login(bo)
    pages = [client.post(f"/account/tokens/{theirs.pk}/{act}/") for act in ("rotate", "revoke")]
    assert [page.status_code for page in (client.get(f"/account/tokens/{theirs.pk}/"), *pages)] == [404] * 3
    assert works(client, their_headers)


def test_a_token_makes_none_that_may_more_than_itself(client: Client, bo: User) -> None:
    _, headers = issued(bo, expires_at=timezone.now() + timedelta(days=10))
    wider, wider_headers = issued(bo, "predict", "tokens:read")
    _, capped = issued(bo, cap=tokens.Cap(1, "EUR", "day"))
    narrow = {"name": "n", "scopes": ["models:read"], "days": 5}

    assert sent(client, "post", "tokens/", headers, narrow).status_code == 201
    refused = [
        sent(client, "post", "tokens/", headers, {**narrow, "scopes": ["runs:write"]}),
        sent(client, "post", "tokens/", headers, {**narrow, "days": 20}),
        sent(client, "post", f"tokens/{wider.pk}/rotate/", headers),
        sent(client, "patch", f"tokens/{wider.pk}/", headers, {"spend_cap": None}),
        sent(client, "post", "tokens/", capped, narrow),
    ]
    assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(403, "token_too_narrow")}
    assert sent(client, "post", "tokens/", wider_headers, narrow).status_code == 403
    own = ApiToken.objects.get(cap_minor=1)
    assert sent(client, "patch", f"tokens/{own.pk}/", capped, {"spend_cap": None}).status_code == 403


def test_the_earlier_secret_goes_on_for_a_while_and_then_ends(bo: User) -> None:
    now = timezone.now()
    token, first = tokens.issue(user=bo, name="a", scopes=["models:read"])

    second = tokens.rotate(token=token, now=now, overlap_hours=2)

    within, after = now + timedelta(hours=1), now + timedelta(hours=2)
    assert [tokens.find(secret, now=within) for secret in (first, second)] == [token, token]
    assert [tokens.find(secret, now=after) for secret in (first, second)] == [None, token]
    third = tokens.rotate(token=token, now=within, overlap_hours=2)
    assert [tokens.find(secret, now=within) for secret in (first, second, third)] == [None, token, token]


def test_a_secret_is_replaced_at_once_where_others_have_seen_it(client: Client, bo: User) -> None:
    token, headers = issued(bo)

    answer = sent(client, "post", f"tokens/{token.pk}/rotate/", headers, {"overlap_hours": 0})

    assert (answer.status_code, answer.json()["previous_ends_at"]) == (201, None)
    assert not works(client, headers)
    assert works(client, bearer(answer.json()["secret"]))
    again = bearer(answer.json()["secret"])
    assert sent(client, "post", f"tokens/{token.pk}/rotate/", again, {"overlap_hours": 169}).status_code == 422


def test_revoking_ends_every_secret_and_nothing_brings_it_back(client: Client, bo: User) -> None:
    now = timezone.now()
    token, first = tokens.issue(user=bo, name="a", scopes=["models:read"])
    second = tokens.rotate(token=token, now=now)

    tokens.revoke(token, actor=bo, now=now)

    assert [works(client, bearer(secret)) for secret in (first, second)] == [False, False]
    with pytest.raises(Conflict, match="ended"):
        tokens.rotate(token=token, now=now)


@pytest.mark.parametrize("path", ["/api/v1/credentials/revoke/", "/api/credentials/revoke"])
def test_whoever_finds_a_token_ends_it_and_its_owner_is_told(client: Client, bo: User, path: str) -> None:
    token, first = tokens.issue(user=bo, name="ci", scopes=["models:read"])
    second = tokens.rotate(token=token, now=timezone.now())
    unknown = tokens.PREFIX + "0" * 38

    answers = [
        client.post(path, {"credentials": secrets}, content_type="application/json")
        for secrets in ([unknown], ["nonsense"], [first, unknown], [second])
    ]

    assert {(answer.status_code, answer.content) for answer in answers} == {(202, answers[0].content)}
    assert [works(client, bearer(secret)) for secret in (first, second)] == [False, False]
    told = Notification.objects.get(user=bo)
    assert (told.kind, told.url) == ("token.leaked", "/account/tokens/")
    assert "ci" in told.title
    assert AuditEvent.objects.filter(action="token.revoke").count() == 1


def test_a_thief_who_replaces_the_secret_at_once_does_not_escape_the_report(client: Client, bo: User) -> None:
    token, found = issued(bo)
    stolen = {"overlap_hours": 0}
    second = bearer(sent(client, "post", f"tokens/{token.pk}/rotate/", found, stolen).json()["secret"])
    third = bearer(sent(client, "post", f"tokens/{token.pk}/rotate/", second, stolen).json()["secret"])
    assert works(client, third)

    sent(client, "post", "credentials/revoke/", {}, {"credentials": [found["Authorization"].split()[1]]})

    assert not works(client, third)
    told = list(Notification.objects.filter(user=bo).order_by("pk").values_list("kind", flat=True))
    assert told == ["token.rotate", "token.rotate", "token.leaked"]


def test_what_a_leaked_token_issued_or_replaced_ends_with_it(client: Client, bo: User) -> None:
    now = timezone.now()
    leaked, headers = issued(bo)
    other, _ = issued(bo)
    apart, apart_headers = issued(bo)
    child, _ = issued(bo, by=leaked)
    grandchild, of_grandchild = issued(bo, by=child)
    of_other = bearer(tokens.rotate(token=other, now=now, by=child))
    of_child = bearer(tokens.rotate(token=child, now=now, by=grandchild))  # a circle
    ends = (of_child, of_grandchild, of_other)
    tokens.revoke(leaked, actor=bo, now=now)
    assert all(works(client, each) for each in ends)

    tokens.revoke_leaked(headers["Authorization"].split()[1], now=now, where="found")

    assert not any(works(client, each) for each in ends)
    assert works(client, apart_headers)
    body = Notification.objects.get(user=bo, kind="token.leaked").body
    assert all(str(row) in body for row in ApiToken.objects.exclude(pk__in=[apart.pk, leaked.pk]))
    named = AuditEvent.objects.filter(action="token.revoke", details__because_of=str(leaked))
    assert named.count() == 3
    assert AuditEvent.objects.filter(action="token.issue", details__by_token=str(leaked)).count() == 1


def test_a_token_that_was_just_revoked_issues_and_replaces_nothing(bo: User) -> None:
    by, _ = issued(bo)
    other, _ = issued(bo)
    tokens.revoke(by, actor=bo, now=timezone.now())

    with pytest.raises(Conflict, match="ended"):
        tokens.issue(user=bo, name="late", scopes=["models:write"], by=by)
    with pytest.raises(Conflict, match="ended"):
        tokens.rotate(token=other, now=timezone.now(), by=by)


def test_the_page_names_what_a_revoked_token_had_issued(client: Client, bo: User) -> None:
    token, headers = issued(bo)
    sent(client, "post", "tokens/", headers, {"name": "child", "scopes": ["models:read"], "days": 7})
    client.force_login(bo)

    page = client.post(f"/account/tokens/{token.pk}/revoke/", follow=True).content.decode()

    assert f"Revoke what you do not know: {ApiToken.objects.get(name='child')}." in page


def test_a_person_who_issues_and_replaces_on_the_page_is_not_told_of_it(client: Client, bo: User) -> None:
    client.force_login(bo)
    token, _ = issued(bo)

    client.post(f"/account/tokens/{token.pk}/rotate/", {"overlap_hours": 0})

    assert token.earlier_secrets.count() == 1
    assert not Notification.objects.exists()


def test_reports_of_leaked_tokens_are_limited(client: Client, settings: Any) -> None:
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "credentials": Rate(2, 60)}

    answers = [sent(client, "post", "credentials/revoke/", {}, {"credentials": ["x"]}) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert answers[-1]["RateLimit"].startswith('"credentials";r=0;')


@pytest.mark.parametrize("body", [{}, {"credentials": []}, {"credentials": "x"}, {"credentials": ["x"] * 101}])
def test_a_report_that_is_none_is_refused(client: Client, body: Any) -> None:
    assert sent(client, "post", "credentials/revoke/", {}, body).status_code == 400


def test_the_pages_issue_change_replace_and_revoke(client: Client, bo: User) -> None:
    client.force_login(bo)
    fields = {"name": "ci", "scopes": ["models:read"], "days": 30, "resources": "acme\nacme/net", "period": "week"}

    refused = client.post("/account/tokens/", {**fields, "resources": "no thing/"}).content.decode()
    capped = client.post("/account/tokens/", {**fields, "cap": "49.50", "currency": "EUR"}).content.decode()
    token = ApiToken.objects.get()
    page = f"/account/tokens/{token.pk}/"

    assert "is no vendor" in refused
    assert "Your new token" in capped
    assert (token.resources, token.cap_minor, token.cap_period) == (["acme", "acme/net"], 4950, "week")
    assert "€49.50" in client.get(page).content.decode()
    client.post(page, {"name": "cd", "cap": "100", "currency": "JPY", "period": "ever"})
    token.refresh_from_db()
    assert (token.name, token.cap_minor, token.cap_currency) == ("cd", 100, "JPY")
    client.post(page, {"name": "cd", "cap": "", "currency": "JPY", "period": "ever"})
    assert ApiToken.objects.get().cap_minor is None
    assert "The new secret" in client.post(f"{page}rotate/", {"overlap_hours": 0}).content.decode()
    assert "less than or equal" in client.post(f"{page}rotate/", {"overlap_hours": 999}).content.decode()
    client.post(f"{page}revoke/")
    assert ApiToken.objects.get().revoked_at is not None
    assert client.get(page).status_code == 404
