"""Text with a NUL, for which PostgreSQL has no place, is its sender's fault and no fault of the server."""

from __future__ import annotations

import pytest
import scenarios
from django.test import Client

from marketplace.accounts.services import tokens

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "address",
    [
        "/models/?q=a%00b",
        "/models/a%00b/net/",
        "/api/v1/listings/?q=a%00b",
        "/api/v1/listings/a%00b/net/",
        "/api/v1/organizations/a%00b/",
        "/api/models/a%00b/net",
        "/api/models?search=a%00b",
        "/audit/?action=a%00b",
    ],
)
def test_it_is_no_fault_of_the_server(address: str) -> None:
    vera = scenarios.person("vera")
    scenarios.published_release(vera)
    client = Client()
    client.force_login(vera)
    _, secret = tokens.issue(user=vera, name="a", scopes=["models:read", "organizations:read"])

    by_session = client.get(address)
    by_token = Client().get(address, headers={"Authorization": f"Bearer {secret}"})

    assert by_session.status_code < 500
    assert by_token.status_code < 500
