"""From a draft to the catalog: listings, releases, their files, verification, publication, withdrawal."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils import timezone

from finetuning.engine import spec as engine
from marketplace import storage
from marketplace.accounts.models import Namespace, User
from marketplace.accounts.models.people import RESERVED_NAMES, validate_name
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict, Denied, DomainError, Invalid
from marketplace.queue import Job, enqueue
from models_catalog import policies
from models_catalog.models import Artifact, LicenseTerms, Listing, Release
from models_catalog.models.listings import ReleaseStatus
from models_catalog.services.manifests import manifest_sha256

logger = logging.getLogger(__name__)
MAX_FILES = 64
MAX_PATH_CHARACTERS = 200
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+\-_]{0,39}")
# Files that a release may hold, by ending: text, JSON, safetensors. Nothing that runs, nothing pickled.
ALLOWED_SUFFIXES = frozenset({".md", ".txt", ".json", ".safetensors", ".model", ".keras"})
PICKLES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".joblib", ".bin", ".ckpt", ".h5", ".npy", ".npz"})


def create_listing(*, user: User, namespace: Namespace, name: str, **fields: Any) -> Listing:
    """Creates a draft listing. Raises Denied (`not_a_member`), Invalid (`bad_name`), Conflict (`name_taken`)."""
    if not Namespace.objects.writable_by(user).filter(pk=namespace.pk).exists():
        raise Denied("not_a_member", f"You cannot publish as {namespace}.")
    try:
        validate_name(name)
    except ValidationError as error:
        raise Invalid("bad_name", str(error.message), field="name") from error
    if name.lower() in RESERVED_NAMES:
        raise Conflict("name_reserved", "This name is reserved. Choose another.", field="name")
    try:
        with transaction.atomic():
            listing = Listing.objects.create(namespace=namespace, name=name, **fields)
            audit.record("listing.create", actor=user, namespace=namespace, subject=listing)
    except IntegrityError as error:
        raise Conflict("name_taken", f"{namespace} has a listing of this name already.", field="name") from error
    return listing


EDITABLE_FIELDS = ("title", "summary", "accuracy", "accuracy_metric", "accuracy_source")


def edit_listing(*, user: User, listing: Listing, **fields: Any) -> Listing:
    """Changes what describes a listing; what it is (task, framework, architecture) never changes."""
    require(policies.may_manage(user, listing))
    changed = {name: value for name, value in fields.items() if name in EDITABLE_FIELDS}
    for name, value in changed.items():
        setattr(listing, name, value)
    with transaction.atomic():
        listing.save(update_fields=[*changed, "updated_at"])
        audit.record(
            "listing.edit",
            actor=user,
            namespace=listing.namespace,
            subject=listing,
            details={"fields": sorted(changed)},
        )
    return listing


def draft(*, user: User, listing: Listing, version: str, terms: LicenseTerms, notes: str = "") -> Release:
    """Creates an empty release. Raises Invalid (`bad_version`), Conflict (`version_taken`): a version is
    never used twice."""
    require(policies.may_manage(user, listing))
    if not _VERSION.fullmatch(version):
        raise Invalid(
            "bad_version", "A version is letters, digits, '.', '-', '+' and '_', such as 1.0.", field="version"
        )
    try:
        with transaction.atomic():
            return Release.objects.create(listing=listing, version=version, terms=terms, notes=notes, created_by=user)
    except IntegrityError as error:
        raise Conflict(
            "version_taken", "This version exists; a version never changes. Count up.", field="version"
        ) from error


def check_path(path: str) -> str:
    """Returns the path of an artifact. Raises Invalid (`bad_path`, `pickle_refused`, `file_type`)."""
    pure = PurePosixPath(path)
    parts = path.split("/")
    if (
        len(path) > MAX_PATH_CHARACTERS
        or any(part in {"", ".", ".."} or part.startswith(".") for part in parts)
        or not path.isprintable()
    ):
        raise Invalid("bad_path", "A file's path is relative, without '..', hidden or empty parts.", field="path")
    if pure.suffix.lower() in PICKLES:
        raise Invalid(
            "pickle_refused", "Pickled weights can run code and are refused. Upload safetensors.", field="path"
        )
    if pure.suffix.lower() not in ALLOWED_SUFFIXES and pure.name not in {"LICENSE", "NOTICE"}:
        raise Invalid(
            "file_type", f"Files of this kind are not accepted: {', '.join(sorted(ALLOWED_SUFFIXES))}.", field="path"
        )
    return path


def attach_artifact(*, user: User, release: Release, path: str, blob: storage.Blob) -> Artifact:
    """Adds or replaces a file of a draft. Raises as `check_path`, Conflict (`too_many_files`)."""
    require(policies.may_edit_release(user, release))
    check_path(path)
    with transaction.atomic():
        if not Release.objects.select_for_update().filter(pk=release.pk, status__in=("draft", "rejected")).exists():
            raise Conflict("release_frozen", "This release was submitted meanwhile. Create a new version.")
        if release.artifacts.exclude(path=path).count() >= MAX_FILES:
            raise Conflict("too_many_files", f"A release holds at most {MAX_FILES} files.")
        artifact, _ = Artifact.objects.update_or_create(
            release=release, path=path, defaults={"sha256": blob.sha256, "bytes": blob.bytes}
        )
    return artifact


def remove_artifact(*, user: User, release: Release, path: str) -> None:
    require(policies.may_edit_release(user, release))
    release.artifacts.filter(path=path).delete()


def submit(*, user: User, release: Release) -> None:
    """Hands the files to the verify job. Raises Invalid (`files_missing`), Conflict (`not_editable`)."""
    require(policies.may_edit_release(user, release))
    have = set(release.artifacts.values_list("path", flat=True))
    if missing := [path for path in (engine.CONFIG_FILE, engine.WEIGHTS_FILE) if path not in have]:
        raise Invalid("files_missing", f"Upload these files first: {', '.join(missing)}.", items=missing)
    with transaction.atomic():
        if not Release.objects.transition(release.pk, to=ReleaseStatus.VERIFYING, report={}):
            raise Conflict("not_editable", "This release is being verified or was published already.")
        audit.record("release.submit", actor=user, namespace=release.listing.namespace, subject=release)
        enqueue(Job.VERIFY_RELEASE, release.pk)


def record_verification(*, release_id: int, result: dict[str, Any], golden: storage.Blob | None) -> bool:
    """Takes over the verify job's result: READY with the measured figures, or REJECTED with the problems.
    False where the release is not being verified any more."""
    report = result.get("report", {})
    accepted = result.get("status") == "accepted"
    fields: dict[str, Any] = {"report": {"problems": result.get("problems", []), **report}}
    if accepted:
        fields |= {
            "parameters": report.get("parameters"),
            "gflops": report.get("gflops"),
            "labels": report.get("labels") or [],
            "preprocessing": report.get("input") or {},
            "input_size": (report.get("input") or {}).get("size"),
        }
    to = ReleaseStatus.READY if accepted else ReleaseStatus.REJECTED
    with transaction.atomic():
        if not Release.objects.transition(release_id, to=to, **fields):
            return False
        if accepted and golden is not None:
            Artifact.objects.update_or_create(
                release_id=release_id,
                path=engine.GOLDEN_FILE,
                defaults={"sha256": golden.sha256, "bytes": golden.bytes},
            )
    if accepted:
        _publish_if_asked(release_id)
    return True


def _publish_if_asked(release_id: int) -> None:
    """Publishes a derivative as soon as it is verified; where that is not allowed any more it stays READY and
    its owner sees why when publishing by hand."""
    release = Release.objects.select_related("listing__namespace", "terms", "created_by").get(pk=release_id)
    if release.publish_when_verified and release.created_by is not None:
        try:
            publish(user=release.created_by, release=release, now=timezone.now())
        except DomainError as error:
            logger.warning("%s stays unpublished: %s", release, error)


def publish(*, user: User, release: Release, now: datetime) -> Release:
    """Freezes the files under a manifest and makes the release the listing's newest.

    Raises Denied (`not_verified`, `terms_too_wide`, ...): a derivative's terms are checked once more."""
    require(policies.may_publish(user, release))
    for edge in release.parent_edges.select_related("terms"):
        if edge.terms is not None:
            require(policies.may_carry(release.terms.value, edge.terms.value))
    if not release.artifacts.filter(path=engine.CARD_FILE).exists():
        raise Invalid("card_missing", f"Upload {engine.CARD_FILE}, the model's card, first.")
    with transaction.atomic():
        digest = manifest_sha256(release)
        if not Release.objects.transition(
            release.pk, to=ReleaseStatus.PUBLISHED, manifest_sha256=digest, published_at=now
        ):
            raise Conflict("not_verified", "This release was published or changed meanwhile.")
        Listing.objects.filter(pk=release.listing_id).update(latest_release=release, updated_at=now)
        audit.record(
            "release.publish",
            actor=user,
            namespace=release.listing.namespace,
            subject=release,
            details={"manifest_sha256": digest},
        )
    release.refresh_from_db()
    return release


