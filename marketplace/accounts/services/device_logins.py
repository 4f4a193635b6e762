"""The login of programs by a browser (RFC 8628), as `hf auth login` does it: a program shows a code, somebody who is signed
in types it and decides, and the program fetches an API token of theirs."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.db import IntegrityError, transaction

from marketplace import credentials
from marketplace.accounts.models import Scope, User
from marketplace.accounts.models.device_logins import DeviceLogin, DeviceState
from marketplace.accounts.services import tokens
from marketplace.errors import Conflict, Invalid, TooMany
from marketplace.rate_settings import Rate
from marketplace.throttling import spend

PREFIX = "mkd_"
LIVES = timedelta(minutes=15)
INTERVAL_SECONDS, MORE_SECONDS = 5, 5  # between two polls; what one that comes too soon adds (RFC 8628, 3.5)
EARLY_SECONDS = 0.5  # that a poll may be early: clocks and networks are not exact
# No vowels, so that no code is a word; 20 ** 8 codes live for 15 minutes, and an account looks at 20 an hour, twice
# at the one that it lets in.
ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
CODE_CHARACTERS = 8
GUESSES = Rate(20, 3600)
OFFERED = (Scope.MODELS_READ, Scope.MODELS_WRITE, Scope.DATASETS_READ, Scope.DATASETS_WRITE, Scope.PREDICT)
_PURPOSE = "device code"
_TRIES = 5


class Refusal(StrEnum):
    """What the program is told, in the words of RFC 8628 and RFC 6749."""

    PENDING = "authorization_pending"
    SLOW_DOWN = "slow_down"
    EXPIRED = "expired_token"
    DENIED = "access_denied"
    UNKNOWN = "invalid_grant"


@dataclass(frozen=True, slots=True)
class Fetched:
    secret: str
    expires_in_seconds: int


def begin(*, program: str, address: str | None, now: datetime) -> tuple[DeviceLogin, str]:
    """Returns the login and its device code, which is not kept. Old logins are removed."""
    DeviceLogin.objects.filter(expires_at__lt=now - LIVES).delete()
    code = credentials.new(PREFIX)
    for _ in range(_TRIES):
        try:
            with transaction.atomic():
                login = DeviceLogin.objects.create(
                    digest=_digest(code),
                    user_code="".join(secrets.choice(ALPHABET) for _ in range(CODE_CHARACTERS)),
                    program=program[:200],
                    address=address,
                    created_at=now,
                    expires_at=now + LIVES,
                    interval_seconds=INTERVAL_SECONDS,
                )
        except IntegrityError:  # another login has this code just now
            continue
        return login, code
    raise Conflict("no_code_free", "No code is free now. Try again in a moment.")


def _digest(code: str) -> str:
    return credentials.keyed_hash(code, purpose=_PURPOSE)


def typed(text: str, *, user: User, now: datetime) -> DeviceLogin:
    """Returns the login that waits under the code, however it is typed. Raises Invalid (`bad_user_code`), the same for
    every way in which a code can be wrong, and TooMany (`too_many_codes`): each look is a guess."""
    if spend("device_code", f"account:{user.pk}", rate=GUESSES, now=now.timestamp()).is_exceeded:
        raise TooMany("too_many_codes", "You have tried many codes. Go on in an hour.")
    code = "".join(letter for letter in text.upper() if letter.isalnum())
    login = DeviceLogin.objects.waiting(now).filter(user_code=code[:CODE_CHARACTERS]).first()
    if login is None or len(code) != CODE_CHARACTERS:
        text = "No program waits under this code. Compare it with the one that your program shows; it lives 15 minutes."
        raise Invalid("bad_user_code", text, field="code")
    return login


def approve(*, login: DeviceLogin, user: User, scopes: list[str], days: int, now: datetime) -> None:
    """Lets the program in with these scopes. Raises Invalid (`no_scope`, `unknown_scope`), Conflict (`already_decided`)."""
    if not scopes:
        raise Invalid("no_scope", "Choose at least one scope.", field="scopes")
    if unknown := [scope for scope in scopes if scope not in OFFERED]:
        raise Invalid("unknown_scope", f"Not offered here: {', '.join(unknown)}.", field="scopes")
    _decide(login, to=DeviceState.APPROVED, user=user, scopes=scopes, days=days, now=now)


def deny(*, login: DeviceLogin, user: User, now: datetime) -> None:
    """Raises Conflict (`already_decided`)."""
    _decide(login, to=DeviceState.DENIED, user=user, now=now)


def _decide(login: DeviceLogin, *, to: DeviceState, user: User, now: datetime, **fields: object) -> None:
    if not DeviceLogin.objects.transition(login.pk, to=to, now=now, user=user, **fields):
        raise Conflict("already_decided", "This login was decided already, or has expired.")


def poll(code: str, *, now: datetime) -> Fetched | Refusal:
    """Returns the token that was let in, once, or why there is none (yet). Locks the login."""
    if not credentials.is_well_formed(code, PREFIX):
        return Refusal.UNKNOWN
    with transaction.atomic():
        login = DeviceLogin.objects.select_for_update(of=("self",)).filter(digest=_digest(code)).first()
        if login is None:
            return Refusal.UNKNOWN
        if login.expires_at <= now:
            return Refusal.EXPIRED
        if _is_early(login, now):
            login.interval_seconds = min(login.interval_seconds + MORE_SECONDS, int(LIVES.total_seconds()))
            login.polled_at = now
            login.save(update_fields=["interval_seconds", "polled_at"])
            return Refusal.SLOW_DOWN
        DeviceLogin.objects.filter(pk=login.pk).update(polled_at=now)
        return _answer(login, now)


def _is_early(login: DeviceLogin, now: datetime) -> bool:
    if login.polled_at is None:
        return False
    return (now - login.polled_at).total_seconds() < login.interval_seconds - EARLY_SECONDS


def _answer(login: DeviceLogin, now: datetime) -> Fetched | Refusal:
    if login.state == DeviceState.PENDING:
        return Refusal.PENDING
    if login.state == DeviceState.DENIED or login.user is None or not login.user.is_active:
        return Refusal.DENIED
    if not DeviceLogin.objects.transition(login.pk, to=DeviceState.USED, now=now):
        return Refusal.UNKNOWN  # a code is good for one token
    life = timedelta(days=login.days)
    name = f"login of {login.program or 'a program'}"[:80]
    _, secret = tokens.issue(user=login.user, name=name, scopes=login.scopes, expires_at=now + life)
    return Fetched(secret, int(life.total_seconds()))
