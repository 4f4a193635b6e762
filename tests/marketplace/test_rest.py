from __future__ import annotations

import base64

import pytest
import scenarios
from django.test import Client

pytestmark = pytest.mark.django_db
LONG = "9" * 5000  # more digits than int() reads


@pytest.mark.parametrize("cursor", ["p=abc", f"p={LONG}", f"o={LONG}", "p=\0", "r=x&p=-1"])
@pytest.mark.parametrize("collection", ["datasets", "runs", "listings"])
def test_a_cursor_that_the_api_never_gave_out_is_no_fault_of_the_server(
    client: Client, collection: str, cursor: str
) -> None:
    client.force_login(scenarios.person("bo"))

    answer = client.get(f"/api/v1/{collection}/", {"cursor": base64.b64encode(cursor.encode()).decode()})

    assert answer.status_code == 200 or answer.json()["code"] == "bad_cursor"
    assert client.get(f"/api/v1/{collection}/", {"page_size": LONG}).status_code == 200


def test_a_real_cursor_still_leads_to_the_next_page(client: Client) -> None:
    user = scenarios.person("bo")
    for name in ("one", "two", "three"):
        scenarios.published_release(user, name=name)
    client.force_login(user)

    first = client.get("/api/v1/listings/", {"page_size": 2}).json()
    second = client.get(first["next"]).json()

    assert [len(page["results"]) for page in (first, second)] == [2, 1]


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["nothing/", "listings/a/b/c/d/", "a%0Ab"])
def test_an_address_of_the_api_that_is_none_answers_as_a_problem_and_breaks_no_page(client: Client, path: str) -> None:
    answer = client.get(f"/api/v1/{path}")

    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
    assert client.get("/").status_code == 200
