"""The vendor's desk over the API: figures and lists that the desk's pages show too."""

from __future__ import annotations

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.api import View
from marketplace.decisions import require
from marketplace.errors import Invalid
from models_catalog import policies
from models_catalog.api import desk_shapes as shapes
from models_catalog.api.views import find_listing
from models_catalog.desks import statistics
from models_catalog.models import Listing


class StatisticsView(View):
    @extend_schema(
        summary="Downloads of your listing: users a day, by release and by client",
        parameters=[OpenApiParameter("days", int, enum=statistics.WINDOWS, description="Window that ends today (UTC)")],
        responses=shapes.StatisticsOutput,
    )
    def get(self, request: Request, namespace: str, name: str) -> Response:
        listing = find_listing(request, namespace, name)
        require(policies.may_manage(request.user, listing))
        asked = request.query_params.get("days", str(statistics.DEFAULT_WINDOW))
        days = statistics.window(asked)
        if days is None:
            raise Invalid("bad_filter", f"days is one of {', '.join(map(str, statistics.WINDOWS))}.", field="days")
        rows = Listing.objects.filter(pk=listing.pk)
        found = statistics.statistics(rows, until=timezone.localdate(), days=days)
        return Response(shapes.StatisticsOutput(found).data)
