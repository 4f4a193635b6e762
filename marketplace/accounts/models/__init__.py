from marketplace.accounts.models.audit import AuditEvent
from marketplace.accounts.models.idempotency import IdempotentCall
from marketplace.accounts.models.notifications import Notification
from marketplace.accounts.models.people import Membership, Namespace, Organization, Role, User
from marketplace.accounts.models.tokens import ApiToken, Scope

__all__ = [
    "ApiToken",
    "AuditEvent",
    "IdempotentCall",
    "Membership",
    "Namespace",
    "Notification",
    "Organization",
    "Role",
    "Scope",
    "User",
]
