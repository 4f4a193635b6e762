from __future__ import annotations

from typing import Any

import pytest
import scenarios
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from drf_spectacular.generators import SchemaGenerator

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(client: Client) -> Client:
    """Two models in the catalog, and their vendor signed in."""
    vera = scenarios.person("vera")
    for name in ("one", "two"):
        scenarios.published_release(vera, name=name)
    client.force_login(vera)
    return client


def test_rows_of_a_list_have_the_fields_that_were_asked_for(world: Client) -> None:
    page = world.get("/api/v1/listings/?fields=title,id&page_size=1").json()

    assert set(page) == {"next", "previous", "results"}
    assert [list(row) for row in page["results"]] == [["id", "title"]]
    assert [list(row) for row in world.get(page["next"]).json()["results"]] == [["id", "title"]]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("listings/vera/one/", ["title", "versions"]),
        ("listings/vera/one/releases/1.0/", ["status"]),
        ("terms/", ["start"]),
        ("webhooks/events/", ["type"]),
        ("listings/excluded/?intent=redistribute", ["listing"]),
        ("signing-key/", ["pem"]),
    ],
)
def test_details_and_lists_of_every_kind_are_shortened(world: Client, path: str, fields: list[str]) -> None:
    whole, short = (
        world.get(f"/api/v1/{path}").json(),
        world.get(f"/api/v1/{path}", {"fields": ",".join(fields)}).json(),
    )
    rows = whole.get("results", [whole]) if isinstance(whole, dict) else whole
    shortened = short.get("results", [short]) if isinstance(short, dict) else short

    assert shortened == [{name: row[name] for name in row if name in fields} for row in rows]


@pytest.mark.parametrize("path", ["listings/", "runs/", "listings/vera/one/", "terms/", "webhooks/events/"])
def test_a_name_that_is_none_is_refused_with_those_there_are(world: Client, path: str) -> None:
    answer = world.get(f"/api/v1/{path}", {"fields": "nonsense"})

    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["errors"][0]["field"]) == (400, "unknown_fields", "fields")
    assert answer["Content-Type"] == "application/problem+json"
    known = problem["items"]
    assert known
    assert all(name in problem["detail"] for name in known)
    assert world.get(f"/api/v1/{path}", {"fields": ",".join(known)}).status_code == 200


def test_what_is_not_asked_for_is_not_computed(world: Client) -> None:
    def queries(fields: str) -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            world.get("/api/v1/tokens/", {"fields": fields})
        return len(seen)

    world.post("/api/v1/tokens/", {"name": "a", "scopes": ["models:read"]}, content_type="application/json")

    assert queries("name") < queries("name,spent")


def test_refusals_and_files_are_left_as_they_are(world: Client) -> None:
    refused = world.get("/api/v1/listings/no/thing/", {"fields": "title"})
    file = world.get("/api/v1/audit/audit.csv", {"fields": "id"})

    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert file.status_code in (200, 422)
    assert world.get("/api/models", {"fields": "id"}).status_code == 200


def test_the_schema_names_the_fields_and_allows_the_shorter_answers() -> None:
    schema: Any = SchemaGenerator().get_schema(request=None, public=True)

    call = schema["paths"]["/api/v1/listings/{namespace}/{name}/"]["get"]
    parameter = next(one for one in call["parameters"] if one["name"] == "fields")
    whole, part = call["responses"]["200"]["content"]["application/json"]["schema"]["anyOf"]
    names = set(parameter["schema"]["items"]["enum"])

    shapes = schema["components"]["schemas"]
    assert names == set(shapes[whole["$ref"].rpartition("/")[2]]["properties"])
    assert "required" not in shapes[part["$ref"].rpartition("/")[2]]
