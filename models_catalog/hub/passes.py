"""Signed, short-lived leave to send certain bytes: in an address, because LFS clients send no token with a file, or as
the token of a Xet session. Whoever it was given to must still be allowed when it is used."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from django.core import signing

from marketplace import throttling
from marketplace.accounts.models import User
from marketplace.decisions import require
from models_catalog import policies
from models_catalog.hub.base import ErrorCode, HubError
from models_catalog.models import Listing

LIFETIME = timedelta(hours=12)  # large files, slow lines: all addresses of one upload are given at its start
LFS, XET = "lfs", "xet"


@dataclass(frozen=True, slots=True)
class Pass:
    """`subject` is what may be sent: the SHA-256 of an LFS object, or the name of a Xet session. `size` and
    `part_bytes` are of an object; 0 is no limit of its own, and no parts."""

    kind: str
    user: int
    listing: int
    subject: str
    size: int = 0
    part_bytes: int = 0
    until: int = 0


def issue(leave: Pass, *, now: datetime) -> str:
    until = int((now + LIFETIME).timestamp())
    return signing.dumps({**asdict(leave), "until": until}, salt=_salt(leave.kind), compress=True)


def read(text: str, *, kind: str, now: datetime) -> Pass:
    """Raises HubError (403) for a pass that this site did not write, that was changed or that has expired."""
    try:
        leave = Pass(**signing.loads(text, salt=_salt(kind)))
    except (signing.BadSignature, TypeError, ValueError) as error:
        raise HubError(403, ErrorCode.NONE, "This upload was not granted here. Start it again.") from error
    if leave.until <= now.timestamp():
        raise HubError(403, ErrorCode.NONE, "The leave to upload has expired. Start the upload again.")
    return leave


def holder(leave: Pass) -> tuple[User, Listing]:
    """Returns who sends, and for which listing. Raises HubError (403), Denied (`not_the_vendor`) where that has changed
    since, Throttled. Each use counts as a call of the user's account: the views do not know who asks."""
    user = User.objects.filter(pk=leave.user, is_active=True).first()
    listing = Listing.objects.select_related("namespace").filter(pk=leave.listing).first()
    if user is None or listing is None:
        raise HubError(403, ErrorCode.NONE, "There is nothing to upload to any more.")
    require(policies.may_manage(user, listing))
    throttling.count_for(user)
    return user, listing


def _salt(kind: str) -> str:
    return f"models_catalog.hub.{kind}"
