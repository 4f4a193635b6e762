"""Issues, finds, replaces and revokes API tokens: `mkt_` and what `marketplace/credentials.py` makes of a prefix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.urls import reverse

from marketplace import credentials
from marketplace.accounts.models import ApiToken, CapPeriod, EarlierSecret, Namespace, Scope, User, reach
from marketplace.accounts.services import audit, notifications
from marketplace.errors import Conflict, Denied, Invalid

PREFIX = "mkt_"
LAST_USED_RESOLUTION = timedelta(minutes=1)  # one write a minute is enough to show when it was used
OVERLAP_HOURS, MAX_OVERLAP_HOURS = 24, 168  # for which the secret before goes on
MAX_RESOURCES = 100
MAX_LIVE = 200  # of one account


@dataclass(frozen=True, slots=True)
class Cap:
    """How much may be spent with a token, in minor units of one currency."""

    amount_minor: int
    currency: str
    period: CapPeriod


def is_well_formed(secret: str) -> bool:
    return credentials.is_well_formed(secret, PREFIX)


def issue(
    *,
    user: User,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
    resources: Sequence[str] = (),
    cap: Cap | None = None,
    by: ApiToken | None = None,
) -> tuple[ApiToken, str]:
    """Returns the token and its secret, which is not kept. `resources` are as `reach.read` has them, none are all; `by`
    is the token that asks for it. Raises Invalid (`unknown_scope`, `no_scope`, `bad_resource`), Conflict
    (`too_many_tokens`, `token_ended` of `by`), Denied (`token_too_narrow`). What a token issues its owner is told."""
    wanted = _scopes(scopes)
    named = _resources(resources)
    _require_no_wider(by, scopes=wanted, expires_at=expires_at)
    secret = credentials.new(PREFIX)
    with transaction.atomic():
        _lock(user, by=by)
        _require_room(user)
        token = ApiToken.objects.create(
            user=user,
            name=name,
            digest=credentials.keyed_hash(secret),
            hint=credentials.hint(secret),
            scopes=wanted,
            expires_at=expires_at,
            resources=named,
            **_columns(cap),
        )
        _record("token.issue", token, actor=user, scopes=wanted, resources=named, **_named(by))
        if by is not None:
            token.issued_by.add(by)
            _tell_of_token("token.issue", f"Your API token {by} issued another one, {token}", token)
    return token, secret


def _lock(user: User, *, by: ApiToken | None) -> None:
    """Locks the user, so that a token that is being revoked with all that it issued issues no more. Raises Conflict
    (`token_ended`)."""
    User.objects.select_for_update(no_key=True).get(pk=user.pk)
    if by is not None and not ApiToken.objects.filter(pk=by.pk, revoked_at__isnull=True).exists():
        raise Conflict("token_ended", "This token has ended. Issue a new one.")


def _named(by: ApiToken | None) -> dict[str, str]:
    return {"by_token": str(by)} if by is not None else {}


def _tell_of_token(kind: str, title: str, token: ApiToken) -> None:
    """Tells the owner of what a token did by itself, because it may not have been theirs to ask."""
    body = f"If that was not you, revoke both. Its scopes: {', '.join(token.scopes)}."
    notifications.notify(kind=kind, recipients=[token.user], title=title, body=body, url=reverse("tokens"))


def _scopes(scopes: Iterable[str]) -> list[str]:
    wanted = sorted(set(scopes))
    if unknown := [scope for scope in wanted if scope not in Scope.values]:
        raise Invalid("unknown_scope", f"Unknown scope: {', '.join(unknown)}.", field="scopes", items=Scope.values)
    if not wanted:
        raise Invalid("no_scope", "Choose at least one scope.", field="scopes")
    return wanted


def _resources(resources: Sequence[str]) -> list[str]:
    """Returns each once. Whether it is there is not asked: the answer would tell of what is not the user's to see."""
    named = list(dict.fromkeys(entry.strip() for entry in resources if entry.strip()))
    if len(named) > MAX_RESOURCES:
        raise Invalid("bad_resource", f"A token is limited to at most {MAX_RESOURCES} things.", field="resources")
    for entry in named:
        try:
            reach.read([entry])
        except (ValueError, ValidationError) as error:
            text = f"{entry[:100]} is no vendor (acme), model (acme/net) or dataset ({reach.DATASETS}ID)."
            raise Invalid("bad_resource", text, field="resources") from error
    return named


