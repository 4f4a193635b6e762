"""Issues, finds and revokes API tokens: `mkt_`, 32 random base-62 characters, 6 of CRC-32 checksum.

The checksum lets secret scanners and this site tell a typing error from an unknown token without a query.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
import zlib
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q

from marketplace.accounts.models import ApiToken, AuditEvent, Namespace, Scope, User
from marketplace.errors import Invalid

PREFIX = "mkt_"
RANDOM_CHARACTERS = 32
CHECKSUM_CHARACTERS = 6
LAST_USED_RESOLUTION = timedelta(minutes=1)  # one write a minute is enough to show when it was used
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase


def _checksum(body: str) -> str:
    value, characters = zlib.crc32(body.encode()), ""
    for _ in range(CHECKSUM_CHARACTERS):
        value, rest = divmod(value, len(_ALPHABET))
        characters = _ALPHABET[rest] + characters
    return characters


def is_well_formed(secret: str) -> bool:
    body = secret.removeprefix(PREFIX)
    if body == secret or len(body) != RANDOM_CHARACTERS + CHECKSUM_CHARACTERS:
        return False
    return secrets.compare_digest(_checksum(body[:RANDOM_CHARACTERS]).encode(), body[RANDOM_CHARACTERS:].encode())


def _digest(secret: str) -> str:
    return hmac.new(settings.SECRET_KEY.encode(), secret.encode(), hashlib.sha256).hexdigest()


def issue(*, user: User, name: str, scopes: Iterable[str], expires_at: datetime | None = None) -> tuple[ApiToken, str]:
    """Returns the token and its secret, which is not kept. Raises Invalid (`unknown_scope`, `no_scope`)."""
    wanted = sorted(set(scopes))
    if unknown := [scope for scope in wanted if scope not in Scope.values]:
        raise Invalid("unknown_scope", f"Unknown scope: {', '.join(unknown)}.", field="scopes", items=Scope.values)
    if not wanted:
        raise Invalid("no_scope", "Choose at least one scope.", field="scopes")
    body = "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_CHARACTERS))
    secret = PREFIX + body + _checksum(body)
    token = ApiToken.objects.create(
        user=user, name=name, digest=_digest(secret), hint=secret[-4:], scopes=wanted, expires_at=expires_at
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
    token = ApiToken.objects.live(now).select_related("user").filter(digest=_digest(secret)).first()
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
    token = ApiToken.objects.live(now).filter(digest=_digest(secret)).select_related("user").first()
    if token is not None:
        revoke(token, actor=token.user, now=now)
