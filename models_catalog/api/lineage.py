"""Where a release comes from and what must go along with it, for programs."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponseBase
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from finetuning.engine.spec import SIGNED_RECEIPT_FILE
from marketplace import downloads
from marketplace.api import View
from marketplace.clients import asker
from marketplace.decisions import require
from marketplace.throttling import FILES
from models_catalog import ancestry, origins, policies
from models_catalog.api.views import find_release
from models_catalog.family import family
from models_catalog.models import Release
from models_catalog.models.licensing import Credential
from models_catalog.services import licensing, obligations, seats

_BINARY = {(200, "application/zip"): OpenApiTypes.BINARY}


class LinkOutput(serializers.Serializer[Any]):
    child = serializers.CharField(help_text="The key of a node")
    # DRF's metaclass takes declared fields away: `parent` of its own stays what it is.
    parent = serializers.CharField(help_text="The key of a node")  # type: ignore[assignment]
    relation = serializers.CharField()


class NodeOutput(serializers.Serializer[Any]):
    """A model that does not exist for the reader is there by its digest alone."""

    key = serializers.CharField()
    generation = serializers.IntegerField(help_text="Below 0: ancestors; above 0: what was made from the release")
    kind = serializers.ChoiceField(choices=["model", "private_model", "dataset"])
    release = serializers.SerializerMethodField()
    dataset = serializers.SerializerMethodField()
    sha256 = serializers.CharField(source="digest")
    status = serializers.CharField(source="release.status", default=None, allow_null=True)
    terms = serializers.CharField(source="terms_name", help_text="By name; empty where nothing is told")
    terms_hash = serializers.CharField(source="release.terms.terms_hash", default=None, allow_null=True)
    is_flagged = serializers.BooleanField(help_text="An ancestor of it was withdrawn or quarantined")
    receipt = serializers.SerializerMethodField(help_text="The path of the file with its signed evaluation")

    def get_release(self, node: Any) -> str | None:
        return node.title if node.release else None

    def get_dataset(self, node: Any) -> str | None:
        return node.title if node.is_dataset else None

    def get_receipt(self, node: Any) -> str | None:
        return SIGNED_RECEIPT_FILE if node.has_receipt else None


class ClauseOutput(serializers.Serializer[Any]):
    """A clause of the release's terms and the ancestor that decided it; an empty origin is the vendor's own choice."""

    clause = serializers.CharField(help_text="rights.fine_tune, prohibited_uses.surveillance, ...")
    words = serializers.CharField()
    answer = serializers.CharField(help_text="Of a right: allowed, with consent, not allowed")
    origin = serializers.CharField()


class FamilyOutput(serializers.Serializer[Any]):
    nodes = NodeOutput(many=True)
    links = LinkOutput(many=True)
    clauses = ClauseOutput(many=True)
    clashes = serializers.ListField(
        child=serializers.DictField(), help_text="Why nothing that this was made of can be shared together"
    )
    is_whole = serializers.BooleanField(help_text="False where the lineage is too large to be told at once")


class DocumentOutput(serializers.Serializer[Any]):
    path = serializers.CharField()
    title = serializers.CharField()
    bytes = serializers.IntegerField()
    sha256 = serializers.CharField()


class Lineage(View):
    public_read = True

    @extend_schema(summary="The whole lineage of a release", responses=FamilyOutput)
    def get(self, request: Request, namespace: str, name: str, version: str) -> Response:
        release = find_release(request, namespace, name, version)
        found, bound = family(release, request.user), ancestry.bounds_of(release, user=request.user)
        told = {
            "nodes": found.nodes,
            "links": found.links,
            "is_whole": found.is_whole,
            "clauses": origins.clauses(release.terms.value, bound),
            "clashes": [reason.as_json() for reason in bound.clashes],
        }
        return Response(FamilyOutput(told).data)


def _published(request: Request, namespace: str, name: str, version: str) -> Release:
    release = find_release(request, namespace, name, version)
    require(policies.has_obligations(release))
    return release


class Obligations(View):
    pagination_class = None
    public_read = True

    @extend_schema(summary="What must go along with a release", responses=DocumentOutput(many=True))
    def get(self, request: Request, namespace: str, name: str, version: str) -> Response:
        found = obligations.documents(_published(request, namespace, name, version))
        return Response(DocumentOutput(found, many=True).data)


class Document(View):
    public_read = True

    @extend_schema(summary="One of its documents", responses={(200, "text/plain"): OpenApiTypes.STR})
    def get(self, request: Request, namespace: str, name: str, version: str, path: str) -> HttpResponseBase:
        found = obligations.document(_published(request, namespace, name, version), path)
        filename = path.rpartition("/")[2]
        return downloads.bytes_response(
            request._request,  # noqa: SLF001 - DRF's own way to Django's request
            content=found.content,
            filename=filename,
            content_type=found.content_type,
        )


class Bundle(View):
    public_read = True

    @extend_schema(summary="All of its documents as one zip", responses=_BINARY)
    def get(self, request: Request, namespace: str, name: str, version: str) -> HttpResponseBase:
        release = _published(request, namespace, name, version)
        return downloads.archive_response(
            request._request,  # noqa: SLF001
            archive=obligations.bundle(release),
            filename=obligations.zip_name(release, "obligations"),
        )


class Everything(View):
    rate_bucket = FILES
    public_read = True  # the policy says who may

    @extend_schema(summary="All files and documents as one zip, under your license", responses=_BINARY)
    def get(self, request: Request, namespace: str, name: str, version: str) -> HttpResponseBase:
        release = _published(request, namespace, name, version)
        require(policies.may_download(request.user, release, now=timezone.now()))
        seats.use(user=request.user, release=release, now=timezone.now())
        plain = request._request  # noqa: SLF001
        response = downloads.archive_response(
            plain, archive=obligations.everything(release), filename=obligations.zip_name(release)
        )
        if downloads.is_a_download(plain, response):
            licensing.record_downloads(
                release=release,
                user=request.user,
                asker=asker(request.headers.get("User-Agent", "")),
                credential=Credential.TOKEN if request.auth else Credential.SESSION,
                now=timezone.now(),
            )
        return response
