"""Drafts of a listing as wholes: another one beside the newest, its release under a version, the listing's end."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from finetuning.engine.spec import GOLDEN_FILE
from marketplace.accounts.models import User
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict
from models_catalog import policies
from models_catalog.models import Artifact, Download, Listing, Release
from models_catalog.models.listings import EDITABLE
from models_catalog.services import commits, incidents, publishing


def copy(*, user: User, start: Release, files: Iterable[Artifact], version: str) -> Release:
    """Creates a draft under the terms of another release of the listing, with files that it has or had, but for the golden
    pair, which was measured there. Raises as `publishing.draft`, Conflict (`files_quarantined`)."""
    if start.is_quarantined:
        raise incidents.files_quarantined()
    with transaction.atomic():
        draft = publishing.draft(user=user, listing=start.listing, version=version, terms=start.terms)
        for file in files:
            if file.path != GOLDEN_FILE:
                draft.artifacts.create(path=file.path, sha256=file.sha256, bytes=file.bytes)
    return draft


def release_as(*, user: User, release: Release, revision: str, version: str, now: datetime) -> None:
    """Gives a draft its version and hands it to the verification, which publishes it where it is accepted; what is
    verified already is published at once. `revision` says which files are meant (`commits.revision_of`). Locks the listing
    and the release.

    Raises as `publishing.submit` and `publishing.publish`, Conflict (`version_taken`, `stale_parent`)."""
    require(policies.may_manage(user, release.listing))
    if release.status in EDITABLE:
        require(policies.may_submit(user, release))
    else:
        require(policies.may_publish(user, release))
    with transaction.atomic():
        row = Release.objects.locked(release.pk)
        if commits.revision_of(row) != revision:
            text = "Somebody has committed to this draft meanwhile. Read the newest revision, then tag that."
            raise Conflict("stale_parent", text)
        if release.version != version:
            _rename(release, version=version)
        if release.status in EDITABLE:
            publishing.submit(user=user, release=release, publish_when_verified=True)
        else:
            publishing.publish(user=user, release=release, now=now)


def _rename(release: Release, *, version: str) -> None:
    publishing.check_version(version)
    try:
        with transaction.atomic():
            Release.objects.filter(pk=release.pk).update(version=version)
    except IntegrityError as error:
        raise publishing.version_taken() from error
    release.version = version


def discard(*, user: User, listing: Listing) -> None:
    """Deletes a listing of which nothing was ever published, with its drafts. Raises Denied (`not_the_vendor`), Conflict
    (`listing_kept`) where something was, or where others have to do with it."""
    require(policies.may_discard(user, listing))
    with transaction.atomic():
        row = (
            Listing.objects.select_for_update(of=("self",), no_key=True).select_related("namespace").get(pk=listing.pk)
        )
        require(policies.may_discard(user, row))
        audit.record("listing.delete", actor=user, namespace=row.namespace, subject=row)
        Download.objects.filter(artifact__release__listing=row).delete()  # the vendor's own
        try:
            row.delete()
        except ProtectedError as error:
            raise Conflict("listing_kept", "Others have asked, reported or built on this model: it stays.") from error
