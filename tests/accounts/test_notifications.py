"""Who is told, once; what the header counts; the email copy and its failures."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import doorbell
import pytest
import scenarios
from allauth.account.models import EmailAddress
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from finetuning.services import reaping
from marketplace.accounts.models import Namespace, Notification, Role, Scope, User
from marketplace.accounts.services import notifications, tokens

pytestmark = pytest.mark.django_db


def told(*recipients: Namespace | User, kind: str = "access.approve", **given: Any) -> int:
    fields = {"title": "Approved", "body": "You may go on.", "url": "/licenses/", **given}
    return notifications.notify(kind=kind, recipients=recipients, **fields)


def readers() -> set[str]:
    return set(Notification.objects.values_list("user__username", flat=True))


@pytest.fixture
def acme() -> Namespace:
    """An organisation with a member of every role, each named after it."""
    namespace = scenarios.organization(scenarios.person("owner"), "acme")
    for role in (Role.ADMIN, Role.WRITER, Role.READER, Role.BILLING):
        scenarios.member(namespace, role.value, role)
    return namespace


@pytest.mark.parametrize(
    ("kind", "roles", "expected"),
    [
        ("access.approve", None, {"owner", "admin", "writer"}),
        ("order.paid", None, {"owner", "admin", "billing"}),
        ("organization.member", None, {"owner", "admin"}),
        ("lineage.incident", tuple(Role), {"owner", "admin", "writer", "billing", "reader"}),
    ],
)
def test_an_organization_s_notification_goes_to_the_members_whom_it_concerns(
    acme: Namespace, kind: str, roles: tuple[Role, ...] | None, expected: set[str]
) -> None:
    scenarios.person("stranger")

    assert told(acme, kind=kind, roles=roles) == len(expected)

    assert readers() == expected


def test_a_person_is_told_once_however_often_they_are_named_and_never_of_their_own_act(acme: Namespace) -> None:
    writer = User.objects.get(username="writer")
    own = scenarios.person("bo")

    told(acme, writer, Namespace.objects.get(user=own), own, actor=User.objects.get(username="admin"))

    assert sorted(Notification.objects.values_list("user__username", flat=True)) == ["bo", "owner", "writer"]


def test_what_has_a_key_is_told_once_and_reaches_those_who_come_later() -> None:
    bo, mo = scenarios.person("bo"), scenarios.person("mo")

    assert [told(bo, key="incident:1"), told(bo, mo, key="incident:1"), told(bo, key="incident:2")] == [1, 1, 1]


def test_an_act_that_is_rolled_back_tells_nobody() -> None:
    bo = scenarios.person("bo")
    with transaction.atomic():
        told(bo)
        transaction.set_rollback(True)

    assert not Notification.objects.exists()


@pytest.mark.parametrize("url", ["https://evil.example/", "//evil.example/", "licenses/"])
def test_a_notification_leads_to_a_path_of_this_site(url: str) -> None:
    with pytest.raises(ValueError):
        told(scenarios.person("bo"), url=url)


# The page and the API


def test_the_header_counts_what_is_unread_with_one_query(client: Client) -> None:
    bo = scenarios.person("bo")
    client.force_login(bo)
    with CaptureQueriesContext(connection) as none:
        assert "unread" not in client.get("/licenses/").content.decode()
    for _ in range(120):
        told(bo)
    with CaptureQueriesContext(connection) as many:
        page = client.get("/licenses/").content.decode()

    assert "99+" in page
    assert len(many) == len(none)
    asked = [query["sql"] for query in many if "accounts_notification" in query["sql"]]
    assert len(asked) == 1


def test_opening_a_notification_leads_on_and_counts_it_as_read(client: Client) -> None:
    bo = scenarios.person("bo")
    told(bo, title="First")
    told(bo, title="Second")
    client.force_login(bo)
    second = Notification.objects.get(title="Second")

    answer = client.get(f"/notifications/{second.pk}/")

    assert answer["Location"] == "/licenses/"
    unread = client.get("/notifications/?unread").content.decode()
    assert ("First" in unread, "Second" in unread) == (True, False)
    client.post("/notifications/read/")
    assert not Notification.objects.unread().exists()


def test_notifications_are_their_reader_s_alone(client: Client) -> None:
    told(scenarios.person("bo"), title="For Bo")
    row = Notification.objects.get()
    assert client.get("/notifications/").status_code == 302
    client.force_login(scenarios.person("mo"))

    assert "For Bo" not in client.get("/notifications/").content.decode()
    assert client.get(f"/notifications/{row.pk}/").status_code == 404
    assert client.post(f"/notifications/{row.pk}/read/").status_code == 404
    assert client.post(f"/api/v1/notifications/{row.pk}/read/").status_code == 404
    client.post("/notifications/read/")
    assert Notification.objects.unread().count() == 1


def test_a_page_of_notifications_takes_as_many_queries_as_one_notification(client: Client) -> None:
    bo = scenarios.person("bo")
    client.force_login(bo)
    told(bo)
    with CaptureQueriesContext(connection) as one:
        client.get("/notifications/")
    for _ in range(30):
        told(bo)
    with CaptureQueriesContext(connection) as many:
        page = client.get("/notifications/").content.decode()

    assert len(many) == len(one)
    assert "Page 1 of 2" in page


def test_a_script_reads_notifications_and_marks_them_with_the_scopes_for_it(client: Client) -> None:
    bo = scenarios.person("bo")
    told(bo, title="First")
    told(bo, title="Second")
    _, secret = tokens.issue(user=bo, name="r", scopes=[Scope.NOTIFICATIONS_READ])
    _, writing = tokens.issue(user=bo, name="w", scopes=[Scope.NOTIFICATIONS_WRITE])
    reads, writes = ({"Authorization": f"Bearer {key}"} for key in (secret, writing))

    listed = client.get("/api/v1/notifications/", headers=reads).json()["results"]
    refused = client.post(f"/api/v1/notifications/{listed[0]['id']}/read/", headers=reads)
    marked = client.post(f"/api/v1/notifications/{listed[0]['id']}/read/", headers=writes).json()

    assert [row["title"] for row in listed] == ["Second", "First"]
    assert refused.status_code == 403
    assert marked["read_at"] is not None
    unread = client.get("/api/v1/notifications/?unread=true", headers=writes).json()["results"]
    assert [row["title"] for row in unread] == ["First"]
    assert client.post("/api/v1/notifications/read/", headers=writes).json() == {"marked": 1}
    assert client.get("/api/v1/notifications/?unread=perhaps", headers=reads).json()["code"] == "bad_filter"


# Email


class BrokenServer(EmailBackend):
    """A mail server that takes nothing."""

    def send_messages(self, messages: Any) -> int:
        raise smtplib.SMTPServerDisconnected("gone")


@pytest.fixture
def bo(client: Client) -> Iterator[User]:
    """Somebody with a verified address who wishes for copies."""
    user = scenarios.person("bo")
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    client.force_login(user)
    client.post("/notifications/email/", {"email": "on"})
    return user


def test_an_email_follows_the_commit_and_is_sent_once(
    bo: User, django_capture_on_commit_callbacks: Any, settings: Any
) -> None:
    settings.SITE_URL = "https://models.example.com"
    with django_capture_on_commit_callbacks(execute=True):
        told(bo, scenarios.person("mo"), title="Two\nlines")
        assert doorbell.waiting() == 0
    assert doorbell.waiting() == 1

    assert [notifications.send_due(now=timezone.now()) for _ in range(2)] == [1, 0]

    [letter] = mail.outbox
    assert (letter.to, letter.subject) == (["bo@example.com"], "Two lines")
    assert "You may go on.\n\nhttps://models.example.com/licenses/" in letter.body


def test_nobody_is_written_to_who_did_not_ask_or_whose_address_is_not_verified(bo: User, client: Client) -> None:
    told(bo)
    EmailAddress.objects.update(verified=False)
    assert notifications.send_due(now=timezone.now()) == 0
    EmailAddress.objects.update(verified=True)
    client.post("/notifications/email/", {})
    told(bo)

    assert notifications.send_due(now=timezone.now()) == 0
    assert not mail.outbox


def test_a_mail_server_that_is_down_breaks_nothing_and_is_tried_again_later(bo: User, settings: Any) -> None:
    now = timezone.now()
    working, settings.EMAIL_BACKEND = settings.EMAIL_BACKEND, f"{__name__}.BrokenServer"
    told(bo)

    assert notifications.send_due(now=now + timedelta(seconds=1)) == 0
    settings.EMAIL_BACKEND = working
    assert notifications.send_due(now=now + timedelta(seconds=2)) == 0
    assert notifications.send_due(now=now + timedelta(minutes=2)) == 1


def test_an_address_that_never_takes_mail_is_given_up(bo: User, settings: Any) -> None:
    settings.EMAIL_BACKEND = f"{__name__}.BrokenServer"
    told(bo)
    now = timezone.now()

    for day in range(1, 20):
        notifications.send_due(now=now + timedelta(days=day))

    row = Notification.objects.get()
    assert (row.email_tries, row.email_due_at, row.emailed_at) == (notifications.MAX_TRIES, None, None)


def test_the_reaper_rings_for_emails_whose_message_was_lost(bo: User, django_capture_on_commit_callbacks: Any) -> None:
    told(bo)
    late = timezone.now() + 2 * notifications.LATE

    with django_capture_on_commit_callbacks(execute=True):
        assert reaping.reap(now=late) == 1

    assert doorbell.waiting() == 1
