"""License keys: what a program shows to learn whether the grant that it runs under holds. Answers as Keygen's
`validate-key` does (docs/api.md), so that its clients work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.db import transaction
from django.db.models import Q, QuerySet

from marketplace import credentials
from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict
from models_catalog import policies
from models_catalog.declarations import from_json
from models_catalog.models import Artifact, Grant, LicenseKey, Release, Seat
from models_catalog.models.licensing import GrantState
from models_catalog.terms import Answer, Right

PREFIX = "lic_"
LAST_VALIDATED_RESOLUTION = timedelta(minutes=1)  # one write a minute is enough to show that it is in use
_PURPOSE = "license-key"


class Code(StrEnum):
    """The words of Keygen's API; those that apply here."""

    VALID = "VALID"
    NOT_FOUND = "NOT_FOUND"
    SUSPENDED = "SUSPENDED"
    EXPIRED = "EXPIRED"
    PRODUCT_SCOPE_MISMATCH = "PRODUCT_SCOPE_MISMATCH"
    VERSION_SCOPE_MISMATCH = "VERSION_SCOPE_MISMATCH"
    CHECKSUM_SCOPE_MISMATCH = "CHECKSUM_SCOPE_MISMATCH"
    ENTITLEMENTS_MISSING = "ENTITLEMENTS_MISSING"
    TOO_MANY_USERS = "TOO_MANY_USERS"


