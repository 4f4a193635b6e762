"""From a draft to the catalog: listings, releases, their files, verification, publication, withdrawal."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from datetime import datetime
from itertools import count
from pathlib import PurePosixPath
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from finetuning.engine import spec as engine
from finetuning.engine.crash_points import Point, reach
from finetuning.engine.headlines import headline
from marketplace import storage
from marketplace.accounts.models import Namespace, User
from marketplace.accounts.models.people import RESERVED_NAMES, validate_name
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict, Denied, DomainError, Invalid, TooLarge
from marketplace.queue import Job, enqueue
from marketplace.webhooks.events import EventType
from models_catalog import ancestry, policies
from models_catalog.cards import MAX_CARD_BYTES
from models_catalog.models import Artifact, Download, LicenseTerms, Listing, Release
from models_catalog.models.incidents import IncidentKind
from models_catalog.models.listings import EDITABLE, ReleaseStatus
from models_catalog.services import incidents, lineage, verdicts, webhooks
from models_catalog.services.manifests import manifest_sha256

logger = logging.getLogger(__name__)
MAX_FILES = 64
MAX_PATH_CHARACTERS = 200
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+\-_]{0,39}")
# Files that a release may hold, by ending: text, JSON, safetensors, Keras. Nothing that runs, nothing pickled.
ALLOWED_SUFFIXES = frozenset({".md", ".txt", ".json", ".safetensors", ".model", ".keras", ".onnx"})
PICKLES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".joblib", ".bin", ".ckpt", ".h5", ".npy", ".npz"})


def create_listing(*, user: User, namespace: Namespace, name: str, **fields: Any) -> Listing:
    """Creates a draft listing. Raises Denied (`not_a_member`), Invalid (`bad_name`, `measured_here`), Conflict
    (`name_taken`)."""
    if not Namespace.objects.writable_by(user).filter(pk=namespace.pk).exists():
        raise Denied("not_a_member", f"You cannot publish as {namespace}.")
    try:
        validate_name(name)
    except ValidationError as error:
        raise Invalid("bad_name", str(error.message), field="name") from error
    if name.lower() in RESERVED_NAMES:
        raise Conflict("name_reserved", "This name is reserved. Choose another.", field="name")
    _check_source(fields.get("accuracy_source", ""))
    try:
        with transaction.atomic():
            listing = Listing.objects.create(namespace=namespace, name=name, **fields)
            audit.record("listing.create", actor=user, namespace=namespace, subject=listing)
    except IntegrityError as error:
        raise Conflict("name_taken", f"{namespace} has a listing of this name already.", field="name") from error
    return listing


EDITABLE_FIELDS = ("title", "summary", "accuracy", "accuracy_metric", "accuracy_source")
_FIGURES = frozenset({"accuracy", "accuracy_metric", "accuracy_source"})
_CLAIM = re.compile(r"\bthis (web)?(site|server|marketplace|catalog)\b|\bmeasured here\b", re.IGNORECASE)


def _check_source(source: str) -> None:
    """Raises Invalid (`measured_here`): that this site measured a figure is said by a release's metrics alone."""
    if _CLAIM.search(source):
        raise Invalid(
            "measured_here",
            "Name your own source: what this site has measured, it says itself.",
            field="accuracy_source",
        )


def edit_listing(*, user: User, listing: Listing, **fields: Any) -> Listing:
    """Changes what describes a listing; what it is (task, framework, architecture) never changes. Raises
    Denied (`not_the_vendor`, `measured_here`), Invalid (`measured_here`)."""
    require(policies.may_manage(user, listing))
    changed = {name: value for name, value in fields.items() if name in EDITABLE_FIELDS}
    if changed.keys() & _FIGURES:
        require(policies.may_state_figures(listing))
        _check_source(changed.get("accuracy_source", ""))
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
    """Creates an empty release; a further version of a derivative comes from the same parents and credits them.

    Raises Denied (`not_the_vendor`; `terms_too_wide`, `price_not_allowed` where a parent forbids the terms;
    `price_below_floor`, `currency_mismatch` as `may_price` says), Invalid (`bad_version`), Conflict (`version_taken`): a version is
    never used twice."""
    require(policies.may_manage(user, listing))
    check_version(version)
    try:
        with transaction.atomic():
            edges = lineage.inherited(listing)
            links = [ancestry.link_of(edge) for edge in edges]
            bound = ancestry.bounds(links, owner_id=listing.namespace_id, user=user)
            carried = lineage.carrying(terms, bound=bound, name=listing.name)
            release = Release.objects.create(
                listing=listing, version=version, terms=carried, notes=notes, created_by=user
            )
            lineage.take_over(edges, release=release)
            require(policies.may_price(release))
    except IntegrityError as error:
        raise version_taken() from error
    return release


