"""What Hub clients commit: which files how, then all changes at once, as a draft of the listing."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import zlib
from typing import Any, cast

from django.conf import settings
from django.http import HttpResponse, JsonResponse
from django.utils import timezone
from rest_framework.request import Request

from marketplace import storage
from marketplace.accounts.models import User
from marketplace.decisions import require
from marketplace.errors import Conflict, Invalid, TooLarge
from models_catalog import cards, policies
from models_catalog.hub import ndjson
from models_catalog.hub.base import ErrorCode, HubError, HubView, answer, in_ascii
from models_catalog.hub.repositories import MAIN, Repository, listing_of, repository
from models_catalog.hub.trees import no_revision
from models_catalog.models import Artifact, Listing
from models_catalog.presets import OFFERS
from models_catalog.services import commits, parts, publishing, sent_files

MAX_PREUPLOAD_FILES = 256  # that the clients name in one request
# Below it a file lies in the commit itself, in base64: the clients hold it in memory, and so do we.
MAX_REGULAR_BYTES = 256 * 1024
MAX_SHOWN = 10  # refused files in one warning
NO_PULL_REQUESTS = (
    "This site has no pull requests: leave create_pr out. A commit is a draft that only its vendor sees until it is "
    "published."
)


class HubWrite(HubView):
    """Base of what changes something: nothing of it is open to everybody, and a refusal is no gate."""

    public_read = False
    scope_code = ErrorCode.NONE


def written(request: Request, namespace: str, name: str) -> Listing:
    """Returns the listing, which the user may change. Raises HubError (RepoNotFound, and 501 for a pull request),
    Denied (`not_the_vendor`)."""
    if request.query_params.get("create_pr"):
        raise HubError(501, ErrorCode.NONE, NO_PULL_REQUESTS)
    listing = listing_of(request, namespace, name)
    require(policies.may_manage(request.user, listing))
    return listing


def writer(request: Request) -> User:
    """Returns who asks: these views let nobody in without a token."""
    return cast("User", request.user)


def sent_text(request: Request, name: str, default: str = "") -> str:
    """Returns a text of the JSON body, or the default where it is left out or null. Raises HubError (400)."""
    value = request.data.get(name) if isinstance(request.data, dict) else None
    if not isinstance(value, str | None):
        raise HubError(400, ErrorCode.NONE, f"`{name}` is a text.")
    return value or default


def plain_revision(revision: str) -> str:
    return revision.removeprefix("refs/heads/")


class Preupload(HubWrite):
    """Says for each file how it is sent, and what is here under its path already."""

    def post(self, request: Request, namespace: str, name: str, revision: str) -> HttpResponse:
        listing = written(request, namespace, name)
        head = _head(request, listing, plain_revision(revision))
        here = {file.path: file for file in head.files} if head else {}
        files, refused = [], []
        for path, size in _asked(request):
            why = _refusal(path, size)
            refused += [f"{path}: {why}"] if why else []
            files.append(_told(path, size, here.get(path), is_ignored=bool(why)))
        headers = {"X_HF_Warning": _warning(listing, refused)} if refused else {}
        return answer({"files": files}, **headers)


def _head(request: Request, listing: Listing, revision: str) -> Repository | None:
    """Returns what a commit to the revision goes on top of; None where the listing has no version yet."""
    if revision == MAIN and not listing.releases.exists():
        return None
    return repository(request, listing.namespace.name, listing.name, revision)


def _asked(request: Request) -> list[tuple[str, int]]:
    sent = request.data.get("files") if isinstance(request.data, dict) else None
    if not isinstance(sent, list) or len(sent) > MAX_PREUPLOAD_FILES:
        raise HubError(400, ErrorCode.NONE, f"Send `files`, at most {MAX_PREUPLOAD_FILES}.")
    return [_path_and_size(row) for row in sent]


def _path_and_size(row: Any) -> tuple[str, int]:
    path, size = (row.get("path"), row.get("size")) if isinstance(row, dict) else (None, None)
    if not isinstance(path, str) or not isinstance(size, int) or size < 0:
        raise HubError(400, ErrorCode.NONE, "Each of `files` has a path and a size.")
    return path, size


def _refusal(path: str, size: int) -> str:
    """Returns why the client is to leave the file out; "" where it is welcome. Raises HubError (400) for a path that no
    honest client sends, TooLarge (`too_large`)."""
    ndjson.require_sound(path)
    if any(part.startswith(".") for part in path.split("/")):
        return "hidden files are not kept"
    try:
        publishing.check_path(path)
    except Invalid as error:
        return error.message
    if size > settings.MAX_ARTIFACT_BYTES:
        most = settings.MAX_ARTIFACT_BYTES / 2**20
        raise TooLarge("too_large", f"{path} is larger than the limit of {most:,.0f} MiB.")
    return ""


def _told(path: str, size: int, here: Artifact | None, *, is_ignored: bool) -> dict[str, Any]:
    is_regular = size <= MAX_REGULAR_BYTES
    told = {"path": path, "uploadMode": "regular" if is_regular else "lfs", "shouldIgnore": is_ignored}
    if here is None or (is_regular and here.bytes > MAX_REGULAR_BYTES):
        return told  # nothing is here, or certainly other bytes
    return {**told, "oid": _git_sha1(here) if is_regular else here.sha256}


def _git_sha1(artifact: Artifact) -> str:
    """Returns the name that git gives the content: by it the clients see that a small file has not changed."""
    digest = hashlib.sha1(f"blob {artifact.bytes}\0".encode(), usedforsecurity=False)
    for chunk in storage.chunks(artifact.sha256):
        digest.update(chunk)
    return digest.hexdigest()


def _warning(listing: Listing, refused: list[str]) -> str:
    """The clients show it once for each topic: other files make another topic."""
    more = f" And {len(refused) - MAX_SHOWN} more." if len(refused) > MAX_SHOWN else ""
    text = in_ascii(f"Not uploaded: {'; '.join(refused[:MAX_SHOWN])}.{more}").replace("..", ".")
    return f"{listing} {zlib.crc32(text.encode()):08x}; {text[:2000]}"


class Commit(HubWrite):
    """One commit: a header, then a line for each change. It makes or changes a draft."""

    def post(self, request: Request, namespace: str, name: str, revision: str) -> HttpResponse:
        listing = written(request, namespace, name)
        version = _version(listing, plain_revision(revision))
        sent = ndjson.read(request._request, keep=_kept, known=_known(writer(request), listing))  # noqa: SLF001 - as a stream
        try:
            release = commits.commit(
                user=writer(request),
                listing=listing,
                version=version,
                change=sent.change,
                parent=sent.parent,
                said=sent.said,
                now=timezone.now(),
            )
        except Conflict as error:
            raise _as_the_clients_know(error) from error
        revised = commits.revision_of(release)
        url = request.build_absolute_uri(f"/{listing}/commit/{revised}")
        return answer({"success": True, "commitOid": revised, "commitUrl": url})


def _version(listing: Listing, revision: str) -> str:
    """Returns the version of a draft that a branch is, "" for `main`. Raises HubError (RevisionNotFound)."""
    if revision == MAIN:
        return ""
    if not listing.releases.filter(version=revision).exists():
        raise no_revision(revision)
    return revision


def _kept(path: str, content: str) -> storage.Blob:
    try:
        raw = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise HubError(400, ErrorCode.NONE, f"The content of {path} is not base64.") from error
    return storage.put(io.BytesIO(raw), max_bytes=len(raw)) if raw else parts.keep_empty()


def _known(user: User, listing: Listing) -> ndjson.Known:
    def find(oid: str, size: int | None) -> storage.Blob:
        blob = sent_files.find(user=user, listing=listing, sha256=oid, now=timezone.now())
        if blob is None or (size is not None and size != blob.bytes):
            text = f"{oid} was not uploaded for this repository. Upload the file, then commit."
            raise HubError(400, ErrorCode.NONE, text)
        return blob

    return find


def _as_the_clients_know(error: Conflict) -> Exception:
    if error.code == "stale_parent":
        return HubError(412, ErrorCode.NONE, error.message)
    if error.code == "no_such_file":
        return HubError(404, ErrorCode.ENTRY, error.message)
    return error


class ValidateYaml(HubView):
    """Looks at a card before anything is sent. Sometimes asked anonymously, and it changes nothing."""

    permission_classes: list[Any] = []

    def post(self, request: Request) -> HttpResponse:
        content = request.data.get("content", "") if isinstance(request.data, dict) else ""
        if not isinstance(content, str) or len(content.encode("utf-8", "replace")) > cards.MAX_CARD_BYTES:
            return _judged(400, errors=[f"A card is a text of at most {cards.MAX_CARD_BYTES >> 10} KiB."])
        front = cards.front_matter(content)
        if content.startswith("---") and not front:
            return _judged(400, errors=["The front matter is no plain YAML mapping (no aliases, no deep nesting)."])
        license_id = str(front.get("license", "")).lower()
        if not license_id:
            return _judged(200, warnings=["The card names no license. State one with `license:`, or on this site."])
        if license_id not in OFFERS and license_id != "other":
            known = ", ".join(sorted(OFFERS))
            return _judged(200, warnings=[f"This site does not know the license {license_id[:60]}. It knows {known}."])
        return _judged(200)


def _judged(status: int, *, errors: list[str] = [], warnings: list[str] = []) -> HttpResponse:  # noqa: B006 - only read
    told = {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}
    return JsonResponse(told, status=status)