DETAILS = {
    Code.VALID: "is valid",
    Code.NOT_FOUND: "does not exist",
    Code.SUSPENDED: "is suspended: the key or its license was ended, or its licensee is outside a limit of the terms",
    Code.EXPIRED: "is expired",
    Code.PRODUCT_SCOPE_MISMATCH: "is of another product",
    Code.VERSION_SCOPE_MISMATCH: "does not cover this version",
    Code.CHECKSUM_SCOPE_MISMATCH: "covers no file with this checksum",
    Code.ENTITLEMENTS_MISSING: "lacks an entitlement that was asked for",
    Code.TOO_MANY_USERS: "has no seat for this user",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the key has to be good for; what is empty is not asked."""

    product: str = ""  # namespace/name of the listing
    version: str = ""
    checksum: str = ""  # SHA-256 of a file
    entitlements: Sequence[str] = ()  # rights that the terms must allow
    user: str = ""  # who uses it: has a seat, or finds a free one


@dataclass(frozen=True, slots=True)
class Validation:
    code: Code
    key: LicenseKey | None

    @property
    def valid(self) -> bool:
        return self.code is Code.VALID

    @property
    def detail(self) -> str:
        return DETAILS[self.code]


def rotate(*, grant: Grant, actor: User, now: datetime) -> tuple[LicenseKey, str]:
    """Returns a new key of the grant and its text, which is not kept; the one before it ends. Raises Denied
    (`not_an_admin`), Conflict (`already_ended`). Locks the grant, which has one live key."""
    require(policies.may_administer(actor, grant.licensee))
    text = credentials.new(PREFIX)
    with transaction.atomic():
        Grant.objects.select_for_update(no_key=True).get(pk=grant.pk)
        if not Grant.objects.active(now).filter(pk=grant.pk).exists():
            raise Conflict("already_ended", "This license has ended already.")
        replaced = LicenseKey.objects.live().filter(grant=grant).update(revoked_at=now)
        key = LicenseKey.objects.create(
            grant=grant,
            digest=credentials.keyed_hash(text, purpose=_PURPOSE),
            hint=credentials.hint(text),
            created_by=actor,
            created_at=now,
        )
        _record("license_key.rotate" if replaced else "license_key.issue", key, actor=actor)
    return key, text


def revoke(*, grant: Grant, actor: User, now: datetime) -> None:
    """Ends the grant's key; without one nothing changes. Raises Denied (`not_an_admin`)."""
    require(policies.may_administer(actor, grant.licensee))
    with transaction.atomic():
        key = LicenseKey.objects.live().filter(grant=grant).select_related("grant__licensee").first()
        if key is not None and LicenseKey.objects.live().filter(pk=key.pk).update(revoked_at=now):
            _record("license_key.revoke", key, actor=actor)


def validate(*, text: str, scope: Scope, now: datetime) -> Validation:
    """Says whether the key is good for the scope, and notes the use at most once a minute. The key is its own
    proof; it is looked up by its keyed hash whatever it looks like, so that time tells nothing of it."""
    rows = LicenseKey.objects.select_related("grant__terms", "grant__licensee", "grant__listing__namespace")
    key = rows.filter(digest=credentials.keyed_hash(text, purpose=_PURPOSE)).first()
    if key is None:
        return Validation(Code.NOT_FOUND, None)
    checks: tuple[Callable[[LicenseKey, Scope, datetime], Code], ...] = (
        _standing,
        _declared,
        _product,
        _files,
        _rights,
        _seat,
    )
    code = next((found for check in checks if (found := check(key, scope, now)) is not Code.VALID), Code.VALID)
    _touch(key, now=now)
    return Validation(code, key)


def _standing(key: LicenseKey, _scope: Scope, now: datetime) -> Code:
    if key.revoked_at:
        return Code.SUSPENDED
    state = key.grant.state_at(now)
    if state is GrantState.EXPIRED:
        return Code.EXPIRED
    open_ = state in (GrantState.ACTIVE, GrantState.TRIAL, GrantState.EXPIRING)
    return Code.VALID if open_ else Code.SUSPENDED


def _declared(key: LicenseKey, _scope: Scope, _now: datetime) -> Code:
    """A licensee who states that they are outside a cap of the terms may not use what the key is for."""
    grant = key.grant
    declaration = from_json(grant.declaration)
    fits = policies.may_use_as_declared(str(grant.listing), grant.terms.value, declaration).allowed
    return Code.VALID if fits else Code.SUSPENDED


def _product(key: LicenseKey, scope: Scope, _now: datetime) -> Code:
    matches = not scope.product or scope.product.lower() == str(key.grant.listing).lower()
    return Code.VALID if matches else Code.PRODUCT_SCOPE_MISMATCH


def _files(key: LicenseKey, scope: Scope, _now: datetime) -> Code:
    covered = covered_releases(key.grant)
    if scope.version:
        covered = covered.filter(version=scope.version)
        if not covered.exists():
            return Code.VERSION_SCOPE_MISMATCH
    if scope.checksum and not Artifact.objects.filter(release__in=covered, sha256=scope.checksum.lower()).exists():
        return Code.CHECKSUM_SCOPE_MISMATCH
    return Code.VALID


def _rights(key: LicenseKey, scope: Scope, _now: datetime) -> Code:
    allowed = {right.value for right in Right if key.grant.terms.value.answer(right) is Answer.ALLOW}
    return Code.VALID if {name.lower() for name in scope.entitlements} <= allowed else Code.ENTITLEMENTS_MISSING


def _seat(key: LicenseKey, scope: Scope, now: datetime) -> Code:
    grant = key.grant
    if not grant.seats or not scope.user:
        return Code.VALID
    user = User.objects.filter(username__iexact=scope.user).first()
    if user is None or not Namespace.objects.of(user).filter(pk=grant.licensee_id).exists():
        return Code.TOO_MANY_USERS
    taken = Seat.objects.taken(now).filter(grant=grant)
    is_open = taken.opening_for(user).exists() or taken.count() < grant.seats
    return Code.VALID if is_open else Code.TOO_MANY_USERS


def covered_releases(grant: Grant) -> QuerySet[Release]:
    """Returns what the grant opens now: releases of its listing under its terms, withdrawn ones too."""
    return Release.objects.filter(listing=grant.listing_id, terms=grant.terms_id, status__in=("published", "yanked"))


def _touch(key: LicenseKey, *, now: datetime) -> None:
    stale = Q(last_validated_at__isnull=True) | Q(last_validated_at__lt=now - LAST_VALIDATED_RESOLUTION)
    if key.last_validated_at is None or key.last_validated_at < now - LAST_VALIDATED_RESOLUTION:
        LicenseKey.objects.filter(stale, pk=key.pk).update(last_validated_at=now)


def _record(action: str, key: LicenseKey, *, actor: User) -> None:
    details = {"grant": str(key.grant_id), "key": str(key)}
    audit.record(action, actor=actor, namespace=key.grant.licensee, subject=key.grant.listing, details=details)
