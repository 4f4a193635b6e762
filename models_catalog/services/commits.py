"""Commits as Hub clients make them: several changes at once to a listing's draft, all or none.

What is published never changes, so a commit on top of it begins the next version with the same files; publishing stays
an act of its own (`drafts.release_as`, the pages, the API)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from finetuning.engine import spec as engine
from marketplace import storage
from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict
from models_catalog import cards, kinds, policies, selectors
from models_catalog.models import Commit, Listing, Release
from models_catalog.models.listings import EDITABLE
from models_catalog.presets import PRESETS
from models_catalog.services import offers, publishing
from models_catalog.services.licensing import terms_row
from models_catalog.services.manifests import manifest_sha256

FIRST_VERSION = "1.0"
NOT_STATED = "unknown"  # the license of a draft whose card has named none yet: it allows nothing
MAX_CONFIG_BYTES = 2**20
REVISION_DIGITS = 40
KEPT_COMMITS = 20  # of a listing: each keeps its files
KEPT_FOR = timedelta(days=30)
_COUNTER = re.compile(r"(\d+)$")


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit does: first `removed` files and folders go, then `files` (path -> blob) come."""

    files: Mapping[str, storage.Blob] = field(default_factory=dict)
    removed: Collection[str] = ()
    removed_folders: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Message:
    title: str = ""
    description: str = ""


def revision_of(release: Release) -> str:
    """Returns the revision as clients write it; a draft's is what its manifest would be now."""
    return (release.manifest_sha256 or manifest_sha256(release))[:REVISION_DIGITS]


def create(*, user: User, namespace: Namespace, name: str) -> Listing:
    """Creates a listing that says nothing of itself yet, with an empty draft: what it is follows from the first
    config.json and card that are committed. Raises as `publishing.create_listing`."""
    with transaction.atomic():
        listing = publishing.create_listing(
            user=user,
            namespace=namespace,
            name=name,
            title=name,
            task=engine.Task.IMAGE_CLASSIFICATION.value,
            framework=engine.Framework.TIMM.value,
            architecture="",
        )
        publishing.draft(user=user, listing=listing, version=FIRST_VERSION, terms=terms_row(PRESETS[NOT_STATED]))
    return listing


def commit(
    *,
    user: User,
    listing: Listing,
    version: str,
    change: Change,
    now: datetime,
    parent: str = "",
    said: Message = Message(),
) -> Release:
    """Applies the change to the draft `version`, or with "" to the newest of the listing, and returns the release that
    has the files then: the same where nothing changes. Locks the listing.

    Raises Denied (`not_the_vendor`, `release_frozen`, `derivative_frozen`), Conflict (`stale_parent`, `no_such_file`;
    as `attach_artifact`), Invalid (`bad_path`, ...), TooLarge (`card_too_large`)."""
    require(policies.may_manage(user, listing))
    for path in change.files:
        publishing.check_path(path)
    texts = _read_ahead(user, listing, version, change)
    with transaction.atomic():
        listing = (
            Listing.objects.select_for_update(of=("self",), no_key=True).select_related("namespace").get(pk=listing.pk)
        )
        head = _head(user, listing, version)
        if parent and (head is None or not revision_of(head).startswith(parent)):
            raise Conflict(
                "stale_parent", "Somebody else has committed since. Read the newest revision, then try again."
            )
        before = _tree(head)
        after = _changed(before, change)
        if head is not None and after == before:
            return head
        draft = _draft_on(head, user=user, listing=listing, version=version)
        if draft is not head and engine.GOLDEN_FILE not in change.files:
            after.pop(engine.GOLDEN_FILE, None)  # it was measured with the weights that it came with
        _bring(draft, after, user=user)
        _take_from_card(draft, after, texts, user=user)
        draft.refresh_from_db()
        _remember(draft, user=user, said=said, now=now)
        details: dict[str, Any] = {"title": said.title[:200], "files": sorted(change.files)[:100]}
        audit.record("release.commit", actor=user, namespace=listing.namespace, subject=draft, details=details)
    return draft


def _remember(draft: Release, *, user: User, said: Message, now: datetime) -> None:
    """Keeps what the draft is now, and of earlier states the newest. The same content again is the same revision."""
    Commit.objects.update_or_create(
        listing=draft.listing,
        revision=manifest_sha256(draft),
        defaults={
            "release": draft,
            "title": said.title[:200],
            "description": said.description[:1000],
            "author": user,
            "files": {path: [blob.sha256, blob.bytes] for path, blob in _tree(draft).items()},
            "made_at": now,
        },
    )
    kept = Commit.objects.filter(listing=draft.listing)[:KEPT_COMMITS].values_list("pk", flat=True)
    Commit.objects.filter(listing=draft.listing).exclude(pk__in=list(kept)).delete()


