"""ETag and If-Match: an edit is made to what its author has seen, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import scenarios
from django.db import connection
from django.test import Client
from django.utils import timezone
from worlds import dataset_of

from marketplace.accounts.models import User
from marketplace.accounts.services import people, tokens
from marketplace.webhooks.services import endpoints
from models_catalog.models import Listing
from models_catalog.services import reviews

STALE = '"0123456789abcdef0123456789abcdef"'
RELEASE = "listings/vera/net/releases/1.0/"


@pytest.fixture
def vera(db: None) -> User:  # noqa: ARG001 - opens the database
    return scenarios.person("vera")


def listing(vera: User) -> str:
    scenarios.draft_release(vera)
    return "listings/vera/net/"


def release(vera: User) -> str:
    scenarios.draft_release(vera)
    return RELEASE


def dataset(vera: User) -> str:
    return f"datasets/{dataset_of(people.namespace_of(vera)).uid}/"


def webhook(vera: User) -> str:
    namespace = people.namespace_of(vera)
    url, now = "https://hooks.example.com/a", timezone.now()
    endpoint, _ = endpoints.create(user=vera, namespace=namespace, url=url, event_types=[], description="", now=now)
    return f"webhooks/{endpoint.uid}/"


def token(vera: User) -> str:
    return f"tokens/{tokens.issue(user=vera, name='a', scopes=['models:read'])[0].pk}/"


EDITS: list[tuple[Callable[[User], str], str, str, dict[str, Any]]] = [
    (listing, "patch", "", {"summary": "New"}),
    (release, "post", "submit/", {}),
    (dataset, "patch", "", {"license": "cc0-1.0"}),
    (dataset, "delete", "", {}),
    (webhook, "patch", "", {"description": "New"}),
    (webhook, "delete", "", {}),
    (token, "patch", "", {"name": "b"}),
    (token, "delete", "", {}),
]


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def sent(client: Client, method: str, path: str, body: Any, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return getattr(client, method)(f"/api/v1/{path}", body, content_type="application/json", headers=named)


@pytest.mark.parametrize(("make", "method", "act", "body"), EDITS, ids=lambda value: getattr(value, "__name__", ""))
def test_an_edit_is_made_to_what_was_read_and_refused_to_what_it_is_no_more(
    vera: User, make: Callable[[User], str], method: str, act: str, body: dict[str, Any]
) -> None:
    client, path = signed_in(vera), make(vera)
    read = client.get(f"/api/v1/{path}")
    tag = read["ETag"]

    refused = [sent(client, method, path + act, body, If_Match=given) for given in (STALE, f"W/{tag}", "nothing")]
    after = client.get(f"/api/v1/{path}")
    made = sent(client, method, path + act, body, If_Match=f"{STALE}, {tag}")
    again = sent(client, method, path + act, body, If_Match=tag)

    assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(412, "precondition_failed")}
    assert refused[0].json()["etag"] == tag
    assert (after["ETag"], after.json()) == (tag, read.json())
    assert made.status_code in (200, 204)
    if method == "delete" and make is not token:
        assert again.status_code == 404
    else:
        assert again.status_code == 412
        assert client.get(f"/api/v1/{path}")["ETag"] != tag
    if method == "patch":
        assert client.get(f"/api/v1/{path}")["ETag"] == made["ETag"]


@pytest.mark.parametrize(("make", "method", "act", "body"), EDITS, ids=lambda value: getattr(value, "__name__", ""))
def test_without_the_header_and_with_a_star_an_edit_is_made_as_ever(
    vera: User, make: Callable[[User], str], method: str, act: str, body: dict[str, Any]
) -> None:
    client, path = signed_in(vera), make(vera)

    star = method != "delete" and make is not release
    answers = [sent(client, method, path + act, body, **({"If_Match": "*"} if star else {}))]

    assert answers[0].status_code in (200, 204)


def test_a_file_of_a_draft_is_replaced_by_the_digest_of_the_one_before(vera: User) -> None:
    client, path = signed_in(vera), release(vera) + "artifacts/notes.txt"

    def put(content: bytes, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.put(f"/api/v1/{path}", content, content_type="application/octet-stream", headers=named)

    absent = put(b"one", If_Match="*")
    first = put(b"one", If_None_Match="*")
    there = put(b"two", If_None_Match="*")
    second = put(b"two", If_Match=first["ETag"])
    late = put(b"three", If_Match=first["ETag"])

    assert [answer.status_code for answer in (absent, first, there, second, late)] == [412, 201, 412, 201, 412]
    got = client.get(f"/api/v1/{path}")
    assert (b"".join(got.streaming_content), got["ETag"]) == (b"two", second["ETag"])


def test_a_tag_stands_for_what_can_be_edited_not_for_counts(vera: User) -> None:
    made = scenarios.published_release(vera)
    buyer, client = scenarios.person("bo"), signed_in(vera)
    scenarios.licensed(buyer, made)
    tag = client.get("/api/v1/listings/vera/net/")["ETag"]

    author = people.namespace_of(buyer)
    reviews.write(user=buyer, listing=made.listing, author=author, rating=5, text="Good.", now=timezone.now())

    assert client.get("/api/v1/listings/vera/net/").json()["review_count"] == 1
    assert client.get("/api/v1/listings/vera/net/")["ETag"] == tag
    scenarios.published_release(vera, version="2.0", weights="others")
    assert client.get("/api/v1/listings/vera/net/")["ETag"] != tag


def test_the_state_of_a_draft_includes_its_files(vera: User) -> None:
    client, path = signed_in(vera), release(vera)
    tag = client.get(f"/api/v1/{path}")["ETag"]

    client.put(f"/api/v1/{path}artifacts/config.json", b'{"a": 1}', content_type="application/octet-stream")

    assert sent(client, "post", f"{path}submit/", {}, If_Match=tag).status_code == 412
    assert client.get(f"/api/v1/{path}").json()["status"] == "draft"


def test_where_no_tag_is_known_the_header_is_refused_not_ignored(vera: User) -> None:
    client = signed_in(vera)
    release(vera)

    answer = sent(client, "post", "listings/vera/net/questions/", {"text": "How?"}, If_Match=STALE)

    assert (answer.status_code, answer.json()["code"]) == (400, "no_etag_here")


def test_what_is_not_yours_has_no_tag_to_learn(vera: User) -> None:
    path, stranger = listing(vera), signed_in(scenarios.person("eve"))

    answer = sent(stranger, "patch", path, {"summary": "Mine"}, If_Match=STALE)

    assert (answer.status_code, "etag" in answer.json()) == (404, False)


@pytest.mark.django_db(transaction=True)
def test_of_two_edits_of_the_same_state_at_once_one_is_made() -> None:
    vera = scenarios.person("vera")
    path = listing(vera)
    tag = signed_in(vera).get(f"/api/v1/{path}")["ETag"]
    start, statuses = threading.Barrier(4), []

    def edit(number: int) -> None:
        client = signed_in(vera)
        start.wait()
        try:
            statuses.append(sent(client, "patch", path, {"summary": str(number)}, If_Match=tag).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=edit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == [200, 412, 412, 412]
    assert Listing.objects.get().summary in "0123"
