"""The vendor's desk over the API: figures and lists that the desk's pages show too."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from marketplace.api import View
from marketplace.decisions import require
from marketplace.errors import Invalid
from models_catalog import policies
from models_catalog.api import desk_shapes as shapes
from models_catalog.api.views import find_listing
from models_catalog.desks import statistics, vendor
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


class SectionView(View):
    """One list of the vendor's desk; each subclass names its section and its shape."""

    section = ""
    shape: type[Serializer[Any]]
    filters = ("q", "status", "listing")

    def get(self, request: Request) -> Response:
        shown = vendor.SECTIONS[self.section]
        status = request.query_params.get("status", "")
        if status and status not in dict(shown.statuses):
            raise Invalid("bad_filter", f"status is one of {', '.join(dict(shown.statuses))}.", field="status")
        rows = vendor.narrowed(shown, shown.rows(request.user), request.query_params)
        return self.paginated(rows, self.shape, ordering=shown.ordering)


_FILTERS = [
    OpenApiParameter("q", str, description="Words to look for"),
    OpenApiParameter("status", str, description="A state of these rows"),
    OpenApiParameter("listing", str, description="namespace/name"),
]


def _described(summary: str, shape: type[Serializer[Any]]) -> Any:
    return extend_schema(summary=summary, parameters=_FILTERS, responses=shape(many=True))


@extend_schema_view(get=_described("Your listings with their figures", shapes.DeskListingOutput))
class DeskListings(SectionView):
    section, shape = "listings", shapes.DeskListingOutput


@extend_schema_view(get=_described("Every release of your listings", shapes.DeskReleaseOutput))
class DeskReleases(SectionView):
    section, shape = "releases", shapes.DeskReleaseOutput


@extend_schema_view(get=_described("Access requests to you", shapes.DeskRequestOutput))
class DeskRequests(SectionView):
    section, shape = "requests", shapes.DeskRequestOutput


@extend_schema_view(get=_described("Licenses of your listings", shapes.DeskGrantOutput))
class DeskGrants(SectionView):
    section, shape = "grants", shapes.DeskGrantOutput


@extend_schema_view(get=_described("Orders of your listings", shapes.DeskOrderOutput))
class DeskOrders(SectionView):
    section, shape = "sales", shapes.DeskOrderOutput


@extend_schema_view(get=_described("Royalties to and from you", shapes.DeskRoyaltyOutput))
class DeskRoyalties(SectionView):
    section, shape = "royalties", shapes.DeskRoyaltyOutput


@extend_schema_view(get=_described("Reviews of your listings", shapes.DeskReviewOutput))
class DeskReviews(SectionView):
    section, shape = "reviews", shapes.DeskReviewOutput


@extend_schema_view(get=_described("Questions about your listings", shapes.DeskQuestionOutput))
class DeskQuestions(SectionView):
    section, shape = "questions", shapes.DeskQuestionOutput
