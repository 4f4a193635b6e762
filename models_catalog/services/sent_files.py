"""What Hub clients have sent and not yet committed: remembered for a day, for its sender and its listing alone."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef, Sum

from marketplace import storage
from marketplace.accounts.models import User
from marketplace.uploads import services as uploads
from models_catalog.models import Artifact, Listing, SentFile
from models_catalog.services import parts

LIFETIME = timedelta(hours=24)


def record(*, user: User, listing: Listing, blob: storage.Blob, now: datetime) -> None:
    """Remembers that these bytes came from the user for the listing. Only who has checked them may call it."""
    SentFile.objects.update_or_create(
        listing=listing, user=user, sha256=blob.sha256, defaults={"bytes": blob.bytes, "sent_at": now}
    )


def find(*, user: User, listing: Listing, sha256: str, now: datetime) -> storage.Blob | None:
    """Returns the file where the listing has it already, or the user has sent it for the listing; never because it is
    known for another reason."""
    here = Artifact.objects.filter(release__listing=listing, sha256=sha256).first()
    if here is not None:
        return storage.Blob(here.sha256, here.bytes)
    sent = SentFile.objects.filter(listing=listing, user=user, sha256=sha256, sent_at__gt=now - LIFETIME).first()
    return storage.Blob(sent.sha256, sent.bytes) if sent else None


def left_bytes(*, user: User, now: datetime) -> int:
    """Returns how many bytes more the user may send before some are committed; may be negative. Counted are uploads in
    pieces, what Hub clients have sent whole, and what lies on the disk of files that are not."""
    committed = Artifact.objects.filter(release__listing=OuterRef("listing"), sha256=OuterRef("sha256"))
    rows = SentFile.objects.filter(~Exists(committed), user=user)
    sent = rows.aggregate(sum=Sum("bytes", default=0))["sum"]
    held = uploads.held_bytes(user=user, now=now) + sent + parts.held_bytes(user.pk)
    return int(settings.MAX_UNCOMMITTED_BYTES - held)


def require_left(size: int, *, user: User, now: datetime) -> None:
    """Raises TooLarge (`too_much_uncommitted`) where the user may not send so many bytes more. What is sent at the same
    moment is not seen: that is a part or a xorb for each thread of the server."""
    if left_bytes(user=user, now=now) < size:
        raise uploads.too_much_uncommitted()


def forget(*, now: datetime) -> int:
    """Forgets what was not committed in time; the bytes go with the garbage unless something else needs them."""
    return SentFile.objects.filter(sent_at__lte=now - 2 * LIFETIME).delete()[0]
