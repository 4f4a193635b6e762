"""Requests for access over the API: asked, listed, withdrawn; approved and rejected by the vendor."""

from __future__ import annotations

import uuid

from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.api import View, checked
from models_catalog import selectors
from models_catalog.api import grant_shapes as shapes
from models_catalog.api.views import find_listing, namespace_named
from models_catalog.models import AccessRequest
from models_catalog.models.licensing import RequestStatus
from models_catalog.services import access


class AccessRequestView(View):
    read_scope = "licenses:read"
    write_scope = "licenses:write"

    def one(self, pk: uuid.UUID) -> AccessRequest:
        return get_object_or_404(selectors.access_requests_shown(self.request.user), pk=pk)

    def answer(self, pk: uuid.UUID) -> Response:
        return Response(shapes.AccessRequestOutput(self.one(pk)).data)


class AccessRequests(AccessRequestView):
    filters = ("status", "listing", "side")

    @extend_schema(
        summary="Requests for access that you made, or with side=vendor those that you decide",
        parameters=[
            OpenApiParameter("status", str, enum=RequestStatus.values),
            OpenApiParameter("listing", str, description="namespace/name"),
            OpenApiParameter("side", str, enum=["requester", "vendor"]),
        ],
        responses=shapes.AccessRequestOutput(many=True),
    )
    def get(self, request: Request) -> Response:
        rows = selectors.access_requests_of(request.user, request.query_params)
        return self.paginated(rows, shapes.AccessRequestOutput, ordering="-created_at")

    @extend_schema(
        summary="Ask a vendor for access",
        request=shapes.AccessRequestInput,
        responses={201: shapes.AccessRequestOutput},
    )
    def post(self, request: Request) -> Response:
        fields = checked(shapes.AccessRequestInput(data=request.data))
        listing = find_listing(request, *fields["listing"].split("/"))
        if listing.latest_release is None:
            raise Http404
        asked = access.request_access(
            user=request.user,
            release=listing.latest_release,
            reason=fields["reason"],
            licensee=namespace_named(fields["licensee"], field="licensee") if "licensee" in fields else None,
            now=timezone.now(),
        )
        return Response(shapes.AccessRequestOutput(self.one(asked.pk)).data, status=201)


class AccessRequestDetail(AccessRequestView):
    @extend_schema(summary="One request for access", responses=shapes.AccessRequestOutput)
    def get(self, request: Request, pk: uuid.UUID) -> Response:
        return self.answer(pk)


class Cancellation(AccessRequestView):
    @extend_schema(summary="Withdraw a request", request=None, responses=shapes.AccessRequestOutput)
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        access.cancel_request(request=self.one(pk), actor=request.user, now=timezone.now())
        return self.answer(pk)


class Approval(AccessRequestView):
    @extend_schema(summary="Approve, as the vendor", request=shapes.ApprovalInput, responses=shapes.AccessRequestOutput)
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        answer = checked(shapes.ApprovalInput(data=request.data))["answer"]
        access.decide_request(
            request_id=self.one(pk).pk, actor=request.user, approve=True, answer=answer, now=timezone.now()
        )
        return self.answer(pk)


class Rejection(AccessRequestView):
    @extend_schema(
        summary="Reject with a reason, as the vendor",
        request=shapes.RejectionInput,
        responses=shapes.AccessRequestOutput,
    )
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        fields = checked(shapes.RejectionInput(data=request.data))
        access.decide_request(
            request_id=self.one(pk).pk,
            actor=request.user,
            approve=False,
            answer=fields["reason"],
            ask_again_days=fields["ask_again_days"],
            now=timezone.now(),
        )
        return self.answer(pk)
