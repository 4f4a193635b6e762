"""Pages of runs: the live page, the evaluation, publication."""

from __future__ import annotations

import uuid
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any, get_type_hints
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.text import slugify
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_POST

from finetuning import compute, policies, selectors
from finetuning.engine import titles
from finetuning.engine.spec import Hyper, Strategy, applicable
from finetuning.forms import PublishForm
from finetuning.models import Run
from finetuning.services import derivative_terms, derivatives, results, steering
from finetuning.web import evaluations, trials
from marketplace import downloads, storage
from marketplace.errors import DomainError
from marketplace.html import add_error

PAGE_SIZE = 25
# What an evaluation writes beside its result, and is shown as.
FILE_TYPES = {".png": "image/png", ".json": "application/json"}


def find(request: HttpRequest, uid: uuid.UUID) -> Run:
    return get_object_or_404(selectors.runs_of(request.user), uid=uid)


@login_required
def index(request: HttpRequest) -> HttpResponse:
    """All of one's runs, or with `?license=` those under one license."""
    license_ = request.GET.get("license", "")
    found = selectors.runs_under(request.user, license_) if license_ else selectors.runs_of(request.user)
    page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    rows = [(run, titles.STRATEGIES[Strategy(run.strategy)]) for run in page]
    return render(request, "finetuning/runs.html", {"page": page, "rows": rows, "license": license_})


@login_required
def detail(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    run = find(request, uid)
    context = {
        "run": run,
        "listing": run.release.listing,
        "evaluation": evaluations.page(run),
        "curves": evaluations.curves(run.dataset_version),
        "settings": _settings(run),
        "strategy": titles.STRATEGIES[Strategy(run.strategy)],
        "again": urlencode(
            {
                "model": str(run.release.listing),
                "dataset": run.dataset_version.dataset.uid,
                "strategy": run.strategy,
                **run.hyper,
            }
        ),
        "cancel": policies.may_cancel(request.user, run),
        "pause": policies.may_pause(request.user, run),
        "resume": policies.may_resume(request.user, run, now=timezone.now()) if run.is_paused else None,
        "use": policies.may_use_result(request.user, run, now=timezone.now()) if run.status == "succeeded" else None,
        "publish": policies.may_publish_derivative(request.user, run, now=timezone.now()),
        "worked": compute.worked_seconds(run, now=timezone.now()),
        "elapsed": selectors.elapsed_seconds(run),
        "search": trials.page(run),
    }
    return render(request, "finetuning/run.html", context)


def _settings(run: Run) -> list[tuple[str, Any]]:
    """Returns (label, value) of the settings that the run's strategy reads."""
    hints = get_type_hints(Hyper)
    read = [entry for entry in applicable(Strategy(run.strategy), run.task) if entry.name in run.hyper]
    return [(entry.metadata["label"], _in_words(hints[entry.name], run.hyper[entry.name])) for entry in read]


def _in_words(kind: type[Any], value: Any) -> Any:
    if kind is bool:
        return "yes" if value else "no"
    return titles.title_of(kind(value)) if issubclass(kind, StrEnum) else value


@login_required
def result(request: HttpRequest, uid: uuid.UUID) -> HttpResponseBase:
    """What the run has made, as one zip."""
    run = find(request, uid)
    results.open_to(request.user, run, now=timezone.now())
    archive = derivatives.archive_of(run)
    return downloads.archive_response(request, archive=archive, filename=derivatives.zip_name(run))


@login_required
def events(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    cursor = selectors.read_cursor(request.GET.get("after", "0")) or 0
    return JsonResponse(selectors.run_progress(find(request, uid), after=cursor))


@login_required
def searched(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    """The trials of the run's search as they stand: a part of the run's page."""
    run = find(request, uid)
    return render(request, "finetuning/_run_trials.html", {"run": run, "search": trials.page(run)})


@login_required
@cache_control(private=True, max_age=86_400, immutable=True)
def evaluation_file(request: HttpRequest, uid: uuid.UUID, name: str) -> HttpResponse:
    """Serves a drawing of the evaluation's, or its receipt."""
    file = evaluations.file_of(find(request, uid), name)
    content_type = FILE_TYPES.get(PurePosixPath(name).suffix)
    if file is None or content_type is None:
        raise Http404
    return HttpResponse(b"".join(storage.chunks(file["sha256"])), content_type=content_type)


@login_required
@require_POST
def cancel(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    steering.request_cancel(user=request.user, run=find(request, uid), now=timezone.now())
    return redirect("run", uid)


@login_required
@require_POST
def pause(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    steering.request_pause(user=request.user, run=find(request, uid), now=timezone.now())
    return redirect("run", uid)


@login_required
@require_POST
def resume(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    steering.resume(user=request.user, run=find(request, uid), now=timezone.now())
    return redirect("run", uid)


@login_required
def publish(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    run = find(request, uid)
    suggested = slugify(f"{run.release.listing.name}-{run.dataset_version.dataset.name}")[:90]
    now = timezone.now()
    terms = derivative_terms.widest(run)
    initial = {"namespace": run.owner, "name": suggested, "version": "1.0", "currency": terms.currency}
    licenses = derivative_terms.choices(run, user=request.user)
    form = PublishForm(request.POST or None, user=request.user, licenses=licenses, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            release = derivatives.publish(user=request.user, run=run, now=now, **form.cleaned_data)
            return redirect("vendor_release", release.listing.namespace.name, release.listing.name, release.version)
        except DomainError as error:
            add_error(form, error)
    context = {
        "run": run,
        "form": form,
        "allowed": policies.may_publish_derivative(request.user, run, now=now),
        "terms": terms,
    }
    return render(request, "finetuning/publish.html", context)
