"""The audit log: whose it is, what may be asked of it, and files that spreadsheets do not run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
import scenarios
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from marketplace.accounts.models import AuditEvent, Namespace, Role, Scope, User
from marketplace.accounts.services import audit, tokens

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> Namespace:
    namespace = scenarios.organization(scenarios.person("owner"), "acme")
    for role in (Role.ADMIN, Role.WRITER, Role.BILLING):
        scenarios.member(namespace, role.value, role)
    AuditEvent.objects.all().delete()
    audit.record("release.yank", actor=None, namespace=namespace, subject="acme/net@1.0", details={"reason": "old"})
    return namespace


def whole(answer: Any) -> str:
    chunks: Iterable[bytes] = answer.streaming_content
    return b"".join(chunks).decode()


@pytest.mark.parametrize(
    ("reader", "sees"), [("owner", True), ("admin", True), ("writer", False), ("billing", False), ("sam", False)]
)
@pytest.mark.usefixtures("acme")
def test_the_log_is_for_those_who_administer_the_namespace(client: Client, reader: str, *, sees: bool) -> None:
    client.force_login(User.objects.filter(username=reader).first() or scenarios.person(reader))

    seen = [
        client.get("/audit/").content.decode(),
        client.get("/api/v1/audit/").content.decode(),
        whole(client.get("/audit/audit.csv")),
        whole(client.get("/api/v1/audit/audit.jsonl")),
    ]

    assert [("acme/net@1.0" in text) for text in seen] == [sees] * 4
    assert ("Audit log</a></div>" in client.get("/account/organizations/acme/").content.decode()) == sees


def test_the_staff_see_everything_and_nobody_without_signing_in(acme: Namespace, client: Client) -> None:
    assert client.get("/audit/").status_code == 302
    assert client.get("/api/v1/audit/").status_code in (401, 403)
    audit.record("site.thing", actor=None, namespace=None, subject="of no namespace")
    root = scenarios.person("root")
    User.objects.filter(pk=root.pk).update(is_staff=True)
    client.force_login(root)

    page = client.get("/audit/").content.decode()
    assert "of no namespace" in page
    assert str(acme) in page


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("action=release", {"release.yank", "release.publish"}),
        ("action=release.yank", {"release.yank"}),
        ("actor=OWNER", {"order.settle"}),
        ("subject=net%401.0", {"release.yank"}),
        ("namespace=ACME", {"release.yank", "release.publish", "order.settle"}),
        ("namespace=owner", set()),
        ("since=2020-01-01&until=2020-12-31", {"release.publish"}),
        ("actor=owner&action=release", set()),
    ],
)
def test_filters_hold_for_page_api_and_export(acme: Namespace, client: Client, query: str, expected: set[str]) -> None:
    owner = User.objects.get(username="owner")
    audit.record("order.settle", actor=owner, namespace=acme, subject="acme/net")
    audit.record("release.publish", actor=None, namespace=acme, subject="acme/old")
    AuditEvent.objects.filter(action="release.publish").update(at=timezone.now().replace(year=2020, month=6, day=5))
    client.force_login(owner)

    listed = client.get(f"/api/v1/audit/?{query}").json()["results"]
    exported = [json.loads(line) for line in whole(client.get(f"/audit/audit.jsonl?{query}")).splitlines()]
    page = client.get(f"/audit/?{query}").content.decode()

    assert {row["action"] for row in listed} == expected
    assert {row["action"] for row in exported} == expected
    assert {
        name for name in ("release.yank", "release.publish", "order.settle") if f"<code>{name}<" in page
    } == expected


def test_a_filter_that_is_none_is_said(acme: Namespace, client: Client) -> None:
    client.force_login(User.objects.get(username="owner"))

    assert client.get("/api/v1/audit/?since=yesterday").json()["code"] == "bad_filter"
    assert client.get("/api/v1/audit/?sicne=2020-01-01").json()["code"] == "unknown_parameter"
    assert "Enter a valid date" in client.get("/audit/?since=yesterday").content.decode()
    assert client.get("/audit/audit.csv?since=yesterday").status_code == 404
    assert client.get("/audit/audit.xlsx").status_code == 404
    assert str(acme) == "acme"


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_run_by_a_spreadsheet(acme: Namespace, client: Client, begin: str) -> None:
    subject = f'{begin}HYPERLINK("https://evil.example")'
    audit.record("thing.do", actor=None, namespace=acme, subject=subject, details={"a": 'b,c\n"d'})
    client.force_login(User.objects.get(username="owner"))

    rows = list(csv.DictReader(io.StringIO(whole(client.get("/audit/audit.csv")), newline="")))

    assert rows[0]["subject"] == f"'{subject}"
    assert json.loads(rows[0]["details"]) == {"a": 'b,c\n"d'}
    assert rows[1]["subject"] == "acme/net@1.0"


def test_an_export_is_read_in_batches_and_is_whole(acme: Namespace, client: Client) -> None:
    old = timezone.now() - timedelta(days=1)
    AuditEvent.objects.bulk_create(
        AuditEvent(action="thing.do", namespace=acme, subject=f"number {number}", at=old) for number in range(2500)
    )
    client.force_login(User.objects.get(username="owner"))

    with CaptureQueriesContext(connection) as queries:
        lines = whole(client.get("/audit/audit.jsonl")).splitlines()

    assert len({json.loads(line)["id"] for line in lines}) == len(lines) == 2501
    assert sum("LIMIT 1000" in query["sql"] for query in queries) == 3


def test_the_log_takes_as_many_queries_with_many_events(acme: Namespace, client: Client) -> None:
    client.force_login(User.objects.get(username="owner"))
    with CaptureQueriesContext(connection) as one:
        client.get("/audit/")
    for _ in range(60):
        audit.record("thing.do", actor=User.objects.get(username="owner"), namespace=acme, subject="x")
    with CaptureQueriesContext(connection) as many:
        page = client.get("/audit/").content.decode()

    assert len(many) == len(one)
    assert "Page 1 of 2" in page


@pytest.mark.usefixtures("acme")
def test_a_token_reads_the_log_with_the_scope_for_it(client: Client) -> None:
    owner = User.objects.get(username="owner")
    _, may = tokens.issue(user=owner, name="a", scopes=[Scope.AUDIT_READ])
    _, may_not = tokens.issue(user=owner, name="b", scopes=[Scope.MODELS_READ])

    answers = [client.get("/api/v1/audit/", headers={"Authorization": f"Bearer {key}"}) for key in (may, may_not)]

    assert [answer.status_code for answer in answers] == [200, 403]