def check_version(version: str) -> None:
    """Raises Invalid (`bad_version`)."""
    if not _VERSION.fullmatch(version):
        raise Invalid(
            "bad_version", "A version is letters, digits, '.', '-', '+' and '_', such as 1.0.", field="version"
        )


def version_taken() -> Conflict:
    return Conflict("version_taken", "This version exists; a version never changes. Count up.", field="version")


def check_path(path: str) -> str:
    """Returns the path of an artifact. Raises Invalid (`bad_path`, `pickle_refused`, `file_type`)."""
    pure = PurePosixPath(path)
    parts = path.split("/")
    if (
        len(path) > MAX_PATH_CHARACTERS
        or any(part in {"", ".", ".."} or part.startswith(".") for part in parts)
        or not path.isprintable()
        or "\\" in path  # on Windows it parts folders, and could lead out of the one that is unpacked into
    ):
        text = "A file's path is relative, without '..', backslashes, hidden or empty parts."
        raise Invalid("bad_path", text, field="path")
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
    """Adds or replaces a file of a draft. Raises as `check_path`, Denied (`release_frozen`,
    `derivative_frozen`, `not_the_vendor`), TooLarge (`card_too_large`), Conflict (`too_many_files`,
    `path_taken`)."""
    require(policies.may_edit_release(user, release, path=path))
    check_path(path)
    if path == engine.CARD_FILE and blob.bytes > MAX_CARD_BYTES:
        raise TooLarge("card_too_large", f"A card has at most {MAX_CARD_BYTES >> 10} KiB. Shorten it.")
    with transaction.atomic():
        _lock_editable(release)
        if release.artifacts.exclude(path=path).count() >= MAX_FILES:
            raise Conflict("too_many_files", f"A release holds at most {MAX_FILES} files.")
        like = release.artifacts.filter(path__iexact=path).exclude(path=path).first()
        if like:
            raise Conflict(
                "path_taken",
                f"{like.path} is here already, and many disks hold no two names that differ in case only. "
                "Delete it first, or choose another name.",
                field="path",
            )
        artifact, _ = Artifact.objects.update_or_create(
            release=release, path=path, defaults={"sha256": blob.sha256, "bytes": blob.bytes}
        )
    return artifact


def remove_artifact(*, user: User, release: Release, path: str) -> None:
    """Takes a file out of a draft. Raises as `attach_artifact`."""
    require(policies.may_edit_release(user, release))
    with transaction.atomic():
        _lock_editable(release)
        Download.objects.filter(artifact__release=release, artifact__path=path).delete()  # the vendor's own
        release.artifacts.filter(path=path).delete()


def _lock_editable(release: Release) -> None:
    if not Release.objects.select_for_update(no_key=True).filter(pk=release.pk, status__in=EDITABLE).exists():
        raise Conflict("release_frozen", "This release was submitted meanwhile. Create a new version.")


def submit(*, user: User, release: Release, publish_when_verified: bool = False) -> None:
    """Hands the files to the verify job; with `publish_when_verified` they are published, in the user's name, as soon as
    it accepts them: the wish is of this submission and no later one.

    Raises Denied (`release_frozen`, `derivative_frozen`), Invalid (`files_missing`, `card_missing`,
    `lineage_undeclared`), Conflict (`not_editable`, `files_quarantined`)."""
    require(policies.may_submit(user, release))
    wish: dict[str, Any] = {"publish_when_verified": publish_when_verified}
    if publish_when_verified:
        wish["created_by"] = user
    with transaction.atomic():
        if not Release.objects.transition(release.pk, to=ReleaseStatus.VERIFYING, report={}, **wish):
            raise Conflict("not_editable", "This release is being verified or was published already.")
        _require_files(release)
        incidents.require_free(release)
        lineage.require_declared(user=user, release=release)
        audit.record("release.submit", actor=user, namespace=release.listing.namespace, subject=release)
        enqueue(Job.VERIFY_RELEASE, release.pk)


