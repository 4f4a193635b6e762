"""Try a model: show it an image or a text, see what it says. And the staff's button that fetches weights."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from finetuning import policies as tuning
from finetuning.engine.spec import Task
from finetuning.services import derivatives, playground
from finetuning.web.runs import find as find_run
from marketplace.errors import DomainError
from models_catalog import policies
from models_catalog.services import publishing
from models_catalog.web.catalog import find

LEADS = {
    Task.IMAGE_CLASSIFICATION: "Show it an image and see what it answers. The image is not stored.",
    Task.OBJECT_DETECTION: "Show it an image and see what it finds, and where. The image is not stored.",
    Task.SEMANTIC_SEGMENTATION: "Show it an image and see the class of every pixel. The image is not stored.",
    Task.TEXT_CLASSIFICATION: "Give it a text and see what it answers. The text is not stored.",
}
IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp")
# A page that carries its picture grows by a third of it; a script shows the picture that it has anyway.
MAX_SHOWN_BYTES = 4 * 2**20
LETTERS_ACROSS = 24  # of the names that are drawn beside boxes, along the picture's longer side


@login_required
def page(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """The page of a release, or for its script the answer alone."""
    release = find(request, namespace, name)
    address = (namespace, name)
    shown = {
        "name": str(release.listing),
        "allowed": policies.may_predict(request.user, release, now=timezone.now()),
        "back": (reverse("listing", args=address), "Back to the model"),
        "mend": (reverse("checkout", args=address), "See its license"),
    }
    task = Task(release.listing.task)
    return _page(request, task, shown, partial(playground.predict, user=request.user, release=release))


@login_required
def result(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    """The same of what a run has made."""
    run = find_run(request, uid)
    address = (run.release.listing.namespace.name, run.release.listing.name)
    shown = {
        "name": derivatives.name_of(run),
        "allowed": tuning.may_use_result(request.user, run, now=timezone.now()),
        "back": (reverse("run", args=[run.uid]), "Back to the run"),
        "mend": (reverse("checkout", args=address), "See the model's license"),
    }
    return _page(request, run.task, shown, partial(playground.predict_with_result, user=request.user, run=run))


def _page(request: HttpRequest, task: Task, shown: dict[str, Any], ask: Callable[..., dict[str, Any]]) -> HttpResponse:
    fragment = request.headers.get("HX-Request") == "true"
    context: dict[str, Any] = {
        **shown,
        "lead": LEADS[task],
        "is_text": playground.is_text(task),
        "text": request.POST.get("text", ""),
    }
    status = 200
    if request.method == "POST":
        upload = request.FILES.get("image")
        try:
            given = playground.read_given(task, upload=upload, text=request.POST.get("text"))
            answer = ask(given=given)
            picture = "" if fragment else _picture(upload, given)
            context["result"] = {**_placed(answer), "picture": picture}
        except DomainError as error:
            context["error"], status = error, error.status
    template = "finetuning/_prediction.html" if fragment else "finetuning/try.html"
    return render(request, template, context, status=status if fragment else 200)


def _placed(answer: dict[str, Any]) -> dict[str, Any]:
    """Returns the answer with what is drawn of it: each box with its size, and whether it counts as found; the
    classes that a mask shows, the largest first."""
    threshold = answer.get("threshold", 0.0)
    boxes = [
        {
            **found,
            "width": found["box"]["right"] - found["box"]["left"],
            "height": found["box"]["bottom"] - found["box"]["top"],
            "is_found": found["confidence"] >= threshold,
        }
        for found in answer.get("predictions", [])
        if "box" in found
    ]
    seen = sorted((entry for entry in answer.get("classes", []) if entry["share"]), key=lambda entry: -entry["share"])
    letters = max(answer.get("width", 0), answer.get("height", 0)) / LETTERS_ACROSS
    found = sum(box["is_found"] for box in boxes)
    return {**answer, "boxes": boxes, "found": found, "seen": seen, "letters": letters}


def _picture(upload: Any, given: bytes | str) -> str:
    """Returns the uploaded picture as an address of its own, or nothing where it is none or too large for a page."""
    if isinstance(given, str) or len(given) > MAX_SHOWN_BYTES:
        return ""
    kind = upload.content_type
    return f"data:{kind};base64,{base64.b64encode(given).decode()}" if kind in IMAGE_TYPES else ""


@login_required
@require_POST
def fetch_weights(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    publishing.request_fetch(user=request.user, release=find(request, namespace, name))
    messages.info(request, "Fetching has begun. Reload this page in a minute; a failure is shown here.")
    return redirect("listing", namespace, name)
