from __future__ import annotations

from datetime import timedelta

import pytest
import scenarios
from django.test import Client
from django.utils import timezone

from marketplace.accounts.models import ApiToken
from marketplace.accounts.services import tokens

pytestmark = pytest.mark.django_db


def test_a_token_is_found_by_its_secret_which_is_not_kept() -> None:
    token, secret = tokens.issue(user=scenarios.person("bo"), name="ci", scopes=["models:read"])

    assert tokens.find(secret, now=timezone.now()) == token
    stored = ApiToken.objects.values().get()
    assert secret not in str(stored)
    assert secret.startswith("mkt_")


@pytest.mark.parametrize("broken", ["", "mkt_short", "other_" + "a" * 38, "mkt_" + "a" * 38])
def test_malformed_tokens_are_refused_without_a_query(broken: str, django_assert_num_queries: object) -> None:
    with django_assert_num_queries(0):  # type: ignore[operator]
        assert tokens.find(broken, now=timezone.now()) is None


def test_expired_and_revoked_tokens_end_at_once(client: Client) -> None:
    user, now = scenarios.person("bo"), timezone.now()
    _, expired = tokens.issue(user=user, name="a", scopes=["models:read"], expires_at=now - timedelta(seconds=1))
    token, revoked = tokens.issue(user=user, name="b", scopes=["models:read"])
    tokens.revoke(token, actor=user, now=now)

    answers = {
        client.get("/api/v1/listings/", headers={"Authorization": f"Bearer {secret}"}).content
        for secret in (expired, revoked)
    }

    assert len(answers) == 1
    assert b"bad_token" in answers.pop()


def test_a_token_does_only_what_its_scopes_name(client: Client) -> None:
    _, secret = tokens.issue(user=scenarios.person("bo"), name="a", scopes=["datasets:write"])
    headers = {"Authorization": f"Bearer {secret}"}

    assert client.get("/api/v1/datasets/", headers=headers).status_code == 200
    assert client.get("/api/v1/runs/", headers=headers).status_code == 403


def test_anonymous_readers_see_the_catalog_and_nothing_else(client: Client) -> None:
    assert client.get("/api/v1/listings/").status_code == 200
    assert client.get("/api/v1/datasets/").status_code == 401