def _require_files(release: Release) -> None:
    """Raises Invalid (`files_missing`, `card_missing`, `architecture_missing`): what is verified can be published as it is."""
    have = set(release.artifacts.values_list("path", flat=True))
    needed = (engine.CONFIG_FILE, engine.weights_file(release.listing.framework))
    if missing := [path for path in needed if path not in have]:
        raise Invalid("files_missing", f"Upload these files first: {', '.join(missing)}.", items=missing)
    if engine.CARD_FILE not in have:
        raise Invalid("card_missing", f"Upload {engine.CARD_FILE}, the model's card, first.")
    if not release.listing.architecture:  # pushed by a Hub client, with a config.json that names none
        text = (
            f"Name the architecture in {engine.CONFIG_FILE} (`architecture`, or `architectures`), and push that again."
        )
        raise Invalid("architecture_missing", text)


def record_verification(*, release_id: int, result: dict[str, Any], golden: storage.Blob | None) -> bool:
    """Takes over the verify job's result: READY with the measured figures, or REJECTED with the problems.
    False where the release is not being verified any more."""
    verdict = verdicts.read(result)
    to = ReleaseStatus.READY if verdict.accepted else ReleaseStatus.REJECTED
    with transaction.atomic():
        if not Release.objects.transition(release_id, to=to, **verdict.fields):
            return False
        if verdict.accepted and golden is not None:
            Artifact.objects.update_or_create(
                release_id=release_id,
                path=engine.GOLDEN_FILE,
                defaults={"sha256": golden.sha256, "bytes": golden.bytes},
            )
        event = EventType.RELEASE_VERIFIED if verdict.accepted else EventType.RELEASE_REJECTED
        release = Release.objects.select_related("listing__namespace").get(pk=release_id)
        webhooks.of_release(event, release, now=timezone.now())
    if verdict.accepted:
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
    """Freezes the files under a manifest and makes the release what the listing offers.

    Raises Denied (`not_verified`, `terms_too_wide`, `price_below_floor`, ...): its terms and its price are judged
    once more by all that it was made of, however far up, and the licenses of that still run (`parent_license_ended`);
    Conflict (`ancestor_quarantined`, `files_quarantined`). Locks the listing and the release."""
    require(policies.may_publish(user, release))
    with transaction.atomic():
        row = Release.objects.locked(release.pk)
        bound = ancestry.bounds_of(row, user=user)
        require(policies.may_offer(row.terms.value, bound, name=row.listing.name))
        require(policies.may_price(row))
        require(policies.parents_hold(bound, now=now))
        incidents.carry_over(row)
        incidents.require_free(row)
        digest = manifest_sha256(row)
        if not Release.objects.transition(row.pk, to=ReleaseStatus.PUBLISHED, manifest_sha256=digest, published_at=now):
            raise Conflict("not_verified", "This release was published or changed meanwhile.")
        _offer(row, listing=row.listing, now=now)
        audit.record(
            "release.publish",
            actor=user,
            namespace=row.listing.namespace,
            subject=row,
            details={"manifest_sha256": digest},
        )
        webhooks.of_release(EventType.RELEASE_PUBLISHED, row, now=now)
        reach(Point.PUBLISH_COMMITTING)
    reach(Point.PUBLISH_COMMITTED)
    release.refresh_from_db()
    return release


def offer_newest(listing: Listing, *, now: datetime) -> None:
    """Points the locked listing at the newest release that is published, if there is one."""
    _offer(Release.objects.filter(listing=listing, status=ReleaseStatus.PUBLISHED).first(), listing=listing, now=now)


def _offer(release: Release | None, *, listing: Listing, now: datetime) -> None:
    """Points the locked listing at what it offers now. Figures that this site measured come and go with the
    release that they are of; a vendor's own stay."""
    before = listing.latest_release
    figures: dict[str, Any] = {}
    if release is not None and release.is_measured:
        measured = headline(engine.Task(listing.task), release.metrics.get("metrics", {}))
        metric = f"{measured.title} on its held-out test split" if measured else ""
        figures = {"accuracy": measured.value if measured else None, "accuracy_metric": metric}
    elif before is not None and before.is_measured:
        figures = {"accuracy": None, "accuracy_metric": ""}
    Listing.objects.filter(pk=listing.pk).update(latest_release=release, updated_at=now, **figures)


def publish_remote(*, user: User, release: Release, now: datetime, **facts: Any) -> Release:
    """Lists a release whose weights this server has not fetched: its figures are those of its source."""
    require(policies.may_edit_release(user, release))
    with transaction.atomic():
        row = Release.objects.locked(release.pk)
        Release.objects.filter(pk=row.pk).update(**facts)
        Release.objects.transition(row.pk, to=ReleaseStatus.VERIFYING)
        Release.objects.transition(row.pk, to=ReleaseStatus.READY)
        row.refresh_from_db()
        digest = manifest_sha256(row)
        Release.objects.transition(row.pk, to=ReleaseStatus.PUBLISHED, manifest_sha256=digest, published_at=now)
        _offer(row, listing=row.listing, now=now)
    release.refresh_from_db()
    return release


