"""Predictions with a published release, under its licence, by the predictor process."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils import timezone

from finetuning.engine.spec import Task
from finetuning.services import workspaces
from marketplace import predictor
from marketplace.accounts.models import User
from marketplace.decisions import require
from marketplace.errors import Invalid, TooLarge
from models_catalog import policies
from models_catalog.models import Release
from models_catalog.services import seats

MAX_CLASSES, MAX_BOXES = 20, 100
_TOP_DIGITS = 4


def is_text(release: Release) -> bool:
    """Whether the model takes texts; the others take images."""
    return release.listing.task == Task.TEXT_CLASSIFICATION


def read_given(release: Release, *, upload: Any, text: Any) -> bytes | str:
    """Returns what was sent, as the release's task takes it: the bytes of an upload or of a request's body, or a
    text. Raises Invalid (`image_missing`, `text_missing`), TooLarge."""
    if is_text(release):
        if not isinstance(text, str) or not text.strip():
            raise Invalid("text_missing", 'Send a text, as JSON: {"text": "..."}.', field="text")
        return text
    if not hasattr(upload, "read"):
        raise Invalid("image_missing", "Send an image: JPEG, PNG or WebP.", field="image")
    content = bytes(upload.read(settings.MAX_IMAGE_BYTES + 1))
    if not content:
        raise Invalid("image_missing", "The image is empty.", field="image")
    if len(content) > settings.MAX_IMAGE_BYTES:
        raise TooLarge("too_large", f"Send an image of at most {settings.MAX_IMAGE_BYTES >> 20} MiB.")
    return content


def read_top(text: str | None, task: str) -> int | None:
    """Returns how many classes or boxes a client asks for; None leaves it to the model. Raises Invalid
    (`bad_top`)."""
    if text is None:
        return None
    most = MAX_BOXES if task == Task.OBJECT_DETECTION else MAX_CLASSES
    if not text.isdecimal() or len(text) > _TOP_DIGITS or not 1 <= int(text) <= most:
        raise Invalid("bad_top", f"`top` is a whole number from 1 to {most}.", field="top")
    return int(text)


def predict(*, user: User, release: Release, given: bytes | str, top: int | None = None) -> dict[str, Any]:
    """Returns the likeliest classes, the boxes, or the mask, as docs/engine.md has it ("serve"). Raises what
    `may_predict` denies, Invalid for what cannot be read, Unavailable (`predictor_down`)."""
    require(policies.may_predict(user, release, now=timezone.now()))
    seats.use(user=user, release=release, now=timezone.now())
    try:
        return predictor.predict(workspaces.lay_out(release), given, top=top)
    except Invalid as error:
        if error.code != "not_laid_out":
            raise
        # The sweep took the directory between the two steps; it is laid out anew.
        return predictor.predict(workspaces.lay_out(release), given, top=top)