def publish_remote(*, user: User, release: Release, now: datetime, **facts: Any) -> Release:
    """Lists a release whose weights this server has not fetched: its figures are those of its source."""
    require(policies.may_edit_release(user, release))
    with transaction.atomic():
        Release.objects.filter(pk=release.pk).update(**facts)
        Release.objects.transition(release.pk, to=ReleaseStatus.VERIFYING)
        Release.objects.transition(release.pk, to=ReleaseStatus.READY)
        digest = manifest_sha256(release)
        Release.objects.transition(release.pk, to=ReleaseStatus.PUBLISHED, manifest_sha256=digest, published_at=now)
        Listing.objects.filter(pk=release.listing_id).update(latest_release=release)
    release.refresh_from_db()
    return release


def yank(*, user: User, release: Release, reason: str, now: datetime) -> None:
    """Withdraws a release: hidden from new licensees, still served to those who hold a grant.

    Raises Invalid (`reason_missing`), Denied (`not_published`)."""
    require(policies.may_yank(user, release))
    if not reason.strip():
        raise Invalid("reason_missing", "Say why, so that those who use it know what to do.", field="reason")
    with transaction.atomic():
        if not Release.objects.transition(release.pk, to=ReleaseStatus.YANKED, yanked_reason=reason.strip()[:300]):
            raise Conflict("not_published", "This release was withdrawn already.")
        newest = Release.objects.filter(listing_id=release.listing_id, status=ReleaseStatus.PUBLISHED).first()
        Listing.objects.filter(pk=release.listing_id).update(latest_release=newest, updated_at=now)
        audit.record(
            "release.yank",
            actor=user,
            namespace=release.listing.namespace,
            subject=release,
            details={"reason": reason},
        )


