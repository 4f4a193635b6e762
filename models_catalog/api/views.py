"""Thin views: parse, fetch through visible_to, call, render."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Prefetch, QuerySet
from django.http import Http404, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace import storage
from marketplace.accounts.models import Namespace
from marketplace.api import RawBody, View, checked
from marketplace.decisions import require
from marketplace.errors import Invalid
from marketplace.preconditions import require as require_tag
from marketplace.preconditions import tag_of, tagged, unchanged
from marketplace.rest import require_within
from marketplace.throttling import FILES
from marketplace.uploads import services as uploads
from models_catalog import intents, policies, selectors
from models_catalog.api import serializers as shapes
from models_catalog.deliveries import deliver
from models_catalog.filters import SIZES, ListingFilter
from models_catalog.intent_search import Judged, judge
from models_catalog.intents import INTENTS
from models_catalog.models import Artifact, Flag, LineageEdge, Listing, Release
from models_catalog.models.licensing import Credential
from models_catalog.plain_words import in_plain_words
from models_catalog.presets import OFFERS
from models_catalog.services import licensing, lineage, offers, publishing
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
    OpenApiParameter("size", str, many=True, enum=[size for size, _ in SIZES]),
    OpenApiParameter("vendor", str),
    OpenApiParameter(
        "intent", str, many=True, description=f"What is wanted: {', '.join(INTENTS)}, users:N, country:XX, field:CODE"
    ),
]


def _found(request: Request) -> tuple[Judged, QuerySet[Listing]]:
    """Returns what the intents come to, and the listings that the filters leave. Raises Invalid (`bad_filter`,
    `bad_intent`)."""
    found = ListingFilter(request.query_params, queryset=selectors.catalog(request.user))
    if not found.is_valid():
        name, messages = next(iter(found.form.errors.items()))
        raise Invalid("bad_filter", str(messages[0]), field=name)
    return judge(intents.read(intents.stated(request.query_params))), found.qs


class ListingsView(View):
    public_read = True
    limits_itself = ("POST",)
    filters = (*ListingFilter.base_filters, *intents.PARAMETERS)

    @extend_schema(summary="Search the catalog", parameters=_FILTERS, responses=shapes.ListingOutput(many=True))
    def get(self, request: Request) -> Response:
        judged, listings = _found(request)
        return self.paginated(judged.allowing(listings), shapes.ListingOutput)

    @extend_schema(summary="Create a draft listing", request=shapes.ListingInput, responses={201: shapes.ListingOutput})
    def post(self, request: Request) -> Response:
        fields = checked(shapes.ListingInput(data=request.data))
        namespace = namespace_named(fields.pop("namespace"))
        require_within(request, namespace.name)
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


def listing_tag(listing: Listing) -> str:
    return tag_of(listing, without=("review_count", "rating_total"))


def release_tag(release: Release) -> str:
    return tag_of(release, sorted((file.path, file.sha256) for file in release.artifacts.all()))


class ListingView(View):
    public_read = True
    tagged = ("PATCH",)

    @extend_schema(summary="A listing with its newest release", responses=shapes.ListingDetailOutput)
    def get(self, request: Request, namespace: str, name: str) -> Response:
        listing = find_listing(request, namespace, name)
        return tagged(Response(self._detail(request, listing)), listing_tag(listing))

    @extend_schema(summary="Edit a listing", request=shapes.ListingEdit, responses=shapes.ListingOutput)
    def patch(self, request: Request, namespace: str, name: str) -> Response:
        listing = find_listing(request, namespace, name)
        fields = checked(shapes.ListingEdit(data=request.data))
        rows = Listing.objects.select_for_update(no_key=True).filter(pk=listing.pk)
        with unchanged(request, lock=rows.first, tag=listing_tag):
            publishing.edit_listing(user=request.user, listing=listing, **fields)
        listing = find_listing(request, namespace, name)
        return tagged(Response(shapes.ListingOutput(listing).data), listing_tag(listing))

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


def _told(release: Release) -> Response:
    return tagged(Response(shapes.ReleaseOutput(release).data), release_tag(release))


class ReleaseView(View):
    public_read = True

    @extend_schema(summary="One release", responses=shapes.ReleaseOutput)
    def get(self, request: Request, namespace: str, name: str, version: str) -> Response:
        return _told(find_release(request, namespace, name, version))


def _sent(request: Request) -> storage.Readable | storage.Blob:
    if (uid := request.query_params.get("upload")) is not None:
        upload = serializers.UUIDField().run_validation(uid)
        return uploads.content(user=request.user, uid=upload, now=timezone.now())[0]
    sent = request.FILES.get("file") or request.data  # RawBody's stream
    if not hasattr(sent, "read"):
        raise Invalid("no_file", "Send the file as the body, or as the multipart field `file`.", field="file")
    return sent


class ArtifactUpload(View):
    tagged = ("PUT",)  # by the file's own digest
    rate_bucket = FILES
    parser_classes = [MultiPartParser, RawBody]

    @extend_schema(
        summary="Add or replace a file of a draft",
        request={"application/octet-stream": OpenApiTypes.BINARY},
        parameters=[
            OpenApiParameter("X-Checksum-SHA256", str, OpenApiParameter.HEADER, description="Optional digest"),
            OpenApiParameter("upload", UUID, description="An upload in pieces that is whole, in the place of a body"),
        ],
        responses={201: shapes.ArtifactOutput},
    )
    def put(self, request: Request, namespace: str, name: str, version: str, path: str) -> Response:
        release = find_release(request, namespace, name, version)
        require(policies.may_edit_release(request.user, release, path=path))
        publishing.check_path(path)
        require_tag(request, _file_tag(release, path))  # before gigabytes arrive, and again once they have
        blob = storage.settle(
            _sent(request),
            max_bytes=settings.MAX_ARTIFACT_BYTES,
            expected_sha256=request.headers.get("X-Checksum-SHA256", ""),
        )
        rows = Release.objects.select_for_update(no_key=True).filter(pk=release.pk)
        with unchanged(request, lock=rows.first, tag=lambda row: _file_tag(row, path)):
            artifact = publishing.attach_artifact(user=request.user, release=release, path=path, blob=blob)
        return tagged(Response(shapes.ArtifactOutput(artifact).data, status=201), f'"{artifact.sha256}"')

    @extend_schema(
        summary="Download a file under your license", responses={(200, "application/octet-stream"): OpenApiTypes.BINARY}
    )
    def get(self, request: Request, namespace: str, name: str, version: str, path: str) -> HttpResponseBase:
        release = find_release(request, namespace, name, version)
        artifact = get_object_or_404(release.artifacts, path=path)
        return deliver(
            request._request,  # noqa: SLF001 - DRF's own way to Django's request
            user=request.user,
            release=release,
            artifact=artifact,
            credential=Credential.TOKEN if request.auth else Credential.SESSION,
            now=timezone.now(),
        )


def _file_tag(release: Release, path: str) -> str | None:
    """Returns the ETag that a download of the file has; None where it is not there."""
    sha256 = Artifact.objects.filter(release=release, path=path).values_list("sha256", flat=True).first()
    return f'"{sha256}"' if sha256 else None


class ReleaseAction(View):
    """Base of the acts on a release that take no body. If-Match names the release as it was read: what was looked at is
    what is submitted, published or withdrawn."""

    tagged = ("POST",)

    def act(self, request: Request, release: Release) -> None:
        raise NotImplementedError

    @extend_schema(request=None, responses=shapes.ReleaseOutput)
    def post(self, request: Request, namespace: str, name: str, version: str) -> Response:
        release = find_release(request, namespace, name, version)
        with unchanged(request, lock=lambda: Release.objects.locked(release.pk), tag=release_tag):
            self.act(request, release)
        return _told(find_release(request, namespace, name, version))


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
