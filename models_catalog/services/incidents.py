"""What the withdrawal or quarantine of a release means for those that were made from it, and who is told.

Call these inside the transaction of the act, under the release's lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Exists, OuterRef
from django.urls import reverse

from finetuning.engine import spec as engine
from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services.notifications import notify
from marketplace.errors import Conflict
from marketplace.webhooks.events import EventType
from models_catalog.models import Flag, Grant, Incident, LineageEdge, Release
from models_catalog.models.incidents import IncidentKind
from models_catalog.models.listings import ReleaseQuerySet, ReleaseStatus
from models_catalog.services import webhooks

_FATE = {
    IncidentKind.YANKED: "Your license stays: the files are still served to you.",
    IncidentKind.QUARANTINED: "Nothing of it is served while the site's staff look into it. Your license stays.",
}
_FLAGGED = "The models that you offer or license and that were made from it are flagged."
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Message:
    kind: str
    event: EventType
    title: str
    body: str


def begin(*, release: Release, kind: IncidentKind, reason: str, actor: User, now: datetime) -> Incident:
    """Records the event, flags every release that comes from this one, and tells each licensee and vendor once."""
    incident = Incident.objects.create(release=release, kind=kind, reason=reason, opened_at=now, opened_by=actor)
    descendants = LineageEdge.objects.descendants_of(release.pk)
    Flag.objects.bulk_create((Flag(incident=incident, release_id=pk) for pk in sorted(descendants)), batch_size=_BATCH)
    verb = "yank" if kind == IncidentKind.YANKED else "quarantine"
    event = EventType.RELEASE_YANKED if kind == IncidentKind.YANKED else EventType.RELEASE_QUARANTINED
    near = Message(f"release.{verb}", event, f"{release} was {kind.label}", f"Reason: {reason}\n{_FATE[kind]}")
    flagged = EventType.LINEAGE_FLAGGED
    far = Message(
        "lineage.flag", flagged, f"A model that yours comes from was {kind.label}", f"Reason: {reason}\n{_FLAGGED}"
    )
    _tell(incident, near=near, far=far, actor=actor, now=now)
    return incident


def resolve(*, release: Release, kind: IncidentKind, actor: User, now: datetime) -> None:
    """Takes the flags of the release's event back, and tells those who were told of it."""
    incident = Incident.objects.unresolved().filter(release=release, kind=kind).first()
    if incident is None:
        return
    Incident.objects.filter(pk=incident.pk).update(resolved_at=now, resolved_by=actor)
    near = Message("release.lift", EventType.RELEASE_LIFTED, f"{release} is back", "It is served again as before.")
    title = "A model that yours comes from is back"
    far = Message("lineage.clear", EventType.LINEAGE_CLEARED, title, "The flags of what was made from it are gone.")
    _tell(incident, near=near, far=far, actor=actor, now=now)


def carry_over(release: Release) -> None:
    """Flags a release that is about to be published for what happened to its ancestors before. Raises Conflict
    (`ancestor_quarantined`) while one of them is quarantined."""
    ancestors = LineageEdge.objects.ancestors_of(release.pk)
    found = [
        incident
        for batch in _batches(ancestors)
        for incident in Incident.objects.unresolved().filter(release__in=batch)
    ]
    if any(incident.kind == IncidentKind.QUARANTINED for incident in found):
        text = "A model that this one comes from is quarantined. Publish once the site's staff have lifted that."
        raise Conflict("ancestor_quarantined", text)
    Flag.objects.bulk_create((Flag(incident=incident, release=release) for incident in found), ignore_conflicts=True)


def require_free(release: Release) -> None:
    """Raises Conflict (`files_quarantined`) where the weights are, byte for byte, those of a release that is quarantined:
    under another version or name they are what the staff have stopped."""
    weights = release.artifacts.filter(path=engine.weights_file(release.listing.framework))
    stopped = Release.objects.filter(status=ReleaseStatus.QUARANTINED).exclude(pk=release.pk)
    if stopped.filter(artifacts__sha256__in=weights.values("sha256")).exists():
        raise files_quarantined()


def files_quarantined() -> Conflict:
    text = "These very files are quarantined. Offer them again once the site's staff have lifted that."
    return Conflict("files_quarantined", text)


def _batches(keys: set[int]) -> list[list[int]]:
    ordered = sorted(keys)
    return [ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH)]


def _tell(incident: Incident, *, near: Message, far: Message, actor: User, now: datetime) -> None:
    """Tells those who offer or license the release itself, and those of what was made from it, who are not told its
    name: it may be private to them. One key for both: who belongs to both is told once, by the nearer words."""
    url = reverse("incident", args=[incident.pk])
    key = f"incident:{incident.pk}:{near.kind}"
    own = Release.objects.filter(pk=incident.release_id)
    flagged = Release.objects.filter(flags__incident=incident)
    nearer: set[Namespace] = set()
    for message, releases, tell in ((near, own, webhooks.of_incident), (far, flagged, webhooks.of_ancestor)):
        whom = _vendors(releases) | _licensees(releases, now)
        tell(message.event, incident, recipients=whom - nearer, now=now)
        nearer |= whom
        notify(
            kind=message.kind, recipients=whom, title=message.title, body=message.body, url=url, key=key, actor=actor
        )


def _vendors(releases: ReleaseQuerySet) -> set[Namespace]:
    return set(Namespace.objects.filter(Exists(releases.filter(listing__namespace=OuterRef("pk")))))


def _licensees(releases: ReleaseQuerySet, now: datetime) -> set[Namespace]:
    grants = Grant.objects.active(now).opening(releases)
    return set(Namespace.objects.filter(pk__in=grants.values("licensee")))
