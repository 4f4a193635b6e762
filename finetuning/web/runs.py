"""Pages of runs: the form, the live page, the evaluation, publication."""

from __future__ import annotations

import uuid
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.text import slugify
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_POST

from finetuning import policies, selectors
from finetuning.engine.spec import Strategy, Task, applicable
from finetuning.forms import PublishForm, RunForm, strategy_title
from finetuning.models import Run
from finetuning.services import derivatives
from finetuning.services import runs as services
from finetuning.web import evaluations
from marketplace import storage
from marketplace.decisions import all_of
from marketplace.errors import DomainError
from marketplace.html import add_error
from models_catalog import policies as license_policies
from models_catalog.models import Listing
from models_catalog.selectors import licenses_of
from models_catalog.web.catalog import find as find_release

PAGE_SIZE = 25
# What an evaluation writes beside its result, and is shown as.
FILE_TYPES = {".png": "image/png", ".json": "application/json"}


def find(request: HttpRequest, uid: uuid.UUID) -> Run:
    return get_object_or_404(selectors.runs_of(request.user), uid=uid)


@login_required
def index(request: HttpRequest) -> HttpResponse:
    page = Paginator(selectors.runs_of(request.user), PAGE_SIZE).get_page(request.GET.get("page"))
    rows = [(run, strategy_title(run.strategy)) for run in page]
    return render(request, "finetuning/runs.html", {"page": page, "rows": rows})


@login_required
def new(request: HttpRequest) -> HttpResponse:
    """`?model=namespace/name`, and any field of the form; without a model, those that the person may tune."""
    namespace, _, name = request.GET.get("model", "").partition("/")
    if not name:
        return render(request, "finetuning/run_choose.html", _choice(request))
    release = find_release(request, namespace, name, request.GET.get("version", ""))
    form = RunForm(request.POST or None, user=request.user, task=release.listing.task, initial=_prefilled(request))
    if request.method == "POST" and form.is_valid():
        try:
            run = services.launch(
                user=request.user,
                release=release,
                dataset=form.cleaned_data["dataset"],
                strategy=form.cleaned_data["strategy"],
                hyper=form.hyper,
                now=timezone.now(),
            )
            return redirect("run", run.uid)
        except DomainError as error:
            add_error(form, error)
    allowed = all_of(
        lambda: license_policies.may_fine_tune_for_some(request.user, release, now=timezone.now()),
        lambda: policies.can_be_tuned(release),
    )
    context = {"form": form, "release": release, "listing": release.listing, "allowed": allowed}
    return render(request, "finetuning/run_new.html", context)


def _choice(request: HttpRequest) -> dict[str, Any]:
    own = Listing.objects.managed_by(request.user).live().filter(latest_release__remote_url="")
    return {
        "grants": licenses_of(request.user).active(timezone.now()),
        "own": own.select_related("namespace", "latest_release__terms").order_by("-updated_at")[:PAGE_SIZE],
        "dataset": request.GET.get("dataset", ""),
    }


def _prefilled(request: HttpRequest) -> dict[str, Any]:
    """Returns what the address says of the form, such as the settings of a run that is to be repeated."""
    values: dict[str, Any] = request.GET.dict()
    # A box that was not ticked is written out: the text "False" would tick it.
    return {name: False if value == "False" else value for name, value in values.items()}


@login_required
def detail(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    run = find(request, uid)
    context = {
        "run": run,
        "listing": run.release.listing,
        "evaluation": evaluations.page(run),
        "curves": evaluations.curves(run.dataset_version.dataset.task),
        "settings": _settings(run),
        "strategy": strategy_title(run.strategy),
        "again": urlencode(
            {
                "model": str(run.release.listing),
                "dataset": run.dataset_version.dataset.uid,
                "strategy": run.strategy,
                **run.hyper,
            }
        ),
        "cancel": policies.may_cancel(request.user, run),
        "publish": policies.may_publish_derivative(request.user, run, now=timezone.now()),
        "elapsed": selectors.elapsed_seconds(run),
    }
    return render(request, "finetuning/run.html", context)


def _settings(run: Run) -> list[tuple[str, Any]]:
    """Returns (label, value) of the settings that the run's strategy reads."""
    task = Task(run.release.listing.task)
    entries = [entry for entry in applicable(Strategy(run.strategy), task) if entry.name in run.hyper]
    words = {True: "yes", False: "no"}
    values = [run.hyper[entry.name] for entry in entries]
    return [
        (entry.metadata["label"], words[value] if isinstance(value, bool) else value)
        for entry, value in zip(entries, values, strict=True)
    ]


@login_required
def events(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    cursor = selectors.read_cursor(request.GET.get("after", "0")) or 0
    return JsonResponse(selectors.run_progress(find(request, uid), after=cursor))


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
    services.request_cancel(user=request.user, run=find(request, uid), now=timezone.now())
    return redirect("run", uid)


@login_required
def publish(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    run = find(request, uid)
    suggested = slugify(f"{run.release.listing.name}-{run.dataset_version.dataset.name}")[:90]
    initial = {"namespace": run.owner, "name": suggested, "version": "1.0"}
    form = PublishForm(request.POST or None, user=request.user, initial=initial)
    now = timezone.now()
    if request.method == "POST" and form.is_valid():
        try:
            release = derivatives.publish(user=request.user, run=run, now=now, **form.fields_for_service)
            return redirect("vendor_release", release.listing.namespace.name, release.listing.name, release.version)
        except DomainError as error:
            add_error(form, error)
    context = {
        "run": run,
        "form": form,
        "allowed": policies.may_publish_derivative(request.user, run, now=now),
        "terms": derivatives.default_terms(run),
    }
    return render(request, "finetuning/publish.html", context)
