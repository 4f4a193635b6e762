"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07) for POSTs of the API: one effect and one answer,
however often a client has to ask.

    class Grants(View):
        @idempotent()
        def post(self, request, ...): ...

Put `@extend_schema` above it. The services below must be safe to run twice all the same: a process that dies between
its effect and its answer leaves the key to be tried again.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, cast

from django.db import IntegrityError, transaction
from django.utils import timezone
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts.models import IdempotentCall, User
from marketplace.errors import Broken, Conflict, Invalid

HEADER = "Idempotency-Key"
KEPT = timedelta(hours=48)
RUNNING = timedelta(minutes=10)  # after this a first call that never ended is taken for dead
MAX_KEY = 255
_FAILED_HERE = 500
Handler = Callable[..., Response]


def idempotent() -> Callable[[Handler], Handler]:
    """Wraps a view's `post`. With a key the first answer below 500 is stored, for this user, and replayed with
    `Idempotency-Replayed: true`; without one the call is made as ever (`require_key` refuses that where it buys).

    Raises Broken (`idempotency_key_invalid`), Conflict (`idempotency_key_running`), Invalid
    (`idempotency_key_reused`)."""

    def wrap(handler: Handler) -> Handler:
        @functools.wraps(handler)
        def post(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
            key = _key(request)
            if not key:
                return handler(view, request, *args, **kwargs)
            user = cast("User", request.user)  # whoever may call a POST is signed in
            call, is_first = _claim(user=user, key=key, fingerprint=_fingerprint(request), now=timezone.now())
            if not is_first:
                return _replay(call)
            try:
                response = handler(view, request, *args, **kwargs)
            except Exception as error:
                response = _refusal(view, error, call)
            _keep(call, response)
            return response

        return post

    return wrap


def require_key(request: Request) -> None:
    """Raises Broken (`idempotency_key_missing`): a call that costs money can be sent again only with a key."""
    if not _key(request):
        raise Broken(
            "idempotency_key_missing",
            f"This call costs money: send {HEADER} with a new random value, and the same one when you try again.",
        )


def _key(request: Request) -> str:
    """Returns the key without the quotes of a structured header."""
    key: str = request.headers.get(HEADER, "").strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(key) > MAX_KEY or not key.isascii() or (key and not key.isprintable()):
        raise Broken("idempotency_key_invalid", f"{HEADER} has 1 to {MAX_KEY} printable ASCII characters.")
    return key


def _fingerprint(request: Request) -> str:
    body = json.dumps(request.data, sort_keys=True, default=str)
    return hashlib.sha256(f"{request.method} {request.get_full_path()}\n{body}".encode()).hexdigest()


def _claim(*, user: User, key: str, fingerprint: str, now: datetime) -> tuple[IdempotentCall, bool]:
    """Returns the call of this key, and whether it is this request's to make."""
    IdempotentCall.objects.filter(user=user, started_at__lt=now - KEPT).delete()
    try:
        with transaction.atomic():
            return IdempotentCall.objects.create(user=user, key=key, fingerprint=fingerprint, started_at=now), True
    except IntegrityError:
        call = IdempotentCall.objects.filter(user=user, key=key).first()
    if call is None:
        raise _running()  # it failed at this very moment and may be tried again
    if call.fingerprint != fingerprint:
        raise Invalid(
            "idempotency_key_reused", f"This {HEADER} was sent with another call. Use a new one for each purchase."
        )
    if call.status is not None:
        return call, False
    abandoned = IdempotentCall.objects.filter(pk=call.pk, status__isnull=True, started_at__lt=now - RUNNING)
    if not abandoned.update(started_at=now):
        raise _running()
    return call, True


def _running() -> Conflict:
    return Conflict("idempotency_key_running", "The first call with this key is still running. Ask again in a moment.")


def _refusal(view: Any, error: Exception, call: IdempotentCall) -> Response:
    """Returns the problem that the error is, or lets go of the key and raises what nobody expected."""
    try:
        response: Response = view.handle_exception(error)
    except Exception:
        IdempotentCall.objects.filter(pk=call.pk).delete()
        raise
    return response


def _keep(call: IdempotentCall, response: Response) -> None:
    """Stores the answer; a failure of this server is not kept, so that the same key can be tried again."""
    if response.status_code >= _FAILED_HERE:
        IdempotentCall.objects.filter(pk=call.pk).delete()
        return
    IdempotentCall.objects.filter(pk=call.pk).update(
        status=response.status_code,
        content_type=response.content_type or "",
        body=JSONRenderer().render(response.data).decode(),
    )


def _replay(call: IdempotentCall) -> Response:
    return Response(
        json.loads(call.body) if call.body else None,
        status=call.status,
        content_type=call.content_type or None,
        headers={"Idempotency-Replayed": "true"},
    )
