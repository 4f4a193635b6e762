"""Predictions with a published release, under its licence, by the predictor process."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils import timezone

from finetuning.services import workspaces
from marketplace import predictor
from marketplace.accounts.models import User
from marketplace.decisions import require
from marketplace.errors import Invalid, TooLarge
from models_catalog import policies
from models_catalog.models import Release

DEFAULT_TOP, MAX_TOP = 5, 20
_TOP_DIGITS = 4


def read_image(upload: Any) -> bytes:
    """Returns the bytes of an upload or of a request's body. Raises Invalid (`image_missing`), TooLarge."""
    if not hasattr(upload, "read"):
        raise Invalid("image_missing", "Send an image: JPEG, PNG or WebP.", field="image")
    content = bytes(upload.read(settings.MAX_IMAGE_BYTES + 1))
    if len(content) > settings.MAX_IMAGE_BYTES:
        raise TooLarge("too_large", f"Send an image of at most {settings.MAX_IMAGE_BYTES >> 20} MiB.")
    return content


def read_top(text: str) -> int:
    """Returns how many classes a client asks for. Raises Invalid (`bad_top`)."""
    if not text.isdecimal() or len(text) > _TOP_DIGITS or not 1 <= int(text) <= MAX_TOP:
        raise Invalid("bad_top", f"`top` is a whole number from 1 to {MAX_TOP}.", field="top")
    return int(text)


def predict(*, user: User, release: Release, content: bytes, top: int = DEFAULT_TOP) -> dict[str, Any]:
    """Returns the most likely classes. Raises what `may_predict` denies, Invalid for a picture that cannot be
    read, Unavailable (`predictor_down`)."""
    require(policies.may_predict(user, release, now=timezone.now()))
    if release.listing.task != "image-classification":
        raise Invalid("task_not_supported", "Only image classifiers can be tried here so far.")
    if not content:
        raise Invalid("image_missing", "The image is empty.", field="image")
    top = max(1, min(top, MAX_TOP))
    try:
        return predictor.predict(workspaces.lay_out(release), content, top=top)
    except Invalid as error:
        if error.code != "not_laid_out":
            raise
        # The sweep took the directory between the two steps; it is laid out anew.
        return predictor.predict(workspaces.lay_out(release), content, top=top)
