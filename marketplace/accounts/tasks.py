"""What the queue calls of accounts: wiring only."""

from __future__ import annotations

from django.utils import timezone

from marketplace.accounts.services import notifications


def send_email(_notification_id: int) -> None:
    """Sends what is owed to anybody; a message is a doorbell, whose number does not matter."""
    while notifications.send_due(now=timezone.now()):
        pass