def _require_room(user: User) -> None:
    if ApiToken.objects.filter(user=user, revoked_at__isnull=True).count() >= MAX_LIVE:
        raise Conflict("too_many_tokens", f"You have {MAX_LIVE} tokens, which is the limit. Revoke one.")


def _require_no_wider(by: ApiToken | None, *, scopes: Iterable[str], expires_at: datetime | None) -> None:
    """A token makes none that could do more than itself. Raises Denied (`token_too_narrow`)."""
    if by is None:
        return
    if by.resources or by.cap_minor is not None:
        raise Denied("token_too_narrow", "A token with limits of its own manages no tokens. Do it on your tokens page.")
    more = [scope for scope in scopes if not by.grants(scope)]
    if more:
        raise Denied("token_too_narrow", f"This token has not got {', '.join(more)} itself. Leave that out.")
    if by.expires_at is not None and (expires_at is None or expires_at > by.expires_at):
        raise Denied("token_too_narrow", f"This token ends at {by.expires_at:%Y-%m-%d %H:%M} UTC. Choose no later end.")


def _columns(cap: Cap | None) -> dict[str, object]:
    if cap is None:
        return {"cap_minor": None, "cap_currency": "", "cap_period": ""}
    return {"cap_minor": cap.amount_minor, "cap_currency": cap.currency, "cap_period": cap.period}


def cap_of(token: ApiToken) -> Cap | None:
    if token.cap_minor is None:
        return None
    return Cap(token.cap_minor, token.cap_currency, CapPeriod(token.cap_period))


def change(*, token: ApiToken, name: str, cap: Cap | None, by: ApiToken | None = None) -> None:
    """Names the token anew and sets its cap, or with None takes it away; what was spent stays. Raises Denied
    (`token_too_narrow`)."""
    _require_no_wider(by, scopes=token.scopes, expires_at=token.expires_at)
    with transaction.atomic():
        ApiToken.objects.filter(pk=token.pk).update(name=name, **_columns(cap))
        _record("token.change", token, actor=token.user, cap_minor=cap.amount_minor if cap else None)
    token.refresh_from_db()


def find(secret: str, *, now: datetime) -> ApiToken | None:
    """Returns the live token of an active user, and notes its use at most once a minute."""
    if not is_well_formed(secret):
        return None
    token = _by_secret(secret, now=now)
    if token is None or not token.user.is_active:
        return None
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - LAST_USED_RESOLUTION)
    if token.last_used_at is None or token.last_used_at < now - LAST_USED_RESOLUTION:
        ApiToken.objects.filter(stale, pk=token.pk).update(last_used_at=now)
    return token


def _by_secret(secret: str, *, now: datetime) -> ApiToken | None:
    digest = credentials.keyed_hash(secret)
    of_it = Q(digest=digest) | Q(previous_digest=digest, previous_ends_at__gt=now)
    return ApiToken.objects.live(now).select_related("user").filter(of_it).first()


