"""Bearer tokens for DRF. Every way in which a token can be wrong gives the same answer."""

from __future__ import annotations

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from marketplace.accounts.models import ApiToken, User
from marketplace.accounts.services import tokens
from marketplace.errors import Broken


class TokenAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        _refuse_in_address(request)
        scheme, _, secret = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() not in {"bearer", "token"}:
            return None
        token = tokens.find(secret.strip(), now=timezone.now())
        if token is None:
            raise AuthenticationFailed("This token is not valid. Issue a new one on your tokens page.", "bad_token")
        token.user.api_token = token
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'


def _refuse_in_address(request: Request) -> None:
    """Raises Broken (`token_in_url`) for a token in the address, and ends it: every log on the way has it."""
    for value in map(str, request.query_params.values()):
        if tokens.is_well_formed(value):
            tokens.revoke_leaked(value, now=timezone.now(), where="in the address of a request")
            text = "A token in an address ends up in logs, so it was revoked. Send tokens in the Authorization header."
            raise Broken("token_in_url", text)


class TokenScheme(OpenApiAuthenticationExtension):
    """How the schema describes the tokens; registered by being defined."""

    target_class = TokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}
