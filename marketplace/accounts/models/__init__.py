from marketplace.accounts.models.audit import AuditEvent
from marketplace.accounts.models.people import Membership, Namespace, Organization, Role, User
from marketplace.accounts.models.tokens import ApiToken, Scope

__all__ = ["ApiToken", "AuditEvent", "Membership", "Namespace", "Organization", "Role", "Scope", "User"]
