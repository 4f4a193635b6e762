"""Incidents: what happened upstream, whom it affects; quarantine, for the site's staff."""

from __future__ import annotations

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.api import View
from models_catalog import selectors
from models_catalog.api import serializers as shapes
from models_catalog.api.views import ReleaseAction
from models_catalog.models import Release
from models_catalog.services import quarantine


class IncidentView(View):
    public_read = True

    @extend_schema(summary="What happened to a release that others were made from", responses=shapes.CauseOutput)
    def get(self, request: Request, pk: int) -> Response:
        return Response(shapes.CauseOutput(get_object_or_404(selectors.incident_of(request.user, pk))).data)


class Affected(View):
    public_read = True

    @extend_schema(summary="Releases that are flagged for it", responses=shapes.AffectedOutput(many=True))
    def get(self, request: Request, pk: int) -> Response:
        incident = get_object_or_404(selectors.incident_of(request.user, pk))
        return self.paginated(selectors.affected_by(incident, request.user), shapes.AffectedOutput)


class Quarantine(ReleaseAction):
    @extend_schema(
        summary="Stop a release from being served (staff)",
        request=shapes.QuarantineInput,
        responses=shapes.ReleaseOutput,
    )
    def post(self, request: Request, namespace: str, name: str, version: str) -> Response:
        return super().post(request, namespace, name, version)

    def act(self, request: Request, release: Release) -> None:
        body = shapes.QuarantineInput(data=request.data)
        body.is_valid(raise_exception=True)
        reason = body.validated_data["reason"]
        quarantine.quarantine(user=request.user, release=release, reason=reason, now=timezone.now())


class Lift(ReleaseAction):
    def act(self, request: Request, release: Release) -> None:
        quarantine.lift(user=request.user, release=release, now=timezone.now())
