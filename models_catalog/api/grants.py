"""Licenses over the API: accept, try, renew, revoke, pass on; seats, keys, receipts, license files."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace import signing
from marketplace.accounts.models import Namespace
from marketplace.api import View, checked
from marketplace.idempotency import idempotent, require_key
from marketplace.inputs import JsonBody
from models_catalog import policies, selectors
from models_catalog.api import grant_shapes as shapes
from models_catalog.api.money_shapes import OrderOutput
from models_catalog.api.views import find_listing, namespace_named
from models_catalog.declarations import Declaration
from models_catalog.models import Acceptance, Grant, GrantTransfer, Order, Release, Seat
from models_catalog.models.licensing import GrantState
from models_catalog.services import consent, grants, keys, licensing, offline, seats
from models_catalog.services.consent import Origin


def origin(request: Request) -> Origin:
    return Origin("api", request.META.get("REMOTE_ADDR", ""))


class LicenseView(View):
    """Base of the views of what somebody holds."""

    read_scope = "licenses:read"
    write_scope = "licenses:write"

    def grant(self, pk: uuid.UUID) -> Grant:
        return get_object_or_404(selectors.grants_shown(self.request.user), pk=pk)

    def detail(self, pk: uuid.UUID) -> dict[str, Any]:
        return dict(shapes.GrantDetailOutput(self.grant(pk)).data)


def taken(accepted: Grant | Order) -> Response:
    """Answers an acceptance: the grant, or the order that leads to it."""
    if isinstance(accepted, Order):
        return Response(OrderOutput(accepted).data, status=202)
    return Response(shapes.GrantOutput(accepted).data, status=201)


class ListingGrants(LicenseView):
    @extend_schema(summary="Your grants of a listing", responses=shapes.GrantOutput(many=True))
    def get(self, request: Request, namespace: str, name: str) -> Response:
        listing = find_listing(request, namespace, name)
        held = selectors.licenses_of(request.user).filter(listing=listing)
        return self.paginated(held, shapes.GrantOutput, ordering="-accepted_at")

    @extend_schema(
        summary="Accept the terms, by their hash",
        request=shapes.GrantInput,
        responses={201: shapes.GrantOutput, 202: OrderOutput},
    )
    @idempotent()
    def post(self, request: Request, namespace: str, name: str) -> Response:
        listing = find_listing(request, namespace, name)
        fields = checked(shapes.GrantInput(data=request.data))
        if listing.latest_release is None:
            raise Http404
        release = listing.latest_release
        given = {
            "user": request.user,
            "release": release,
            "terms_hash": fields["terms_hash"],
            "licensee": namespace_named(fields["licensee"], field="licensee") if "licensee" in fields else None,
            "now": timezone.now(),
            "origin": origin(request),
            "declaration": _declared(fields),
        }
        if fields["trial"]:
            return taken(licensing.start_trial(**given))
        if _costs_money(request, release, fields["terms_hash"], given["licensee"]):
            require_key(request)
        return taken(licensing.accept_terms(**given, payment=fields["payment"]))


def _declared(fields: dict[str, Any]) -> Declaration:
    return Declaration(**fields.get("declaration", {}))


def _costs_money(request: Request, release: Release, terms_hash: str, licensee: Namespace | None) -> bool:
    """Would accepting place an order that is to be paid?"""
    if not release.terms.price_minor or terms_hash != release.terms.terms_hash:
        return False
    return policies.may_license(request.user, release, now=timezone.now(), holder=licensee).allowed


class Grants(LicenseView):
    filters = ("status", "licensee", "listing", "side")

    @extend_schema(
        summary="Licenses that you and your organizations hold, or with side=vendor have given",
        parameters=[
            OpenApiParameter("status", str, enum=GrantState.values),
            OpenApiParameter("licensee", str, description="A namespace"),
            OpenApiParameter("listing", str, description="namespace/name"),
            OpenApiParameter("side", str, enum=["licensee", "vendor"]),
        ],
        responses=shapes.GrantOutput(many=True),
    )
    def get(self, request: Request) -> Response:
        rows = selectors.grants_of(request.user, request.query_params, now=timezone.now())
        return self.paginated(rows, shapes.GrantOutput, ordering="-accepted_at")


class GrantView(LicenseView):
    @extend_schema(summary="One license", responses=shapes.GrantDetailOutput)
    def get(self, request: Request, pk: uuid.UUID) -> Response:
        return Response(self.detail(pk))


class Renewal(LicenseView):
    @extend_schema(
        summary="Accept the terms for another term",
        request=shapes.RenewalInput,
        responses={201: shapes.GrantOutput, 202: OrderOutput},
    )
    @idempotent()
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        fields, grant = checked(shapes.RenewalInput(data=request.data)), self.grant(pk)
        if grant.terms.price_minor and policies.may_renew(request.user, grant, now=timezone.now()).allowed:
            require_key(request)
        renewed = licensing.renew(
            user=request.user,
            grant=grant,
            terms_hash=fields["terms_hash"],
            payment=fields["payment"],
            now=timezone.now(),
            origin=origin(request),
            declaration=_declared(fields),
        )
        return taken(renewed)


class Statement(LicenseView):
    @extend_schema(
        summary="State anew what the terms ask of their licensee",
        request=shapes.DeclarationInput,
        responses=shapes.GrantDetailOutput,
    )
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        declaration = Declaration(**checked(shapes.DeclarationInput(data=request.data)))
        grant, now = self.grant(pk), timezone.now()
        licensing.state(user=request.user, grant=grant, declaration=declaration, now=now, origin=origin(request))
        return Response(self.detail(pk))


class Revocation(LicenseView):
    @extend_schema(
        summary="End a license that was broken, as its vendor",
        request=shapes.ReasonInput,
        responses=shapes.GrantDetailOutput,
    )
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        reason = checked(shapes.ReasonInput(data=request.data))["reason"]
        grants.revoke(grant=self.grant(pk), actor=request.user, reason=reason, now=timezone.now())
        return Response(self.detail(pk))


class Seats(LicenseView):
    @extend_schema(summary="Who has a seat", responses=shapes.SeatOutput(many=True))
    def get(self, request: Request, pk: uuid.UUID) -> Response:
        rows = selectors.seats_of(self.grant(pk), now=timezone.now())
        return self.paginated(rows, shapes.SeatOutput, ordering="id")

    @extend_schema(
        summary="Give a member, or one token of theirs, a seat",
        request=shapes.SeatInput,
        responses={201: shapes.SeatOutput},
    )
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        fields = checked(shapes.SeatInput(data=request.data))
        seat = seats.assign(
            grant=self.grant(pk),
            actor=request.user,
            username=fields["username"],
            token_id=fields.get("token"),
            now=timezone.now(),
        )
        return Response(shapes.SeatOutput(seat).data, status=201)


class SeatView(LicenseView):
    @extend_schema(summary="Free a seat", responses={204: None})
    def delete(self, request: Request, pk: uuid.UUID, seat: int) -> Response:
        rows = Seat.objects.filter(grant=self.grant(pk)).select_related("grant__licensee", "grant__listing__namespace")
        seats.release(seat=get_object_or_404(rows, pk=seat), actor=request.user, now=timezone.now())
        return Response(status=204)


class Key(LicenseView):
    @extend_schema(
        summary="Make the license key, or another in its place", request=None, responses={201: shapes.KeyOutput}
    )
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        key, text = keys.rotate(grant=self.grant(pk), actor=request.user, now=timezone.now())
        return Response({"key": text, "hint": key.hint}, status=201, headers={"Cache-Control": "no-store"})

    @extend_schema(summary="End the license key", responses={204: None})
    def delete(self, request: Request, pk: uuid.UUID) -> Response:
        keys.revoke(grant=self.grant(pk), actor=request.user, now=timezone.now())
        return Response(status=204)


class LicenseFile(LicenseView):
    @extend_schema(
        summary="The signed license file, for machines without a network",
        responses={(200, "text/plain"): OpenApiTypes.STR},
    )
    def get(self, request: Request, pk: uuid.UUID) -> HttpResponse:
        text = offline.license_file(grant=self.grant(pk), actor=request.user, now=timezone.now())
        return HttpResponse(text, content_type="text/plain; charset=utf-8")


class ConsentReceipt(LicenseView):
    @extend_schema(summary="The signed receipt of the acceptance", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, pk: uuid.UUID) -> Response:
        rows = Acceptance.objects.visible_to(request.user).filter(grants=self.grant(pk))
        return Response(consent.receipt(get_object_or_404(selectors.with_receipt_facts(rows))))


class Transfers(LicenseView):
    @extend_schema(summary="Offers to pass a license on, yours and to you", responses=shapes.TransferOutput(many=True))
    def get(self, request: Request) -> Response:
        return self.paginated(selectors.transfers_shown(request.user), shapes.TransferOutput, ordering="-offered_at")


class GrantTransferOffer(LicenseView):
    @extend_schema(
        summary="Offer a license to another licensee",
        request=shapes.RecipientInput,
        responses={201: shapes.TransferOutput},
    )
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        name = checked(shapes.RecipientInput(data=request.data))["recipient"]
        recipient = namespace_named(name, field="recipient")
        offer = grants.offer_transfer(grant=self.grant(pk), actor=request.user, recipient=recipient, now=timezone.now())
        return Response(shapes.TransferOutput(offer).data, status=201)


class TransferView(LicenseView):
    def transfer(self, pk: uuid.UUID) -> GrantTransfer:
        return get_object_or_404(selectors.transfers_shown(self.request.user), pk=pk)

    @extend_schema(summary="One offer", responses=shapes.TransferOutput)
    def get(self, request: Request, pk: uuid.UUID) -> Response:
        return Response(shapes.TransferOutput(self.transfer(pk)).data)

    @extend_schema(summary="Withdraw or decline an offer", responses={204: None})
    def delete(self, request: Request, pk: uuid.UUID) -> Response:
        grants.withdraw_transfer(transfer=self.transfer(pk), actor=request.user, now=timezone.now())
        return Response(status=204)


class TransferAcceptance(TransferView):
    http_method_names = ["post", "options"]

    @extend_schema(
        summary="Take over a license that is offered to you",
        request=shapes.TermsHashInput,
        responses={201: shapes.GrantOutput},
    )
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        fields = checked(shapes.TermsHashInput(data=request.data))
        grant = grants.accept_transfer(
            transfer_id=self.transfer(pk).pk,
            actor=request.user,
            terms_hash=fields["terms_hash"],
            now=timezone.now(),
            origin=origin(request),
            declaration=_declared(fields),
        )
        return Response(shapes.GrantOutput(grant).data, status=201)


class VendorJson(JsonBody):
    """What Keygen's clients send."""

    media_type = "application/vnd.api+json"


