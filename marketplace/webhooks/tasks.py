"""What the queue calls of webhooks: wiring only."""

from __future__ import annotations

from marketplace.webhooks.services import delivery


def send_webhooks(_message_id: int) -> None:
    """Sends what is due to anybody; a message is a doorbell, whose number does not matter."""
    delivery.work()
