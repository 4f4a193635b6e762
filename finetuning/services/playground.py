"""Predictions with a published release, or with a run's result, under its licence, by the predictor process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.utils import timezone

from finetuning.engine.spec import Task
from finetuning.models import Run
from finetuning.services import results, workspaces
from marketplace import predictor
from marketplace.accounts.models import User
from marketplace.decisions import require
from marketplace.errors import Invalid, TooLarge
from models_catalog import policies
from models_catalog.models import Release
from models_catalog.services import seats

MAX_CLASSES, MAX_BOXES = 20, 100
_TOP_DIGITS = 4


def is_text(task: str) -> bool:
    """Whether models of the task take texts; the others take images."""
    return task == Task.TEXT_CLASSIFICATION


def read_given(task: str, *, upload: Any, text: Any) -> bytes | str:
    """Returns what was sent, as models of the task take it: the bytes of an upload or of a request's body, or a
    text. Raises Invalid (`image_missing`, `text_missing`), TooLarge."""
    if is_text(task):
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
    return _ask(lambda: workspaces.lay_out(release), given, top)


def predict_with_result(*, user: User, run: Run, given: bytes | str, top: int | None = None) -> dict[str, Any]:
    """The same by what a run has made. Raises as `results.open_to` and `predict` do."""
    results.open_to(user, run, now=timezone.now())
    return _ask(lambda: results.lay_out(run), given, top)


def _ask(lay_out: Callable[[], str], given: bytes | str, top: int | None) -> dict[str, Any]:
    try:
        return predictor.predict(lay_out(), given, top=top)
    except Invalid as error:
        if error.code != "not_laid_out":
            raise
        # The sweep took the directory between the two steps; it is laid out anew.
        return predictor.predict(lay_out(), given, top=top)
