"""Where a release comes from and what must go along with it: lineage, obligations, everything as one archive."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone

from marketplace import downloads
from marketplace.clients import asker
from marketplace.decisions import require
from models_catalog import ancestry, origins, policies
from models_catalog.family import family
from models_catalog.models.licensing import Credential
from models_catalog.services import licensing, obligations, seats
from models_catalog.web.catalog import find


def lineage(request: HttpRequest, namespace: str, name: str, version: str = "") -> HttpResponse:
    release = find(request, namespace, name, version)
    bound = ancestry.bounds_of(release, user=request.user)
    context = {
        "release": release,
        "listing": release.listing,
        "family": family(release, request.user),
        "clauses": origins.clauses(release.terms.value, bound),
        "clashes": bound.clashes,
    }
    return render(request, "models_catalog/lineage.html", context)


def documents(request: HttpRequest, namespace: str, name: str, version: str) -> HttpResponse:
    release = find(request, namespace, name, version)
    require(policies.has_obligations(release))
    found = obligations.documents(release)
    context = {
        "release": release,
        "listing": release.listing,
        "documents": found,
        "credit": next(item.text for item in found if item.path == obligations.CREDIT_FILE),
        "plain": release.terms.plain,
        "download": policies.may_download(request.user, release, now=timezone.now()),
    }
    return render(request, "models_catalog/obligations.html", context)


def document(request: HttpRequest, namespace: str, name: str, version: str, path: str) -> HttpResponseBase:
    release = find(request, namespace, name, version)
    require(policies.has_obligations(release))
    found = obligations.document(release, path)
    return downloads.bytes_response(
        request,
        content=found.content,
        filename=path.rpartition("/")[2],
        content_type=found.content_type,
        attachment=path == obligations.BOM_FILE,  # texts are read in the browser
    )


def bundle(request: HttpRequest, namespace: str, name: str, version: str) -> HttpResponseBase:
    release = find(request, namespace, name, version)
    require(policies.has_obligations(release))
    filename = obligations.zip_name(release, "obligations")
    return downloads.archive_response(request, archive=obligations.bundle(release), filename=filename)


def everything(request: HttpRequest, namespace: str, name: str, version: str) -> HttpResponseBase:
    """All files and documents as one zip, for those who may have each file."""
    release = find(request, namespace, name, version)
    require(policies.has_obligations(release))
    require(policies.may_download(request.user, release, now=timezone.now()))
    seats.use(user=request.user, release=release, now=timezone.now())
    archive, filename = obligations.everything(release), obligations.zip_name(release)
    response = downloads.archive_response(request, archive=archive, filename=filename)
    if downloads.is_a_download(request, response):
        licensing.record_downloads(
            release=release,
            user=request.user,
            asker=asker(request.headers.get("User-Agent", "")),
            credential=Credential.SESSION,
            now=timezone.now(),
        )
    return response
