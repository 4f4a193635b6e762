"""The running product tells a program of its owner's what happens: through the page's services, the queue and a slot."""

from __future__ import annotations

from receivers import receiver, verifies
from sites import Site, until

MAKE = """
from django.utils import timezone
from marketplace.accounts.models import User
from marketplace.accounts.services import people
from marketplace.webhooks.services import endpoints
user = User.objects.create_user("vera", "vera@example.com", "a long password")
now, own = timezone.now(), people.namespace_of(user)
endpoint, secret = endpoints.create(user=user, namespace=own, url={url!r}, now=now)
endpoints.send_test(endpoint=endpoint, user=user, now=now)
print(secret)
"""
STATE = """
from marketplace.webhooks.models import Attempt
print(*Attempt.objects.values_list("outcome", "http_status"))
"""


def test_a_slot_sends_what_another_process_owes(site: Site) -> None:
    with receiver() as hooks:
        site.environment["WEBHOOK_ALLOW"] = "127.0.0.1"
        with site.running("slot", "fast", Q_CLUSTER_NAME="fast"):
            made = site.manage("shell", "-c", MAKE.format(url=hooks.url))
            secret = made.stdout.strip().splitlines()[-1]
            until(lambda: hooks.calls or None)
            told = until(lambda: site.manage("shell", "-c", STATE).stdout.strip() or None)

    [call] = hooks.calls
    assert verifies(call, secret)
    assert told.endswith("('delivered', 204)")