def yank(*, user: User, release: Release, reason: str, now: datetime) -> None:
    """Withdraws a release: hidden from new licensees, still served to those who hold a grant. What was made from
    it is flagged, and those who are concerned are told. Locks the listing and the release.

    Raises Invalid (`reason_missing`), Denied (`not_published`)."""
    require(policies.may_yank(user, release))
    if not reason.strip():
        raise Invalid("reason_missing", "Say why, so that those who use it know what to do.", field="reason")
    with transaction.atomic():
        row = Release.objects.locked(release.pk)
        if not Release.objects.transition(row.pk, to=ReleaseStatus.YANKED, yanked_reason=reason.strip()[:300]):
            raise Conflict("not_published", "This release was withdrawn already.")
        offer_newest(row.listing, now=now)
        audit.record(
            "release.yank",
            actor=user,
            namespace=row.listing.namespace,
            subject=row,
            details={"reason": reason},
        )
        text = reason.strip()[:300]
        incidents.begin(release=row, kind=IncidentKind.YANKED, reason=text, actor=user, now=now)


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


def request_fetch(*, user: User, release: Release) -> None:
    """Queues the download of weights that this server only lists. Raises Denied (`not_staff`, `on_server`,
    `not_published`)."""
    require(policies.may_fetch(user, release))
    with transaction.atomic():
        audit.record("release.request_fetch", actor=user, namespace=release.listing.namespace, subject=release)
        enqueue(Job.FETCH_WEIGHTS, release.pk)


def record_fetch(*, release_id: int, result: dict[str, Any], files: dict[str, dict[str, Any]], problem: str) -> None:
    """Takes over fetched weights: a new version with the files takes the place of the remote one, if that is
    what the listing still offers. A fetch that failed leaves its reason in the release's report. Fetching twice
    publishes once. Locks the listing and the release."""
    verdict = verdicts.read({"status": "accepted", "report": result.get("report", {})})
    if files and not verdict.accepted:
        problem = verdict.fields["report"]["problems"][0]["message"]
    with transaction.atomic():
        remote = Release.objects.locked(release_id)
        if not remote.is_live or remote.listing.latest_release_id != remote.pk:
            logger.info("%s was withdrawn or replaced while its weights were fetched", remote)
        elif not files or not verdict.accepted:
            Release.objects.filter(pk=remote.pk).update(report={**remote.report, "fetch_problem": problem})
        else:
            _publish_fetched(remote, verdict=verdict, files=files)


def _publish_fetched(remote: Release, *, verdict: verdicts.Verdict, files: dict[str, dict[str, Any]]) -> None:
    now = timezone.now()
    local = Release.objects.create(
        listing=remote.listing,
        version=_free_version(remote),
        status=ReleaseStatus.READY,
        terms=remote.terms,
        notes=f"Weights fetched from {remote.remote_url}"[:300],
        **verdict.fields,
    )
    fetched = {path.removeprefix("release/"): (entry["sha256"], entry["bytes"]) for path, entry in files.items()}
    card = remote.artifacts.filter(path=engine.CARD_FILE).values_list("path", "sha256", "bytes")
    fetched |= {path: (sha256, size) for path, sha256, size in card}
    Artifact.objects.bulk_create(
        Artifact(release=local, path=path, sha256=sha256, bytes=size) for path, (sha256, size) in fetched.items()
    )
    digest = manifest_sha256(local)
    Release.objects.transition(local.pk, to=ReleaseStatus.PUBLISHED, manifest_sha256=digest, published_at=now)
    _offer(local, listing=remote.listing, now=now)
    details = {"url": remote.remote_url, "manifest_sha256": digest}
    audit.record("release.fetch", actor=None, namespace=remote.listing.namespace, subject=local, details=details)
    webhooks.of_release(EventType.RELEASE_PUBLISHED, local, now=now)


def _free_version(remote: Release) -> str:
    """Returns a version for the fetched weights that no other release of the listing has, withdrawn ones too."""
    stem = f"{remote.version[:30]}-local"
    taken = set(Release.objects.filter(listing=remote.listing_id).values_list("version", flat=True))
    return next(name for number in count(1) if (name := stem if number == 1 else f"{stem}.{number}") not in taken)
