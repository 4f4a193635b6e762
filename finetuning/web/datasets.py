"""Pages of datasets: upload, the check, the health report, thumbnails."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_POST

from finetuning import selectors
from finetuning.forms import DatasetForm
from finetuning.models import Dataset
from finetuning.services import datasets as services
from finetuning.services import examples, thumbnails
from marketplace.accounts.services import people
from marketplace.errors import DomainError
from marketplace.html import add_error, form_errors, wants_json
from marketplace.templatetags.market import filesize

SHOWN_THUMBNAILS = 60
PAGE_SIZE = 25


def find(request: HttpRequest, uid: uuid.UUID) -> Dataset:
    return get_object_or_404(selectors.datasets_of(request.user), uid=uid)


@login_required
def index(request: HttpRequest) -> HttpResponse:
    page = Paginator(selectors.datasets_of(request.user), PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "finetuning/datasets.html", {"page": page})


@login_required
def new(request: HttpRequest) -> HttpResponse:
    form = DatasetForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        fields = form.cleaned_data
        try:
            dataset = services.receive(
                user=request.user,
                owner=people.namespace_of(request.user),
                name=fields["name"],
                task=fields["task"],
                stream=fields["file"],
                filename=fields["file"].name,
            )
            location = reverse("dataset", args=[dataset.uid])
            return JsonResponse({"location": location}) if wants_json(request) else redirect(location)
        except DomainError as error:
            add_error(form, error)
    if request.method == "POST" and wants_json(request):
        return form_errors(form)
    context = {"form": form, "max_size": filesize(settings.MAX_UPLOAD_BYTES), "examples": examples.available()}
    return render(request, "finetuning/dataset_new.html", context)


@login_required
def example(_request: HttpRequest, name: str) -> HttpResponseBase:
    """Serves a file that can be uploaded as it is."""
    found = examples.find(name)
    if found is None:
        raise Http404
    return FileResponse(found.path.open("rb"), as_attachment=True, filename=found.file)


@login_required
def detail(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    dataset = find(request, uid)
    version = next(iter(dataset.versions.all()), None)
    fragment = request.headers.get("HX-Request") == "true"
    context = {"dataset": dataset, "version": version, "report": version.report if version else None}
    if version and not fragment:
        context["images"] = _sample(services.items(version), version.labels)
    if fragment and dataset.status != "checking":
        return HttpResponse(headers={"HX-Refresh": "true"})
    return render(request, "finetuning/_dataset_state.html" if fragment else "finetuning/dataset.html", context)


def _sample(items: list[dict[str, Any]], labels: list[str]) -> list[dict[str, Any]]:
    """Returns images spread evenly over the upload, with the name of their class."""
    step = max(1, len(items) // SHOWN_THUMBNAILS)
    return [{**item, "class": labels[item["label"]]} for item in items[::step][:SHOWN_THUMBNAILS]]


@login_required
@cache_control(private=True, max_age=86_400, immutable=True)
def thumbnail(request: HttpRequest, uid: uuid.UUID, number: int) -> HttpResponse:
    """Serves a re-encoded thumbnail; originals are never shown."""
    pack = selectors.thumbnails_of(request.user, uid)
    content = thumbnails.read(pack, number) if pack else None
    if content is None:
        raise Http404
    return HttpResponse(content, content_type="image/jpeg")


@login_required
@require_POST
def delete(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    services.delete(user=request.user, dataset=find(request, uid), now=timezone.now())
    return redirect("datasets")


@login_required
@require_POST
def recheck(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    services.recheck(user=request.user, dataset=find(request, uid))
    return redirect("dataset", uid)
