"""Webhooks over the API and on the pages: whose they are, what is shown once, what is refused."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import scenarios
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from receivers import Receiver, receiver, verifies

from marketplace.accounts.models import Namespace, Role, User
from marketplace.accounts.services import tokens
from marketplace.webhook_settings import allowed
from marketplace.webhooks.events import EventType
from marketplace.webhooks.models import Endpoint
from marketplace.webhooks.services import delivery, endpoints, outbox

pytestmark = pytest.mark.django_db
URL = "https://example.com/hooks"


@pytest.fixture(autouse=True)
def hooks(settings: Any) -> Iterator[Receiver]:
    settings.WEBHOOK_ALLOW = allowed(["127.0.0.1"])
    cache.clear()
    with receiver() as running:
        yield running


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def call(client: Client, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    return client.generic(method, f"/api/v1/webhooks/{path}", b"" if body is None else _json(body), "application/json")


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def made(client: Client, **given: Any) -> dict[str, Any]:
    answer = call(client, "POST", "", {"url": URL, **given})
    assert answer.status_code == 201, answer.content
    return dict(answer.json())


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_webhook_s_life_over_the_api(hooks: Receiver) -> None:
    client = signed_in(scenarios.person("vera"))

    webhook = made(client, url=hooks.url, events=["run.failed", "run.succeeded"], description="CI")
    assert webhook["secret"].startswith("whsec_")
    assert webhook["events"] == ["run.succeeded", "run.failed"]
    path = f"{webhook['id']}/"
    assert "secret" not in call(client, "GET", path).json()
    assert webhook["secret"] not in call(client, "GET", "").content.decode()

    sent = call(client, "POST", f"{path}test/")
    assert (sent.status_code, sent.json()["status"]) == (202, "waiting")
    delivery.work()
    assert verifies(hooks.calls[0], webhook["secret"])
    one = call(client, "GET", f"{path}deliveries/{sent.json()['id']}/").json()
    assert (one["status"], one["body"]) == ("delivered", hooks.calls[0].body.decode())
    assert [tried["http_status"] for tried in one["attempts"]] == [204]
    assert one["webhook_id"] == hooks.calls[0].headers["webhook-id"]

    rotated = call(client, "POST", f"{path}rotate/", {"overlap_hours": 1}).json()
    assert rotated["secret"] != webhook["secret"]
    assert len(rotated["secrets"]) == 2
    assert call(client, "POST", f"{path}deliveries/{one['id']}/replay/").status_code == 202
    delivery.work()
    assert all(verifies(hooks.calls[1], webhook_secret) for webhook_secret in (webhook["secret"], rotated["secret"]))

    changed = call(client, "PATCH", path, {"enabled": False, "events": []}).json()
    assert (changed["enabled"], changed["disabled_cause"], changed["events"]) == (False, "owner", [])
    assert refusal(call(client, "POST", f"{path}test/")) == (409, "webhook_disabled")
    assert call(client, "PATCH", path, {"enabled": True}).json()["enabled"]
    assert [row["type"] for row in call(client, "GET", f"{path}deliveries/?status=delivered").json()["results"]] == [
        "webhook.test"
    ]
    assert refusal(call(client, "GET", f"{path}deliveries/?status=lost")) == (422, "bad_filter")
    assert call(client, "DELETE", path).status_code == 204
    assert call(client, "GET", path).status_code == 404


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"url": "http://example.com/"}, (422, "webhook_url")),
        ({"url": "https://127.0.0.2/"}, (422, "webhook_url")),
        ({"events": ["run.exploded"]}, (422, "unknown_event")),
        ({"namespace": "nobody"}, (422, "namespace_unknown")),
        ({"namespace": "bo"}, (422, "namespace_unknown")),
        ({"url": ""}, (400, "invalid")),
        ({"secret": "whsec_mine"}, (400, "invalid")),
        ({"events": "run.failed"}, (400, "invalid")),
    ],
)
def test_what_cannot_be_a_webhook_is_refused(given: dict[str, Any], expected: tuple[int, str]) -> None:
    scenarios.person("bo")

    assert refusal(call(signed_in(scenarios.person("vera")), "POST", "", {"url": URL, **given})) == expected
    assert not Endpoint.objects.exists()


def test_the_same_address_twice_and_too_many_are_refused() -> None:
    client = signed_in(scenarios.person("vera"))
    first = made(client)

    assert refusal(call(client, "POST", "", {"url": URL})) == (409, "webhook_exists")
    for number in range(endpoints.MAX_ENDPOINTS - 1):
        made(client, url=f"{URL}/{number}")
    assert refusal(call(client, "POST", "", {"url": f"{URL}/more"})) == (409, "too_many_webhooks")
    assert refusal(call(client, "PATCH", f"{first['id']}/", {"url": f"{URL}/1"})) == (409, "webhook_exists")
    assert refusal(call(client, "POST", f"{first['id']}/rotate/", {"overlap_hours": 999})) == (422, "bad_overlap")


def test_what_is_another_s_does_not_exist() -> None:
    vera, bo = scenarios.person("vera"), scenarios.person("bo")
    webhook = made(signed_in(vera))
    endpoint = Endpoint.objects.get()
    message = endpoints.send_test(endpoint=endpoint, user=vera, now=timezone.now())
    stranger = signed_in(bo)
    own = made(stranger)

    path, log = f"{webhook['id']}/", f"deliveries/{message.uid}/"
    calls = [
        ("GET", path), ("PATCH", path), ("DELETE", path), ("POST", f"{path}rotate/"), ("POST", f"{path}test/"),
        ("GET", f"{path}deliveries/"), ("GET", path + log), ("POST", f"{path}{log}replay/"),
        ("GET", f"{own['id']}/{log}"), ("POST", f"{own['id']}/{log}replay/"), ("GET", f"{uuid.uuid4()}/"),
    ]  # fmt: skip
    assert {call(stranger, method, where, {}).status_code for method, where in calls} == {404}
    assert [row["id"] for row in call(stranger, "GET", "").json()["results"]] == [own["id"]]
    pages = ["", "rotate/", "test/", "enable/", "disable/", "delete/", f"messages/{message.uid}/replay/"]
    assert {stranger.post(f"/account/webhooks/{path}{page}").status_code for page in pages} == {404}
    assert stranger.get(f"/account/webhooks/{own['id']}/messages/{message.uid}/").status_code == 404


@pytest.mark.parametrize(
    ("role", "may"),
    [(Role.OWNER, True), (Role.ADMIN, True), (Role.WRITER, False), (Role.READER, False), (Role.BILLING, False)],
)
def test_an_organisation_s_webhooks_are_its_administrators(role: Role, may: bool) -> None:
    vera = scenarios.person("vera")
    acme = scenarios.organization(vera, "acme")
    webhook = made(signed_in(vera), namespace="acme")
    client = signed_in(scenarios.member(acme, "mo", role))

    answer = call(client, "POST", "", {"url": f"{URL}/mine", "namespace": "acme"})
    seen = call(client, "GET", f"{webhook['id']}/").status_code

    assert (answer.status_code, seen) == ((201, 200) if may else (403, 404))
    assert may or answer.json()["code"] == "not_an_admin"


def test_a_token_needs_the_scope() -> None:
    vera = scenarios.person("vera")
    _, reads = tokens.issue(user=vera, name="ci", scopes=["webhooks:read"])
    _, other = tokens.issue(user=vera, name="ci", scopes=["models:write"])

    def status(secret: str, method: str) -> int:
        body = {"url": URL} if method == "POST" else {}
        header = {"HTTP_AUTHORIZATION": f"Bearer {secret}"}
        return int(Client().generic(method, "/api/v1/webhooks/", _json(body), "application/json", **header).status_code)

    assert [status(reads, "GET"), status(reads, "POST"), status(other, "GET")] == [200, 403, 403]
    assert call(Client(), "GET", "events/").status_code == 401


def test_the_list_of_events_says_what_each_is() -> None:
    answer = call(signed_in(scenarios.person("vera")), "GET", "events/").json()

    assert [row["type"] for row in answer] == EventType.values
    assert all(row["says"] for row in answer)


def test_the_pages_lead_through_it_and_show_the_secret_once(hooks: Receiver) -> None:
    vera = scenarios.person("vera")
    client = signed_in(vera)

    answer = client.post("/account/webhooks/", {"namespace": "vera", "url": hooks.url, "description": "CI"})
    endpoint = Endpoint.objects.get()
    [secret] = endpoints.signing_keys(endpoint, now=timezone.now())
    page = f"/account/webhooks/{endpoint.uid}/"
    assert secret in answer.content.decode()
    assert secret not in client.get("/account/webhooks/").content.decode()

    to = client.post(f"{page}test/")["Location"]
    hooks.answers(500, b"<b>broken</b>")
    delivery.work()
    shown = client.get(to).content.decode()
    assert "&lt;b&gt;broken&lt;/b&gt;" in shown
    assert "It answered with an error" in client.get(page).content.decode()

    hooks.answers(200)
    client.post(f"{to}replay/")
    delivery.work()
    assert "Delivered" in client.get(to).content.decode()

    rotated = client.post(f"{page}rotate/", {"overlap_hours": "24"}).content.decode()
    newest = endpoints.signing_keys(endpoint, now=timezone.now())[0]
    assert newest in rotated
    assert newest not in client.get(page).content.decode()
    assert "0 to" not in rotated

    refused = client.post(page, {"url": "https://127.0.0.2/"}).content.decode()
    assert "public names" in refused
    client.post(page, {"url": URL, "events": ["run.failed"]})
    client.post(f"{page}disable/")
    endpoint.refresh_from_db()
    assert (endpoint.url, endpoint.event_types, endpoint.state) == (URL, ["run.failed"], "disabled")
    assert "switched off" in client.get(page).content.decode()
    client.post(f"{page}enable/")
    client.post(f"{page}delete/")
    assert not Endpoint.objects.exists()


def test_lists_ask_the_database_as_often_for_many_as_for_few() -> None:
    vera = scenarios.person("vera")
    client, namespace = signed_in(vera), Namespace.objects.get(user=vera)
    pages = ["/api/v1/webhooks/", "/account/webhooks/"]

    def grow(first: int, last: int) -> None:
        for number in range(first, last):
            endpoints.create(user=vera, namespace=namespace, url=f"{URL}/{number}", now=timezone.now())
            outbox.record(EventType.RUN_FAILED, recipients=[namespace], data={}, now=timezone.now())

    def queries() -> list[int]:
        log = Endpoint.objects.order_by("pk")[0].uid
        found = []
        for page in [*pages, f"/api/v1/webhooks/{log}/deliveries/", f"/account/webhooks/{log}/"]:
            with CaptureQueriesContext(connection) as captured:
                assert client.get(page).status_code == 200
            found.append(len(captured))
        return found

    grow(0, 2)
    queries()
    few = queries()
    grow(2, 18)

    assert queries() == few
