"""Listings as repositories: `main` is the newest published release, each version a tag, each revision a digest. Who
writes for a listing sees more: `main` is then the newest draft, where there is one, and each draft a branch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.contrib.auth.models import AnonymousUser
from django.db.models import Q
from rest_framework.request import Request

from marketplace.accounts.models import User
from models_catalog import policies, selectors
from models_catalog.hub.base import no_repository
from models_catalog.hub.trees import Revision, no_entry, no_revision
from models_catalog.models import Artifact, Commit, Listing, Release
from models_catalog.models.listings import PUBLISHED_ONCE, ReleaseQuerySet
from models_catalog.services.manifests import manifest_sha256

MAIN = "main"
MAX_DRAFTS = 20  # that are looked through for a revision: a draft's is computed
_DIGEST = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True, slots=True)
class Repository:
    """A listing at a revision. `files` are those of the release, but for an earlier state of a draft (`is_past`), which
    only those see who write for the listing."""

    listing: Listing
    release: Release
    files: list[Artifact]
    is_past: bool = False

    @property
    def id(self) -> str:
        return str(self.listing)

    @property
    def revision(self) -> Revision:
        release = self.release
        return Revision(release.manifest_sha256, release.version, release.published_at or release.created_at)

    def artifact(self, path: str) -> Artifact:
        """Returns the file. Raises HubError (EntryNotFound)."""
        for artifact in self.files:
            if artifact.path == path:
                return artifact
        raise no_entry(self.release.sha)


def listing_of(request: Request, namespace: str, name: str) -> Listing:
    """Raises HubError (RepoNotFound) where it is not there, or not for the user."""
    for reader in _readers(request):
        listing = selectors.listing_of(reader, namespace, name).first()
        if listing is not None:
            return listing
    raise no_repository(request)


def _readers(request: Request) -> list[User | AnonymousUser]:
    """Returns as whom to look for something: first as anybody. What everybody sees the user sees too, it is nearly
    always what is asked for, and a question without memberships and grants costs a fraction."""
    anybody = AnonymousUser()
    return [anybody, request.user] if request.user.is_authenticated else [anybody]


def repository(request: Request, namespace: str, name: str, revision: str = MAIN) -> Repository:
    """Returns the repository at a revision: `main`, a version, a digest or the first seven or more of its digits.
    Raises HubError (RepoNotFound, RevisionNotFound)."""
    listing = listing_of(request, namespace, name)
    release = _release(request, listing, revision.removeprefix("refs/heads/").removeprefix("refs/tags/"))
    if release is not None:
        release.listing = listing  # with all that is read of it, at once
        return Repository(listing, with_revision(release), list(release.artifacts.all()))
    if (past := _past(request, listing, revision)) is not None:
        return past
    raise no_revision(revision)


def _past(request: Request, listing: Listing, revision: str) -> Repository | None:
    """Returns what a draft was after an earlier commit."""
    if not _DIGEST.fullmatch(revision) or not policies.may_manage(request.user, listing):
        return None
    row = Commit.objects.filter(listing=listing, revision__startswith=revision).first()
    release = selectors.release_with_files(request.user, listing, row.release.version) if row else None
    if row is None or release is None:
        return None
    release.manifest_sha256 = row.revision
    files = [
        Artifact(release=release, path=path, sha256=sha256, bytes=size)
        for path, (sha256, size) in sorted(row.files.items())
    ]
    return Repository(listing, release, files, is_past=True)


def with_revision(release: Release) -> Release:
    """Returns the same object; a draft's knows then what its revision would be now. That is never stored."""
    release.manifest_sha256 = release.manifest_sha256 or manifest_sha256(release)
    return release


def head_of(request: Request, listing: Listing) -> Release | None:
    """Returns what `main` is for the user; None where there is nothing yet."""
    work = selectors.newest_work(listing) if policies.may_manage(request.user, listing) else None
    return work or listing.latest_release


def drafts(request: Request, listing: Listing) -> list[Release]:
    """Returns the newest of what the user may see of it and was not published yet, with their revisions."""
    rows = Release.objects.visible_to(request.user).filter(listing=listing).exclude(status__in=PUBLISHED_ONCE)
    rows = rows.select_related("listing__namespace", "terms").order_by("-id")
    return [with_revision(row) for row in rows[:MAX_DRAFTS]]


def _release(request: Request, listing: Listing, revision: str) -> Release | None:
    if revision == MAIN:
        return head_of(request, listing)
    is_digest = _DIGEST.fullmatch(revision) is not None
    named = Q(version=revision) | Q(manifest_sha256__startswith=revision) if is_digest else Q(version=revision)
    for reader in _readers(request):
        rows = Release.objects.visible_to(reader).filter(named, listing=listing).select_related("terms")
        if found := sorted(rows, key=lambda row: row.version != revision):
            return found[0]
    return next((row for row in drafts(request, listing) if row.sha.startswith(revision)), None) if is_digest else None


def releases(request: Request, listing: Listing) -> ReleaseQuerySet:
    """Returns what was published once and the user may see, newest first."""
    rows = Release.objects.visible_to(request.user).filter(listing=listing, status__in=PUBLISHED_ONCE)
    return rows.order_by("-published_at", "-id")
