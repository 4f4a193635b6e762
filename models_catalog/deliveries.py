"""A file of a release on its way to somebody: asked for, counted and served in one place, whatever the door."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponseBase

from marketplace import downloads
from marketplace.accounts.models import User
from marketplace.clients import asker
from marketplace.decisions import require
from models_catalog import policies
from models_catalog.models import Artifact, Release
from models_catalog.models.licensing import Credential
from models_catalog.services import licensing, seats


def deliver(
    request: HttpRequest,
    *,
    user: User | AnonymousUser,
    release: Release,
    artifact: Artifact,
    credential: Credential,
    now: datetime,
) -> HttpResponseBase:
    """Answers a GET or HEAD for one file, or for a range of it, under the user's license, and counts what is a
    download. Raises Denied as `may_download` and `seats.use` say."""
    require(policies.may_download(user, release, now=now))
    person = cast("User", user)  # the policy lets nobody else through
    if request.method != "HEAD":  # which hands out nothing
        seats.use(user=person, release=release, now=now)
    filename = artifact.path.rpartition("/")[2]
    response = downloads.blob_response(request, sha256=artifact.sha256, size=artifact.bytes, filename=filename)
    if downloads.is_a_download(request, response):
        agent = asker(request.headers.get("User-Agent", ""))
        licensing.record_download(artifact=artifact, user=person, asker=agent, credential=credential, now=now)
    return response
