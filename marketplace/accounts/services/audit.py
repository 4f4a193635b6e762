"""Writes audit rows; call it inside the transaction of the change that it records."""

from __future__ import annotations

from typing import Any

from marketplace.accounts.models import AuditEvent, Namespace, User


def record(
    action: str,
    *,
    actor: User | None,
    namespace: Namespace | None,
    subject: object,
    details: dict[str, Any] | None = None,
) -> None:
    """Appends one row. `action` is `resource.verb`; `details` must be JSON-ready."""
    AuditEvent.objects.create(
        action=action, actor=actor, namespace=namespace, subject=str(subject)[:200], details=details or {}
    )