class ValidateKey(View):
    """The key is the proof: nobody signs in."""

    authentication_classes: list[Any] = []
    permission_classes = [AllowAny]
    parser_classes = [JsonBody, VendorJson]
    rate_bucket = "license_key"  # guessing must not pay

    @extend_schema(
        summary="Is a license key good for this use? (as Keygen's validate-key)",
        request=shapes.ValidateKeyInput,
        responses=shapes.ValidationOutput,
    )
    def post(self, request: Request) -> Response:
        meta = checked(shapes.ValidateKeyInput(data=request.data))["meta"]
        scope, now = dict(meta.get("scope", {})), timezone.now()
        found = keys.validate(text=meta["key"], scope=keys.Scope(**scope), now=now)
        answer = {"valid": found.valid, "detail": found.detail, "code": found.code.value}
        asked = {name: value for name, value in scope.items() if value}
        return Response({**answer, "meta": {**answer, "ts": now.isoformat(), "scope": asked}, "data": _data(found)})


def _data(found: keys.Validation) -> dict[str, Any] | None:
    if found.key is None:
        return None
    grant = found.key.grant
    attributes = {
        "product": str(grant.listing),
        "status": grant.state.value,
        "expiry": grant.expires_at.isoformat() if grant.expires_at else None,
        "maxUsers": grant.seats or None,
    }
    return {"type": "licenses", "id": str(grant.pk), "attributes": attributes}


class SigningKey(View):
    public_read = True

    @extend_schema(summary="The key that this site signs with", responses=OpenApiTypes.OBJECT)
    def get(self, _request: Request) -> Response:
        key = signing.public_key()
        return Response({"algorithm": signing.ALGORITHM, "key_id": signing.key_id(key), "pem": signing.public_pem()})