def attach_texts(*, user: User, release: Release, texts: Iterable[tuple[str, str]]) -> None:
    """Adds small text files, such as a card that a form wrote."""
    for path, text in texts:
        blob = storage.put_bytes(text.encode())
        attach_artifact(user=user, release=release, path=path, blob=blob)


def timm_config(*, architecture: str, labels: list[str], preprocessing: dict[str, Any]) -> str:
    """Returns a `config.json` for a vendor who filled in a form instead of uploading one."""
    size = int(preprocessing["size"])
    document = {
        "architecture": architecture,
        "num_classes": len(labels),
        "label_names": labels,
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "mean": list(preprocessing["mean"]),
            "std": list(preprocessing["std"]),
            "interpolation": preprocessing["interpolation"],
            "crop_pct": preprocessing["crop_fraction"],
            "num_classes": len(labels),
        },
    }
    return json.dumps(document, indent=1)


def record_fetch(*, release_id: int, result: dict[str, Any], files: dict[str, dict[str, Any]], problem: str) -> None:
    """Takes over fetched weights: a new version with the files, published in the place of the remote one.
    A fetch that failed leaves its reason in the release's report."""
    release = Release.objects.select_related("listing__namespace", "terms").get(pk=release_id)
    if not files:
        Release.objects.filter(pk=release_id).update(report={**release.report, "fetch_problem": problem})
        return
    report = result.get("report", {})
    with transaction.atomic():
        local = Release.objects.create(
            listing=release.listing,
            version=f"{release.version}-local",
            status=ReleaseStatus.READY,
            terms=release.terms,
            notes=f"Weights fetched from {release.remote_url}",
            parameters=report.get("parameters"),
            gflops=report.get("gflops"),
            labels=report.get("labels") or [],
            preprocessing=report.get("input") or {},
            input_size=(report.get("input") or {}).get("size"),
            report=report,
        )
        Artifact.objects.bulk_create(
            Artifact(release=local, path=path.removeprefix("release/"), sha256=entry["sha256"], bytes=entry["bytes"])
            for path, entry in files.items()
        )
        for card in release.artifacts.filter(path=engine.CARD_FILE):
            Artifact.objects.create(release=local, path=card.path, sha256=card.sha256, bytes=card.bytes)
        digest = manifest_sha256(local)
        Release.objects.transition(local.pk, to=ReleaseStatus.PUBLISHED, manifest_sha256=digest, published_at=Now())
        Listing.objects.filter(pk=release.listing_id).update(latest_release=local)
