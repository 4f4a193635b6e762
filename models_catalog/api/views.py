"""Thin views: parse, fetch through visible_to, call, render."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import Prefetch, QuerySet
from django.http import Http404, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace import downloads, storage
from marketplace.accounts.models import Namespace
from marketplace.api import RawBody, View, checked
from marketplace.clients import asker
from marketplace.decisions import require
from marketplace.errors import Invalid
from models_catalog import intents, policies, selectors
from models_catalog.api import serializers as shapes
from models_catalog.intent_search import Judged, judge
from models_catalog.intents import INTENTS
from models_catalog.models import Flag, LineageEdge, Listing, Release
from models_catalog.models.licensing import Credential
from models_catalog.plain_words import in_plain_words
from models_catalog.presets import OFFERS
from models_catalog.services import licensing, lineage, offers, publishing, seats
from models_catalog.terms import Terms, as_json


def find_listing(request: Request, namespace: str, name: str) -> Listing:
    return get_object_or_404(selectors.listing_of(request.user, namespace, name))


def find_release(request: Request, namespace: str, name: str, version: str) -> Release:
    release = selectors.release_with_files(request.user, find_listing(request, namespace, name), version)
    if release is None:
        raise Http404
    return release


def namespace_named(name: str, *, field: str = "namespace") -> Namespace:
    namespace = Namespace.objects.filter(name__iexact=name[: selectors.MAX_NAME]).first()
    if namespace is None:
        raise Invalid("namespace_unknown", f"There is no namespace {name}.", field=field)
    return namespace


_FILTERS = [
    OpenApiParameter("search", str, description="Words of the name, summary, architecture or vendor"),
    OpenApiParameter("task", str, many=True),
    OpenApiParameter("framework", str, many=True),
    OpenApiParameter("right", str, many=True, description="Rights that the license must allow"),
    OpenApiParameter("price", str, many=True, enum=["free", "paid"]),
    OpenApiParameter("size", str, many=True, enum=[size for size, _ in selectors.SIZES]),
    OpenApiParameter("vendor", str),
    OpenApiParameter(
        "intent", str, many=True, description=f"What is wanted: {', '.join(INTENTS)}, users:N, country:XX, field:CODE"
    ),
]


def _found(request: Request) -> tuple[Judged, QuerySet[Listing]]:
    """Returns what the intents come to, and the listings that the filters leave. Raises Invalid (`bad_filter`,
    `bad_intent`)."""
    found = selectors.ListingFilter(request.query_params, queryset=selectors.catalog(request.user))
    if not found.is_valid():
        name, messages = next(iter(found.form.errors.items()))
        raise Invalid("bad_filter", str(messages[0]), field=name)
    return judge(intents.read(intents.stated(request.query_params))), found.qs


class ListingsView(View):
    public_read = True
    filters = (*selectors.ListingFilter.base_filters, *intents.PARAMETERS)

    @extend_schema(summary="Search the catalog", parameters=_FILTERS, responses=shapes.ListingOutput(many=True))
    def get(self, request: Request) -> Response:
        judged, listings = _found(request)
        return self.paginated(judged.allowing(listings), shapes.ListingOutput)

    @extend_schema(summary="Create a draft listing", request=shapes.ListingInput, responses={201: shapes.ListingOutput})
    def post(self, request: Request) -> Response:
        fields = checked(shapes.ListingInput(data=request.data))
        namespace = namespace_named(fields.pop("namespace"))
        listing = publishing.create_listing(user=request.user, namespace=namespace, **fields)
        return Response(shapes.ListingOutput(listing).data, status=201)


class ExcludedView(View):
    public_read = True
    filters = ListingsView.filters

    @extend_schema(
        summary="What the catalog's search leaves out for the intents, and why",
        parameters=_FILTERS,
        responses=shapes.ExcludedOutput(many=True),
    )
    def get(self, request: Request) -> Response:
        judged, listings = _found(request)
        return self.paginated(
            judged.excluded(listings),
            lambda rows, **kept: shapes.ExcludedOutput([judged.explain(row) for row in rows], **kept),
        )


class ListingView(View):
    public_read = True

    @extend_schema(summary="A listing with its newest release", responses=shapes.ListingDetailOutput)
    def get(self, request: Request, namespace: str, name: str) -> Response:
        listing = find_listing(request, namespace, name)
        return Response(self._detail(request, listing))

    @extend_schema(summary="Edit a listing", request=shapes.ListingEdit, responses=shapes.ListingOutput)
    def patch(self, request: Request, namespace: str, name: str) -> Response:
        listing = find_listing(request, namespace, name)
        fields = checked(shapes.ListingEdit(data=request.data))
        publishing.edit_listing(user=request.user, listing=listing, **fields)
        return Response(shapes.ListingOutput(listing).data)

    def _detail(self, request: Request, listing: Listing) -> dict[str, Any]:
        release = selectors.release_with_files(request.user, listing)
        decisions = policies.actions(request.user, release, now=timezone.now()) if release else {}
        return {
            **shapes.ListingOutput(listing).data,
            "release": shapes.ReleaseOutput(release).data if release else None,
            "actions": {name: shapes.DecisionOutput(decision).data for name, decision in decisions.items()},
            "versions": list(
                Release.objects.visible_to(request.user).filter(listing=listing).values_list("version", flat=True)
            ),
        }


class ReleasesView(View):
    public_read = True

    @extend_schema(summary="Releases of a listing", responses=shapes.ReleaseOutput(many=True))
    def get(self, request: Request, namespace: str, name: str) -> Response:
        listing = find_listing(request, namespace, name)
        releases = (
            Release.objects.visible_to(request.user)
            .filter(listing=listing)
            .select_related("terms")
            .prefetch_related(
                "artifacts",
                Prefetch("parent_edges", LineageEdge.objects.shown_to(request.user)),
                Prefetch("flags", Flag.objects.shown_to(request.user)),
            )
        )
        return self.paginated(releases, shapes.ReleaseOutput)

    @extend_schema(summary="Create a draft release", request=shapes.ReleaseInput, responses={201: shapes.ReleaseOutput})
    def post(self, request: Request, namespace: str, name: str) -> Response:
        fields = checked(shapes.ReleaseInput(data=request.data))
        price = {"price_minor": fields["price_minor"], "currency": fields["currency"]}
        value = offers.compose({**price, **fields["terms"]}, start=fields["license"])
        release = publishing.draft(
            user=request.user,
            listing=find_listing(request, namespace, name),
            version=fields["version"],
            terms=licensing.terms_row(value),
            notes=fields["notes"],
        )
        return Response(shapes.ReleaseOutput(find_release(request, namespace, name, release.version)).data, status=201)


class TermsView(View):
    public_read = True

    @extend_schema(summary="What a vendor's terms start from", responses=shapes.OfferOutput(many=True))
    def get(self, _request: Request) -> Response:
        results = [_offer(key, terms) for key, terms in OFFERS.items()]
        return Response({"next": None, "previous": None, "results": results})

    @extend_schema(
        summary="Compose terms and read them in plain words; nothing is stored",
        request=shapes.TermsInput,
        responses=shapes.OfferOutput,
    )
    def post(self, request: Request) -> Response:
        fields = checked(shapes.TermsInput(data=request.data))
        return Response(_offer(fields["start"], offers.compose(fields["terms"], start=fields["start"])))


def _offer(start: str, terms: Terms) -> dict[str, Any]:
    shown = {"start": start, "terms_hash": terms.terms_hash, "document": as_json(terms)}
    return dict(shapes.OfferOutput({**shown, "plain": in_plain_words(terms)}).data)


class ReleaseView(View):
    public_read = True

    @extend_schema(summary="One release", responses=shapes.ReleaseOutput)
    def get(self, request: Request, namespace: str, name: str, version: str) -> Response:
        return Response(shapes.ReleaseOutput(find_release(request, namespace, name, version)).data)


class ArtifactUpload(View):
    parser_classes = [MultiPartParser, RawBody]

    @extend_schema(
        summary="Add or replace a file of a draft",
        request={"application/octet-stream": OpenApiTypes.BINARY},
        parameters=[OpenApiParameter("X-Checksum-SHA256", str, OpenApiParameter.HEADER, description="Optional digest")],
        responses={201: shapes.ArtifactOutput},
    )
    def put(self, request: Request, namespace: str, name: str, version: str, path: str) -> Response:
        release = find_release(request, namespace, name, version)
        require(policies.may_edit_release(request.user, release, path=path))
        publishing.check_path(path)
        upload = request.FILES.get("file") or request.data  # RawBody's stream
        if not hasattr(upload, "read"):
            raise Invalid("file_missing", "Send the file as the body, or as the multipart field `file`.", field="file")
        blob = storage.put(
            upload, max_bytes=settings.MAX_ARTIFACT_BYTES, expected_sha256=request.headers.get("X-Checksum-SHA256", "")
        )
        artifact = publishing.attach_artifact(user=request.user, release=release, path=path, blob=blob)
        return Response(shapes.ArtifactOutput(artifact).data, status=201)

    @extend_schema(
        summary="Download a file under your license", responses={(200, "application/octet-stream"): OpenApiTypes.BINARY}
    )
    def get(self, request: Request, namespace: str, name: str, version: str, path: str) -> HttpResponseBase:
        release = find_release(request, namespace, name, version)
        artifact = get_object_or_404(release.artifacts, path=path)
        require(policies.may_download(request.user, release, now=timezone.now()))
        seats.use(user=request.user, release=release, now=timezone.now())
        plain = request._request  # noqa: SLF001 - DRF's own way to Django's request
        filename = path.rpartition("/")[2]
        response = downloads.blob_response(plain, sha256=artifact.sha256, size=artifact.bytes, filename=filename)
        if downloads.is_a_download(plain, response):
            licensing.record_download(
                artifact=artifact,
                user=request.user,
                asker=asker(request.headers.get("User-Agent", "")),
                credential=Credential.TOKEN if request.auth else Credential.SESSION,
                now=timezone.now(),
            )
        return response


class ReleaseAction(View):
    """Base of the acts on a release that take no body."""

    def act(self, request: Request, release: Release) -> None:
        raise NotImplementedError

    @extend_schema(request=None, responses=shapes.ReleaseOutput)
    def post(self, request: Request, namespace: str, name: str, version: str) -> Response:
        release = find_release(request, namespace, name, version)
        self.act(request, release)
        return Response(shapes.ReleaseOutput(find_release(request, namespace, name, version)).data)


class Submit(ReleaseAction):
    def act(self, request: Request, release: Release) -> None:
        publishing.submit(user=request.user, release=release)


class Publish(ReleaseAction):
    def act(self, request: Request, release: Release) -> None:
        publishing.publish(user=request.user, release=release, now=timezone.now())


class Yank(ReleaseAction):
    @extend_schema(request=shapes.YankInput, responses=shapes.ReleaseOutput)
    def post(self, request: Request, namespace: str, name: str, version: str) -> Response:
        return super().post(request, namespace, name, version)

    def act(self, request: Request, release: Release) -> None:
        reason = checked(shapes.YankInput(data=request.data))["reason"]
        publishing.yank(user=request.user, release=release, reason=reason, now=timezone.now())


class Parents(View):
    @extend_schema(
        summary="Declare what a draft was made from", request=shapes.ParentInput, responses={201: shapes.ReleaseOutput}
    )
    def post(self, request: Request, namespace: str, name: str, version: str) -> Response:
        fields = checked(shapes.ParentInput(data=request.data))
        owner, _, listing = fields["listing"].partition("/")
        lineage.declare(
            user=request.user,
            release=find_release(request, namespace, name, version),
            parent=find_release(request, owner, listing, fields["version"]),
            relation=fields["relation"],
            now=timezone.now(),
        )
        return Response(shapes.ReleaseOutput(find_release(request, namespace, name, version)).data, status=201)
