"""What a program calls that logs in by a browser (RFC 8628): `hf auth login` and `huggingface_hub.login()`. The addresses
are the clients' own, and so are the answers: OAuth's, not problem documents."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from django.utils import timezone
from rest_framework.parsers import FormParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts.services import device_logins
from marketplace.accounts.services.device_logins import LIVES, Fetched, Refusal
from marketplace.api import View
from marketplace.inputs import JsonBody

# huggingface_hub's public id (constants.DEVICE_CODE_OAUTH_CLIENT_ID). A public client proves nothing by it.
CLIENT_ID = "26be6b09-91c5-47da-9861-d2d2bb7a7e36"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_WORDS = {
    Refusal.PENDING: "Nobody has decided yet.",
    Refusal.SLOW_DOWN: "Ask less often: five seconds were added to the interval.",
    Refusal.EXPIRED: "Nobody decided in time. Begin again.",
    Refusal.DENIED: "The login was refused.",
    Refusal.UNKNOWN: "There is no such login, or its token was fetched already. Log in again.",
}


class _OAuth(View):
    authentication_classes: list[Any] = []
    permission_classes = [AllowAny]
    parser_classes = [FormParser, JsonBody]
    schema = None  # RFC 8628 documents it; docs/api.md says what is served


def _refused(error: str, text: str) -> Response:
    return Response({"error": error, "error_description": text}, status=400, headers=_NO_STORE)


def _sent(request: Request, name: str) -> str:
    return str(request.data.get(name, ""))[:500] if hasattr(request.data, "get") else ""


class Device(_OAuth):
    rate_bucket = "credentials"  # each login holds a code

    def post(self, request: Request) -> Response:
        if _sent(request, "client_id") != CLIENT_ID:
            return _refused("invalid_client", "This site lets in what asks by huggingface_hub's client_id.")
        login, code = device_logins.begin(
            program=request.headers.get("User-Agent", ""), address=request.META.get("REMOTE_ADDR"), now=timezone.now()
        )
        page = request.build_absolute_uri(reverse("device_login"))
        told = {
            "device_code": code,
            "user_code": str(login),
            "verification_uri": page,
            "verification_uri_complete": f"{page}?code={login}",
            "expires_in": int(LIVES.total_seconds()),
            "interval": login.interval_seconds,
        }
        return Response(told, headers=_NO_STORE)


class Token(_OAuth):
    def post(self, request: Request) -> Response:
        grant = _sent(request, "grant_type")
        if grant == "refresh_token":  # none is ever given: the token lives as long as its owner chose
            return _refused("invalid_grant", "Tokens of this site are not refreshed. Log in again.")
        if grant != DEVICE_GRANT:
            return _refused("unsupported_grant_type", f"The grant is {DEVICE_GRANT}.")
        if _sent(request, "client_id") != CLIENT_ID:
            return _refused("invalid_client", "This is not the client that began the login.")
        found = device_logins.poll(_sent(request, "device_code"), now=timezone.now())
        if isinstance(found, Fetched):
            told = {"access_token": found.secret, "token_type": "bearer", "expires_in": found.expires_in_seconds}
            return Response(told, headers=_NO_STORE)
        return _refused(found.value, _WORDS[found])
