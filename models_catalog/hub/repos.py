"""Repositories as Hub clients make and end them, and their branches and tags: drafts and versions of a listing."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse, JsonResponse
from django.urls import reverse
from django.utils import timezone
from rest_framework.request import Request

from marketplace.accounts.models import Namespace
from marketplace.errors import Conflict, Denied
from marketplace.rest import require_within
from models_catalog import selectors
from models_catalog.hub.base import ErrorCode, HubError, answer, no_repository
from models_catalog.hub.repositories import MAIN, repository
from models_catalog.hub.writing import NO_PULL_REQUESTS, HubWrite, plain_revision, sent_text, writer, written
from models_catalog.models import Listing
from models_catalog.models.listings import PUBLISHED_ONCE
from models_catalog.services import commits, drafts


def not_offered(message: str) -> HubError:
    return HubError(501, ErrorCode.NONE, message)


def _models_only(request: Request) -> None:
    if sent_text(request, "type", "model") != "model":
        raise not_offered(
            "Only models are repositories here. Upload data sets on their page, or by POST /api/v1/datasets/."
        )


def _namespace(request: Request) -> Namespace:
    """Returns whose the repository is: the user's own unless they name another that they write for. Raises Denied
    (`not_a_member`), the same for a namespace that there is none of."""
    named = sent_text(request, "organization")
    mine = Namespace.objects.writable_by(request.user)
    found = (mine.filter(name__iexact=named) if named else Namespace.objects.own(request.user)).first()
    if found is None:
        raise Denied("not_a_member", f"You cannot publish as {named[:96]}.")
    return found


class Create(HubWrite):
    limits_itself = ("POST",)

    def post(self, request: Request) -> HttpResponse:
        _models_only(request)
        namespace, name = _namespace(request), sent_text(request, "name")
        require_within(request, namespace.name, name)
        try:
            listing = commits.create(user=writer(request), namespace=namespace, name=name)
        except Conflict as error:
            if error.code != "name_taken":
                raise
            url = request.build_absolute_uri(f"/{namespace.name}/{name}")
            return JsonResponse({"error": error.message, "url": url}, status=409)
        return answer({"url": request.build_absolute_uri(f"/{listing}"), "id": str(listing)})


class Delete(HubWrite):
    limits_itself = ("DELETE",)

    def delete(self, request: Request) -> HttpResponse:
        _models_only(request)
        namespace = sent_text(request, "organization", request.user.username)
        require_within(request, namespace, sent_text(request, "name"))
        listing = selectors.listing_of(request.user, namespace, sent_text(request, "name")).first()
        if listing is None:
            raise no_repository(request)
        drafts.discard(user=writer(request), listing=listing)
        return answer({})


class Branch(HubWrite):
    """A branch is a draft beside the newest, under its version."""

    def post(self, request: Request, namespace: str, name: str, branch: str) -> HttpResponse:
        listing, branch = written(request, namespace, name), plain_revision(branch)
        if branch == MAIN:
            raise Conflict("version_taken", f"{MAIN} is always there.")
        start = repository(request, namespace, name, plain_revision(sent_text(request, "startingPoint", MAIN)))
        drafts.copy(user=writer(request), start=start.release, files=start.files, version=branch)
        return answer({"name": branch, "page": _page(request, listing)})

    def delete(self, request: Request, namespace: str, name: str, branch: str) -> HttpResponse:
        listing = written(request, namespace, name)
        if plain_revision(branch) == MAIN:
            raise HubError(403, ErrorCode.NONE, f"{MAIN} cannot be deleted.")
        raise not_offered(f"Drafts are not deleted one by one: commit to it instead. See {_page(request, listing)}")


class Tag(HubWrite):
    """A tag is a version. Giving a draft one hands it to the verification, which publishes it if it accepts it."""

    def post(self, request: Request, namespace: str, name: str, tag: str) -> HttpResponse:
        written(request, namespace, name)
        found = repository(request, namespace, name, plain_revision(tag))
        release, version = found.release, sent_text(request, "tag")
        if found.is_past:
            text = "The draft has changed since this revision. Tag what it is now, or begin a branch from the revision."
            raise HubError(400, ErrorCode.NONE, text)
        if release.status in PUBLISHED_ONCE:
            text = f"This revision is published as {release.version}, and a revision has one version. Commit, then tag."
            raise Conflict("version_taken", text)
        now = timezone.now()
        drafts.release_as(user=writer(request), release=release, revision=release.sha, version=version, now=now)
        return answer({"tag": version})

    def delete(self, request: Request, namespace: str, name: str, tag: str) -> HttpResponse:
        listing = written(request, namespace, name)
        text = f"Versions are immutable and stay for those who licensed them. Withdraw it at {_page(request, listing)}"
        raise HubError(403, ErrorCode.NONE, text)


def _page(request: Request, listing: Listing) -> str:
    return request.build_absolute_uri(reverse("vendor_listing", args=(listing.namespace.name, listing.name)))


class Refused(HubWrite):
    """What the clients can ask for and this site does not do, each with what to do instead."""

    status = 501
    message = ""

    def _refuse(self, request: Request, **_parts: Any) -> HttpResponse:
        raise HubError(self.status, ErrorCode.NONE, self.message)

    get = post = put = delete = _refuse


class PullRequests(Refused):
    message = NO_PULL_REQUESTS


class Settings(Refused):
    message = (
        "Who gets the files follows from the license of a version, and a model is private until one is published: set "
        "its terms on the version's page."
    )


class Move(Refused):
    message = "Names are part of licenses and manifests, so a model keeps its name. Create another one instead."


class History(Refused):
    status = 403
    message = "Releases are immutable: their history is not rewritten. Commit a new version."
