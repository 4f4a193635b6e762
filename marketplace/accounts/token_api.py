"""API tokens over the API, and the address to which everybody reports those that leaked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts import token_shapes as shapes
from marketplace.accounts.models import ApiToken
from marketplace.accounts.services import tokens
from marketplace.api import View, checked
from marketplace.preconditions import tag_of, tagged, unchanged

_NO_STORE = {"Cache-Control": "no-store"}


class TokenView(View):
    read_scope = "tokens:read"
    write_scope = "tokens:write"

    def token(self, pk: int) -> ApiToken:
        return get_object_or_404(ApiToken.objects.filter(user=self.request.user), pk=pk)

    def by(self) -> ApiToken | None:
        """The token that asks, which lets nothing come about that may more than itself."""
        return self.request.auth if isinstance(self.request.auth, ApiToken) else None


class Tokens(TokenView):
    @extend_schema(summary="Your tokens, without their secrets", responses=shapes.TokenOutput(many=True))
    def get(self, _request: Request) -> Response:
        return self.paginated(ApiToken.objects.filter(user=self.request.user), shapes.TokenOutput)

    @extend_schema(
        summary="Issue a token; the answer alone shows its secret",
        request=shapes.TokenInput,
        responses={201: shapes.TokenWithSecret},
    )
    def post(self, request: Request) -> Response:
        fields = checked(shapes.TokenInput(data=request.data))
        token, secret = tokens.issue(
            user=self.request.user,
            name=fields["name"],
            scopes=fields["scopes"],
            expires_at=timezone.now() + timedelta(days=fields["days"]),
            resources=fields["resources"],
            cap=shapes.cap_of(fields["spend_cap"]),
            by=self.by(),
        )
        return _with_secret(token, secret)


def _tag(token: ApiToken) -> str:
    return tag_of(token, without=("last_used_at",))


def _locked(token: ApiToken) -> ApiToken | None:
    return ApiToken.objects.select_for_update(no_key=True).filter(pk=token.pk).first()


class OneToken(TokenView):
    tagged = ("PATCH", "DELETE")

    @extend_schema(summary="A token and what was spent with it", responses=shapes.TokenOutput)
    def get(self, _request: Request, pk: int) -> Response:
        return self._told(self.token(pk))

    @extend_schema(
        summary="Rename a token, or change its spend cap", request=shapes.TokenChange, responses=shapes.TokenOutput
    )
    def patch(self, request: Request, pk: int) -> Response:
        fields = checked(shapes.TokenChange(data=request.data))
        token = self.token(pk)
        cap = shapes.cap_of(fields["spend_cap"]) if "spend_cap" in fields else tokens.cap_of(token)
        with unchanged(request, lock=lambda: _locked(token), tag=_tag):
            tokens.change(token=token, name=fields.get("name", token.name), cap=cap, by=self.by())
        return self._told(self.token(pk))

    @extend_schema(summary="Revoke a token", responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        token = self.token(pk)
        with unchanged(request, lock=lambda: _locked(token), tag=_tag):
            tokens.revoke(token, actor=request.user, now=timezone.now())
        return Response(status=204)

    def _told(self, token: ApiToken) -> Response:
        return tagged(Response(shapes.TokenOutput(token).data), _tag(token))


class TokenRotate(TokenView):
    @extend_schema(
        summary="Replace the secret; for some hours the earlier one goes on",
        request=shapes.TokenRotation,
        responses={201: shapes.TokenWithSecret},
    )
    def post(self, request: Request, pk: int) -> Response:
        fields = checked(shapes.TokenRotation(data=request.data))
        token = self.token(pk)
        secret = tokens.rotate(token=token, now=timezone.now(), by=self.by(), **fields)
        return _with_secret(token, secret)


def _with_secret(token: ApiToken, secret: str) -> Response:
    return Response({**shapes.TokenOutput(token).data, "secret": secret}, status=201, headers=_NO_STORE)


class Leaked(View):
    """Whoever holds a token may end it: nobody signs in, and nobody learns what there is."""

    authentication_classes: list[Any] = []
    permission_classes = [AllowAny]
    rate_bucket = "credentials"

    @extend_schema(
        operation_id="credentials_revoke",
        summary="Revoke tokens that leaked; their owners are told",
        request=shapes.LeakedInput,
        responses={202: shapes.LeakedOutput},
    )
    def post(self, request: Request) -> Response:
        fields = checked(shapes.LeakedInput(data=request.data))
        for secret in dict.fromkeys(fields["credentials"]):
            tokens.revoke_leaked(secret.strip(), now=timezone.now(), where="reported as found in a public place")
        return Response({"detail": "Those that are tokens of this site work no more."}, status=202)
