"""What Hub clients read: identity, models, trees, files. What they write is in `writing`, `lfs` and `xet`."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse, HttpResponseBase
from django.utils import timezone
from rest_framework.exceptions import NotAuthenticated
from rest_framework.parsers import FormParser
from rest_framework.request import Request

from finetuning.engine.spec import CARD_FILE
from marketplace import downloads
from marketplace.accounts.models import Namespace
from marketplace.api import NotThere
from marketplace.decisions import require
from marketplace.errors import Denied
from marketplace.inputs import JsonBody
from marketplace.throttling import FILES
from models_catalog import policies, selectors
from models_catalog.deliveries import deliver
from models_catalog.hub import documents, listings, trees
from models_catalog.hub.base import HubView, answer, gated, no_repository, token_of
from models_catalog.hub.repositories import (
    MAIN,
    Repository,
    drafts,
    head_of,
    listing_of,
    releases,
    repository,
    with_revision,
)
from models_catalog.hub.trees import split_revision
from models_catalog.models import Listing, Release
from models_catalog.models.licensing import Credential
from models_catalog.models.listings import PUBLISHED_ONCE


class WhoAmI(HubView):
    permission_classes: list[Any] = []  # whatever a token may do, it may say whose it is

    def get(self, request: Request) -> HttpResponse:
        token = token_of(request)
        if token is None:
            raise NotAuthenticated
        user = token.user
        rows = Namespace.objects.of(user).filter(organization__isnull=False).order_by("name")
        writes = token.grants("models:write")
        named = {"displayName": token.name, "role": "write" if writes else "read"}
        return answer(
            {
                "type": "user",
                "id": f"{user.pk:024x}",
                "name": user.username,
                "fullname": user.get_full_name() or user.username,
                "email": user.email,
                "isPro": False,
                "orgs": [{"type": "org", "name": row.name} for row in rows],
                "auth": {
                    "type": "access_token",
                    "accessToken": {**named, "createdAt": trees.date(token.created_at)},
                },
            },
        )


class Harnesses(HubView):
    """Asked once a day by every client; a 404 would make each of their processes ask again."""

    authentication_classes: list[Any] = []

    def get(self, request: Request) -> HttpResponse:
        return answer({"standardEnvVars": [], "harnesses": {}})


class Models(HubView):
    def get(self, request: Request) -> HttpResponse:
        rows, following = listings.page(request, self)
        asked = request.query_params
        full = asked.get("full") in trees.TRUE or "expand" in asked
        card = asked.get("cardData") in trees.TRUE or full
        bases = selectors.bases_of([row.latest_release_id for row in rows], request.user)
        taken = selectors.downloads_of([row.pk for row in rows], now=timezone.now())
        found = []
        for row in rows:
            release = _latest(row)
            document = documents.model(
                row, release, bases=bases.get(release.pk, []), downloads=taken.get(row.pk, {}), card=card
            )
            found.append(document)
        headers = {"Link": f'<{following}>; rel="next"'} if following else {}
        return answer(found, **headers)


def _latest(listing: Listing) -> Release:
    if listing.latest_release is None:
        raise ValueError(f"{listing} is not in the catalog")
    return listing.latest_release


class Model(HubView):
    def get(self, request: Request, namespace: str, name: str, revision: str = MAIN) -> HttpResponse:
        found = repository(request, namespace, name, revision)
        listing, release = found.listing, found.release
        bases = selectors.bases_of([release.pk], request.user).get(release.pk, [])
        taken = selectors.downloads_of([listing.pk], now=timezone.now()).get(listing.pk, {})
        document = documents.model(listing, release, bases=bases, downloads=taken)
        artifacts = found.files
        blobs = request.query_params.get("blobs") in trees.TRUE
        document["siblings"] = trees.siblings(artifacts, blobs=blobs)
        document["usedStorage"] = sum(artifact.bytes for artifact in artifacts)
        if request.query_params.get("securityStatus") in trees.TRUE:
            document["securityRepoStatus"] = {"scansDone": True, "filesWithIssues": []}
        return answer(document)


class Tree(HubView):
    def get(self, request: Request, namespace: str, name: str, rest: str) -> HttpResponse:
        revision, path = split_revision(rest)
        found = repository(request, namespace, name, revision)
        return trees.tree(request, path, files=found.files, revision=found.revision)


class Paths(HubView):
    """Files and folders by name. It changes nothing."""

    parser_classes = [FormParser, JsonBody]
    changes_nothing = True  # as a GET: what is public is told to everybody

    def post(self, request: Request, namespace: str, name: str, rest: str) -> HttpResponse:
        found = repository(request, namespace, name, split_revision(rest)[0])
        return trees.paths(request, files=found.files, revision=found.revision)


class References(HubView):
    def get(self, request: Request, namespace: str, name: str) -> HttpResponse:
        listing = listing_of(request, namespace, name)
        head = head_of(request, listing)
        unpublished = drafts(request, listing)
        main = with_revision(head) if head else None
        return answer(documents.references(main, releases=releases(request, listing), drafts=unpublished))


class Commits(HubView):
    """The versions from the one that is asked for on, newest first; of a draft first its commits, as far as they are kept."""

    def get(self, request: Request, namespace: str, name: str, rest: str) -> HttpResponse:
        found = repository(request, namespace, name, rest)
        rows = list(releases(request, found.listing))
        author = found.listing.namespace.name
        if found.release.status in PUBLISHED_ONCE and not found.is_past:
            start = next(place for place, row in enumerate(rows) if row.pk == found.release.pk)
            return answer([documents.commit(row, author=author) for row in rows[start:]])
        made = [documents.draft_commit(row) for row in found.release.commits.select_related("author")]
        place = next((place for place, row in enumerate(made) if row["id"] == found.release.sha), None)
        # A draft that was changed on its page is no commit: it is told as what it is.
        newest = made[place:] if place is not None else [documents.commit(found.release, author=author), *made]
        return answer([*newest, *(documents.commit(row, author=author) for row in rows if row != found.release)])


class AuthCheck(HubView):
    def get(self, request: Request, namespace: str, name: str, right: str = "") -> HttpResponse:
        """Answers 200 where the user may read, or with `write` publish; else what a download would be told."""
        if right:
            listing = listing_of(request, namespace, name)
            require(policies.may_manage(request.user, listing))
            return answer({})
        found = repository(request, namespace, name)
        _allowed(request, found)
        return answer({})

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("right"):
            self.read_scope = self.write_scope  # a GET that asks about writing
        super().initial(request, *args, **kwargs)


def _allowed(request: Request, found: Repository) -> None:
    try:
        require(policies.may_download(request.user, found.release, now=timezone.now()))
    except Denied as error:
        raise gated(request, found.release, error) from error


class Resolve(HubView):
    """A file, or a range of it, under the user's license; the card without one, as the model's page shows it."""

    rate_bucket = FILES

    def get(self, request: Request, namespace: str, name: str, rest: str) -> HttpResponseBase:
        revision, path = split_revision(rest)
        found = repository(request, namespace, name, revision)
        artifact = found.artifact(path)
        plain = request._request  # noqa: SLF001 - DRF's own way to Django's request
        if found.is_past:
            _allowed(request, found)  # its writers need no license, but what is quarantined is served to nobody
        if path == CARD_FILE or found.is_past:
            filename = path.rpartition("/")[2]
            response = downloads.blob_response(plain, sha256=artifact.sha256, size=artifact.bytes, filename=filename)
        else:
            try:
                response = deliver(
                    plain,
                    user=request.user,
                    release=found.release,
                    artifact=artifact,
                    credential=Credential.TOKEN,
                    now=timezone.now(),
                )
            except Denied as error:
                raise gated(request, found.release, error) from error
        return trees.linked(response, file=artifact, sha=found.release.sha)


class Absent(HubView, NotThere):
    """Every other address of the protocol: spaces, and what is not served."""

    def _absent(self, _request: Request, **_kwargs: Any) -> Any:
        raise no_repository(_request)
