"""Issues, finds and revokes API tokens: `mkt_` and what `marketplace/credentials.py` makes of a prefix."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import Q

from marketplace import credentials
from marketplace.accounts.models import ApiToken, AuditEvent, Namespace, Scope, User
from marketplace.errors import Invalid

PREFIX = "mkt_"
LAST_USED_RESOLUTION = timedelta(minutes=1)  # one write a minute is enough to show when it was used


def is_well_formed(secret: str) -> bool:
    return credentials.is_well_formed(secret, PREFIX)


def issue(*, user: User, name: str, scopes: Iterable[str], expires_at: datetime | None = None) -> tuple[ApiToken, str]:
    """Returns the token and its secret, which is not kept. Raises Invalid (`unknown_scope`, `no_scope`)."""
    wanted = sorted(set(scopes))
    if unknown := [scope for scope in wanted if scope not in Scope.values]:
        raise Invalid("unknown_scope", f"Unknown scope: {', '.join(unknown)}.", field="scopes", items=Scope.values)
    if not wanted:
        raise Invalid("no_scope", "Choose at least one scope.", field="scopes")
    secret = credentials.new(PREFIX)
    token = ApiToken.objects.create(
        user=user,
        name=name,
        digest=credentials.keyed_hash(secret),
        hint=credentials.hint(secret),
        scopes=wanted,
        expires_at=expires_at,
    )
    AuditEvent.objects.create(
        action="token.issue",
        actor=user,
        namespace=Namespace.objects.filter(user=user).first(),
        subject=str(token),
        details={"scopes": wanted},
    )
    return token, secret


def find(secret: str, *, now: datetime) -> ApiToken | None:
    """Returns the live token of an active user, and notes its use at most once a minute."""
    if not is_well_formed(secret):
        return None
    token = ApiToken.objects.live(now).select_related("user").filter(digest=credentials.keyed_hash(secret)).first()
    if token is None or not token.user.is_active:
        return None
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - LAST_USED_RESOLUTION)
    if token.last_used_at is None or token.last_used_at < now - LAST_USED_RESOLUTION:
        ApiToken.objects.filter(stale, pk=token.pk).update(last_used_at=now)
    return token


def revoke(token: ApiToken, *, actor: User, now: datetime) -> None:
    """Ends the token at once; revoking twice changes nothing."""
    if ApiToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(revoked_at=now):
        AuditEvent.objects.create(action="token.revoke", actor=actor, subject=str(token))


def revoke_leaked(secret: str, *, now: datetime) -> None:
    """Ends the token that was found where secrets must not be, if there is one."""
    token = ApiToken.objects.live(now).filter(digest=credentials.keyed_hash(secret)).select_related("user").first()
    if token is not None:
        revoke(token, actor=token.user, now=now)
