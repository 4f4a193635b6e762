"""Try a model: drop an image, see the likeliest classes. And the staff's button that fetches weights."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST

from finetuning.services import playground
from marketplace.errors import DomainError
from models_catalog import policies
from models_catalog.services import publishing
from models_catalog.web.catalog import find


@login_required
def page(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """The page; its form also works without a script and then answers with the page again."""
    release = find(request, namespace, name)
    allowed = policies.may_predict(request.user, release, now=timezone.now())
    context: dict[str, Any] = {"release": release, "listing": release.listing, "allowed": allowed}
    if request.method == "POST":
        try:
            content = playground.read_image(request.FILES.get("image"))
            context["result"] = playground.predict(user=request.user, release=release, content=content)
        except DomainError as error:
            context["error"] = error
    return render(request, "finetuning/try.html", context)


@login_required
@require_POST
def predict(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """Answers JSON for the page's script; errors have a code and a sentence."""
    release = find(request, namespace, name)
    try:
        content = playground.read_image(request.FILES.get("image"))
        return JsonResponse(playground.predict(user=request.user, release=release, content=content))
    except DomainError as error:
        return JsonResponse({"code": error.code, "message": error.message}, status=error.status)


@login_required
@require_POST
def fetch_weights(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    publishing.request_fetch(user=request.user, release=find(request, namespace, name))
    messages.info(request, "Fetching has begun. Reload this page in a minute; a failure is shown here.")
    return redirect("listing", namespace, name)
