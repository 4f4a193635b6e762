from marketplace.accounts.models.audit import AuditEvent
from marketplace.accounts.models.device_logins import DeviceLogin
from marketplace.accounts.models.idempotency import IdempotentCall
from marketplace.accounts.models.notifications import Notification
from marketplace.accounts.models.people import Membership, Namespace, Organization, Role, User
from marketplace.accounts.models.tokens import ApiToken, CapPeriod, EarlierSecret, Scope, Spend

__all__ = [
    "ApiToken",
    "AuditEvent",
    "CapPeriod",
    "DeviceLogin",
    "EarlierSecret",
    "IdempotentCall",
    "Membership",
    "Namespace",
    "Notification",
    "Organization",
    "Role",
    "Scope",
    "Spend",
    "User",
]