def forget(*, now: datetime) -> int:
    """Drops the states of drafts that nobody has committed to for a month; the drafts themselves stay."""
    return Commit.objects.filter(made_at__lt=now - KEPT_FOR).delete()[0]


def _head(user: User, listing: Listing, version: str) -> Release | None:
    """Returns what the commit goes on top of. Raises Denied (`release_frozen`) for a version that was submitted."""
    if not version:
        return selectors.newest_work(listing) or listing.latest_release
    release = Release.objects.select_related("listing__namespace", "terms").get(listing=listing, version=version)
    require(policies.may_edit_release(user, release, path=engine.CARD_FILE))
    return release


def _tree(release: Release | None) -> dict[str, storage.Blob]:
    if release is None:
        return {}
    rows = release.artifacts.values_list("path", "sha256", "bytes")
    return {path: storage.Blob(sha256, size) for path, sha256, size in rows}


def _changed(before: Mapping[str, storage.Blob], change: Change) -> dict[str, storage.Blob]:
    gone = set()
    for path in change.removed:
        if path not in before:
            raise _no_such_file()
        gone.add(path)
    for folder in change.removed_folders:
        inside = {path for path in before if path.startswith(f"{folder.rstrip('/')}/")}
        if not inside:
            raise _no_such_file()
        gone |= inside
    kept = {path: blob for path, blob in before.items() if path not in gone}
    return {**kept, **change.files}


def _no_such_file() -> Conflict:
    return Conflict("no_such_file", "A file with this name doesn't exist")  # the clients know the sentence


def _draft_on(head: Release | None, *, user: User, listing: Listing, version: str) -> Release:
    """Returns the draft to change: the head itself where it is one, else a new one of the next version."""
    if head is not None and head.status in EDITABLE:
        return head
    terms = head.terms if head is not None else terms_row(PRESETS[NOT_STATED])
    return publishing.draft(user=user, listing=listing, version=version or next_version(listing), terms=terms)


def _bring(draft: Release, after: Mapping[str, storage.Blob], *, user: User) -> None:
    """Makes the draft's files what they should be. What goes, goes first: it may make room."""
    now = _tree(draft)
    for path in now.keys() - after.keys():
        publishing.remove_artifact(user=user, release=draft, path=path)
    for path, blob in sorted(after.items()):
        if now.get(path) != blob:
            publishing.attach_artifact(user=user, release=draft, path=path, blob=blob)


def next_version(listing: Listing) -> str:
    """Returns the newest version counted up by one, and further while that one is taken."""
    taken = list(listing.releases.order_by("-id").values_list("version", flat=True))
    version = taken[0] if taken else FIRST_VERSION
    while version in taken:
        version = _counted_up(version)
    return version


def _counted_up(version: str) -> str:
    if _COUNTER.search(version):
        return _COUNTER.sub(lambda found: str(int(found[1]) + 1), version)
    return f"{version}.1"


def _read_ahead(user: User, listing: Listing, version: str, change: Change) -> dict[str, str]:
    """Returns by their digests the texts that may tell what the listing is. Read before the transaction: a bucket answers
    when it likes, and no lock must wait for that."""
    head = _head(user, listing, version)
    if head is not None and listing.architecture and head.terms.license_id != NOT_STATED:
        return {}
    files = {**_tree(head), **change.files}
    most = {engine.CARD_FILE: cards.MAX_CARD_BYTES, engine.CONFIG_FILE: MAX_CONFIG_BYTES}
    return {files[path].sha256: _text(files[path], limit) for path, limit in most.items() if path in files}


def _take_from_card(draft: Release, files: Mapping[str, storage.Blob], texts: Mapping[str, str], *, user: User) -> None:
    """Takes what the listing is, and under which license, from the draft's files, as long as nobody has said it: a
    listing that has ever been published stays what it is."""
    listing, is_licensed = draft.listing, draft.terms.license_id != NOT_STATED
    if listing.architecture and is_licensed:
        return
    card, told = (
        texts.get(files[path].sha256, "") if path in files else "" for path in (engine.CARD_FILE, engine.CONFIG_FILE)
    )
    front, config = cards.front_matter(card), kinds.parse_config(told)
    if not listing.architecture and (kind := kinds.read(config, front)):
        Listing.objects.filter(pk=listing.pk, architecture="").update(**kind)
        listing.refresh_from_db()
    named = str(front.get("license", "")).lower()
    if not is_licensed and named in PRESETS and named != NOT_STATED:
        offers.set_terms(user=user, release=draft, terms=PRESETS[named])


def _text(blob: storage.Blob, most: int) -> str:
    if blob.bytes > most:
        return ""
    return b"".join(storage.chunks(blob.sha256)).decode("utf-8", "replace")
