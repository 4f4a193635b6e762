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

from finetuning import policies, selectors
from finetuning.engine.spec import Split, Task
from finetuning.forms import UPLOADS, DataLicenseForm, DatasetForm
from finetuning.models import Dataset, DatasetVersion
from finetuning.models.datasets import DatasetStatus
from finetuning.services import datasets as services
from finetuning.services import examples, thumbnails
from finetuning.web import dataset_reports, samples
from marketplace.accounts.services import people
from marketplace.errors import DomainError
from marketplace.html import add_error, form_errors, wants_json
from marketplace.templatetags.market import filesize
from marketplace.uploads import services as uploads

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
            source, filename = uploads.given(
                user=request.user, upload=fields["upload"], file=fields["file"], now=timezone.now()
            )
            dataset = services.receive(
                user=request.user,
                owner=people.namespace_of(request.user),
                name=fields["name"],
                task=fields["task"],
                source=source,
                filename=filename,
                license=fields["license"] or services.OWN,
            )
            location = reverse("dataset", args=[dataset.uid])
            return JsonResponse({"location": location}) if wants_json(request) else redirect(location)
        except DomainError as error:
            add_error(form, error)
    if request.method == "POST" and wants_json(request):
        return form_errors(form)
    endings = {ending for upload in UPLOADS.values() for ending in upload.accept.split(",")}
    context = {
        "form": form,
        "max_size": filesize(settings.MAX_UPLOAD_BYTES),
        "max_bytes": settings.MAX_UPLOAD_BYTES,
        "accept": ",".join(sorted(endings)),
        "examples": examples.available(),
    }
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
    """`?class=`, `?split=`, `?q=` and `?page=` choose what is shown of the items."""
    dataset = find(request, uid)
    version = next(iter(dataset.versions.all()), None)
    context: dict[str, Any] = {
        "dataset": dataset,
        "version": version,
        "lead": f"{dataset.get_task_display()}{_kind(version)} · {dataset.upload_name}",
        "is_text": dataset.task == Task.TEXT_CLASSIFICATION,
        "license_name": dataset.terms.name if dataset.terms else services.LICENSES[services.OWN].name,
        "license_form": DataLicenseForm(initial={"license": services.license_key(dataset)}),
        "may_change": policies.may_change(request.user, dataset.owner),
    }
    if request.headers.get("HX-Request") == "true":
        if dataset.status != DatasetStatus.CHECKING:
            return HttpResponse(headers={"HX-Refresh": "true"})
        return render(request, "finetuning/_dataset_state.html", context)
    if version:
        context |= _overview(version, dataset.task) | _items(request, version, dataset.task)
    return render(request, "finetuning/dataset.html", context)


def _kind(version: DatasetVersion | None) -> str:
    return ", any number of labels" if version and version.is_multi_label else ""


def _overview(version: DatasetVersion, task: str) -> dict[str, Any]:
    report = version.report
    return {
        "report": report,
        "noun": dataset_reports.noun(task),
        "counts": dataset_reports.counts(report, task),
        "balance": dataset_reports.balance(report, task),
        "measures": dataset_reports.measures(report),
        "left_out": report.get("corrupt") or report.get("left_out") or [],
        "copies": samples.copies_of(version),
    }


def _items(request: HttpRequest, version: DatasetVersion, task: str) -> dict[str, Any]:
    search = samples.search_of(request.GET, version.labels)
    run = selectors.newest_audit_of(request.user, version)
    return {
        "search": search,
        "page": samples.page_of(version, task, search, request.GET.get("page")),
        "classes": samples.classes_of(version),
        "splits": list(Split),
        "has_masks": "thumbnails" in version.report,
        "detailed": task in services.DETAILED,
        "audit_run": run,
        "suspects": samples.suspects_of(version, run),
    }


@login_required
@cache_control(private=True, max_age=86_400, immutable=True)
def thumbnail(request: HttpRequest, uid: uuid.UUID, number: int, suffix: str = thumbnails.PLAIN) -> HttpResponse:
    """Serves a re-encoded thumbnail, plain or under its mask; originals are never shown."""
    pack = selectors.thumbnails_of(request.user, uid)
    content = thumbnails.read(pack, number, suffix=suffix) if pack else None
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
def license(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:  # noqa: A001 - the last part of its address
    chosen = request.POST.get("license", "")
    services.set_license(user=request.user, dataset=find(request, uid), license=chosen)
    return redirect("dataset", uid)


@login_required
@require_POST
def recheck(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    services.recheck(user=request.user, dataset=find(request, uid))
    return redirect("dataset", uid)
