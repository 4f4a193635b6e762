"""Tells people what happened to what is theirs: on the site, and by email where they wish.

Call `notify` inside the transaction of the act. The email is owed by the row and sent by a slot after the
commit: no mail server's failure reaches the act.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial
from smtplib import SMTPException

from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from marketplace.accounts.models import Membership, Namespace, Notification, Role, User
from marketplace.accounts.models.people import ADMINISTERS, BILLS, WRITES
from marketplace.queue import Job, enqueue

logger = logging.getLogger(__name__)
# Whom of an organisation a notification concerns, by the first half of its kind; else those who write.
ROLES: dict[str, tuple[Role, ...]] = {
    "order": BILLS,
    "payout": BILLS,
    "royalty": BILLS,
    "organization": ADMINISTERS,
    "webhook": ADMINISTERS,
}
MAX_TITLE, MAX_BODY = 200, 2000
BATCH = 500
MAX_TRIES = 8
LEASE = timedelta(minutes=5)  # a sender that died is followed by another one
LATE = timedelta(minutes=1)


def notify(
    *,
    kind: str,
    recipients: Iterable[Namespace | User],
    title: str,
    body: str = "",
    url: str = "",
    key: str = "",
    roles: tuple[Role, ...] | None = None,
    actor: User | None = None,
) -> int:
    """Tells each recipient once and returns how many people that are; whom `key` has reached already is left out.

    A namespace stands for its user, or for the organisation's members with one of `roles`, by default those that
    the kind concerns (ROLES). `actor` did it and is not told. `kind` is `resource.verb`, `url` a path of this
    site. Locks nothing; rings for the emails once the transaction has committed."""
    if url and (not url.startswith("/") or url.startswith("//")):
        raise ValueError("a notification leads to a path of this site")
    concerned = roles or ROLES.get(kind.partition(".")[0], WRITES)
    readers = _readers(recipients, concerned)
    readers.pop(actor.pk if actor else 0, None)
    if key:
        for pk in Notification.objects.filter(key=key).values_list("user_id", flat=True):
            readers.pop(pk, None)
    now = timezone.now()
    rows = [
        Notification(
            user_id=pk,
            kind=kind,
            title=title[:MAX_TITLE],
            body=body[:MAX_BODY],
            url=url,
            key=key,
            email_due_at=now if wants_email else None,
        )
        for pk, wants_email in readers.items()
    ]
    # Two at once with one key: the constraint lets one of them in.
    Notification.objects.bulk_create(rows, batch_size=BATCH, ignore_conflicts=bool(key))
    if any(row.email_due_at for row in rows):
        # robust: a broker that is down must not turn the committed act into an error; the reaper rings again.
        transaction.on_commit(partial(enqueue, Job.SEND_EMAIL, rows[0].user_id), robust=True)
    return len(rows)


def _readers(recipients: Iterable[Namespace | User], roles: tuple[Role, ...]) -> dict[int, bool]:
    """Returns the people by id, with whether they wish for email. In batches: a database takes only so many
    parameters, and a popular model has thousands of licensees."""
    users: set[int] = set()
    namespaces: set[int] = set()
    for recipient in recipients:
        (namespaces if isinstance(recipient, Namespace) else users).add(recipient.pk)
    found: dict[int, bool] = {}
    active = User.objects.filter(is_active=True)
    for batch in _batches(users):
        found |= dict(active.filter(pk__in=batch).values_list("pk", "email_notifications"))
    for batch in _batches(namespaces):
        organizations = Namespace.objects.filter(pk__in=batch).values("organization")
        members = Membership.objects.filter(organization__in=organizations, role__in=roles)
        concerned = active.filter(Q(namespace__in=batch) | Q(pk__in=members.values("user")))
        found |= dict(concerned.values_list("pk", "email_notifications"))
    return found


def _batches(keys: set[int]) -> Iterator[list[int]]:
    ordered = sorted(keys)
    return (ordered[start : start + BATCH] for start in range(0, len(ordered), BATCH))


def mark_read(*, user: User, pk: int | None, now: datetime) -> int:
    """Marks one notification of the user, or with None all of them, as read; returns how many were unread."""
    unread = Notification.objects.visible_to(user).unread()
    return (unread if pk is None else unread.filter(pk=pk)).update(read_at=now)


def set_email(*, user: User, wanted: bool) -> None:
    """Turns copies by email on or off, for what happens from now on."""
    User.objects.filter(pk=user.pk).update(email_notifications=wanted)


def late_email(*, now: datetime) -> int | None:
    """Returns a notification whose email should have been sent: the message that rings for it may be lost."""
    return Notification.objects.email_due(now - LATE).order_by("email_due_at").values_list("pk", flat=True).first()


def send_due(*, now: datetime) -> int:
    """Sends the emails that are owed, at most a batch, and returns how many were sent. Each is claimed by
    compare-and-swap, so that two senders send it once; one that fails is tried again later, twice as late each
    time, and given up after MAX_TRIES."""
    due = list(Notification.objects.email_due(now).select_related("user").order_by("email_due_at", "pk")[:BATCH])
    addresses = _verified_addresses({row.user_id for row in due})
    sent = 0
    with _mail_server() as server:
        for row in due:
            mine = Notification.objects.filter(pk=row.pk, email_due_at=row.email_due_at)
            if not mine.update(email_due_at=now + LEASE, email_tries=F("email_tries") + 1):
                continue
            claimed = Notification.objects.filter(pk=row.pk)
            if row.user_id not in addresses:
                claimed.update(email_due_at=None)
            elif _send(row, addresses[row.user_id], server):
                claimed.update(email_due_at=None, emailed_at=now)
                sent += 1
            else:
                gives_up = row.email_tries + 1 >= MAX_TRIES
                claimed.update(email_due_at=None if gives_up else now + timedelta(minutes=2**row.email_tries))
    return sent


def _verified_addresses(users: set[int]) -> dict[int, str]:
    """Only a verified address is written to: another one may be a stranger's."""
    rows = EmailAddress.objects.filter(user__in=users, user__is_active=True, verified=True).order_by("primary")
    return dict(rows.values_list("user_id", "email"))


@contextlib.contextmanager
def _mail_server() -> Iterator[BaseEmailBackend]:
    """One connection for the batch, opened by the first message."""
    server = get_connection()
    try:
        yield server
    finally:
        with contextlib.suppress(OSError, SMTPException):
            server.close()


def _send(row: Notification, address: str, server: BaseEmailBackend) -> bool:
    text = "\n\n".join(part for part in (row.body, f"{settings.SITE_URL}{row.url}", _FOOTER) if part)
    subject = " ".join(row.title.split())  # a line break in it would be a header of its own
    message = EmailMessage(subject, text, to=[address], connection=server)
    try:
        return bool(message.send())
    except (OSError, SMTPException, ValueError) as error:  # ValueError: an address that no header can hold
        logger.warning("the email of notification %s was not sent: %r", row.pk, error)
        return False


_FOOTER = "You get this because you asked for copies by email: see the notifications of your account's settings."