def rotate(*, token: ApiToken, now: datetime, overlap_hours: int = OVERLAP_HOURS, by: ApiToken | None = None) -> str:
    """Returns a new secret of the token, which keeps its rights, limits and end. The secret before goes on for so many
    hours, with 0 it ends at once; one before that ends now. What a token replaces its owner is told. Locks the user and the
    token. Raises Invalid (`bad_overlap`), Conflict
    (`token_ended`), Denied (`token_too_narrow`)."""
    if not 0 <= overlap_hours <= MAX_OVERLAP_HOURS:
        text = f"The earlier secret goes on for 0 to {MAX_OVERLAP_HOURS} hours."
        raise Invalid("bad_overlap", text, field="overlap_hours")
    if by is None or by.pk != token.pk:
        _require_no_wider(by, scopes=token.scopes, expires_at=token.expires_at)
    secret = credentials.new(PREFIX)
    with transaction.atomic():
        _lock(token.user, by=by)
        row = ApiToken.objects.live(now).select_for_update(no_key=True).filter(pk=token.pk).first()
        if row is None:
            raise Conflict("token_ended", "This token has ended. Issue a new one.")
        EarlierSecret.objects.create(token=row, digest=row.digest)
        row.previous_digest = row.digest if overlap_hours else None
        row.previous_ends_at = now + timedelta(hours=overlap_hours) if overlap_hours else None
        row.digest, row.hint = credentials.keyed_hash(secret), credentials.hint(secret)
        row.save(update_fields=["previous_digest", "previous_ends_at", "digest", "hint"])
        _record("token.rotate", row, actor=row.user, overlap_hours=overlap_hours, **_named(by))
        if by is not None:
            if by.pk != row.pk:
                row.issued_by.add(by)
            _tell_of_token("token.rotate", f"Your API token {by} replaced the secret of {row}", row)
    token.refresh_from_db()
    return secret


def revoke(token: ApiToken, *, actor: User, now: datetime, because_of: ApiToken | None = None) -> bool:
    """Ends the token at once, with every secret of it; what it issued goes on. Revoking twice changes nothing and
    returns False."""
    with transaction.atomic():
        ended = ApiToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(revoked_at=now)
        if ended:
            details = {"because_of": str(because_of)} if because_of is not None else {}
            _record("token.revoke", token, actor=actor, **details)
    return bool(ended)


def issued_by(token: ApiToken) -> list[ApiToken]:
    """Returns the tokens that it issued, or whose secret it replaced, and what those did so in turn: those that were
    not revoked."""
    seen: dict[int, ApiToken] = {}
    fresh = [token.pk]
    while fresh:
        rows = ApiToken.objects.filter(issued_by__in=fresh).exclude(pk__in=[token.pk, *seen]).select_related("user")
        found = {row.pk: row for row in rows}
        seen |= found
        fresh = list(found)
    return [row for row in seen.values() if row.revoked_at is None]


def revoke_leaked(secret: str, *, now: datetime, where: str) -> None:
    """Ends the token that was found where secrets must not be, if there is one, by any secret that it ever had, and what
    it issued; tells its owner. Answers nothing: whoever asks learns nothing of what there is."""
    token = _by_any_secret(secret) if is_well_formed(secret) else None
    if token is None:
        return
    with transaction.atomic():
        _lock(token.user, by=None)
        ended = revoke(token, actor=token.user, now=now)
        others = [row for row in issued_by(token) if revoke(row, actor=row.user, now=now, because_of=token)]
        if not ended and not others:
            return
        body = f"It was {where}, so others may have it. Issue a new one, and look at the audit log for what was done."
        if others:
            body += f" Revoked with it, because it had issued or replaced them: {', '.join(map(str, others))}."
        notifications.notify(
            kind="token.leaked",
            recipients=[token.user],
            title=f"Your API token {token} was revoked",
            body=body[: notifications.MAX_BODY],
            url=reverse("tokens"),
        )


def _by_any_secret(secret: str) -> ApiToken | None:
    """Returns the token that has or had the secret, however it ended."""
    digest = credentials.keyed_hash(secret)
    of_it = Q(digest=digest) | Q(previous_digest=digest) | Q(earlier_secrets__digest=digest)
    return ApiToken.objects.select_related("user").filter(of_it).first()


def _record(action: str, token: ApiToken, *, actor: User, **details: object) -> None:
    namespace = Namespace.objects.filter(user=token.user).first()
    audit.record(action, actor=actor, namespace=namespace, subject=token, details=details)
