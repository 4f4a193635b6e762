"""Pages of runs: the form, the live page, the evaluation, publication."""

from __future__ import annotations

import uuid

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.text import slugify
from django.views.decorators.http import require_POST

from finetuning import policies, selectors
from finetuning.forms import PublishForm, RunForm
from finetuning.models import Run
from finetuning.services import derivatives
from finetuning.services import runs as services
from marketplace.accounts.services import people
from marketplace.errors import DomainError
from marketplace.html import add_error
from models_catalog import policies as license_policies
from models_catalog.selectors import licenses_of
from models_catalog.web.catalog import find as find_release


def find(request: HttpRequest, uid: uuid.UUID) -> Run:
    return get_object_or_404(selectors.runs_of(request.user), uid=uid)


@login_required
def index(request: HttpRequest) -> HttpResponse:
    return render(request, "finetuning/runs.html", {"runs": selectors.runs_of(request.user)[:100]})


@login_required
def new(request: HttpRequest) -> HttpResponse:
    """`?model=namespace/name`; without one, the models that the person has licensed."""
    namespace, _, name = request.GET.get("model", "").partition("/")
    if not name:
        return render(request, "finetuning/run_choose.html", {"grants": licenses_of(request.user)})
    release = find_release(request, namespace, name, request.GET.get("version", ""))
    form = RunForm(
        request.POST or None,
        user=request.user,
        task=release.listing.task,
        initial={"dataset": request.GET.get("dataset")},
    )
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
    allowed = license_policies.may_fine_tune(request.user, release, now=timezone.now())
    context = {"form": form, "release": release, "listing": release.listing, "allowed": allowed}
    return render(request, "finetuning/run_new.html", context)


@login_required
def detail(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    run = find(request, uid)
    context = {
        "run": run,
        "listing": run.release.listing,
        "evaluation": run.evaluation,
        "confusion": _confusion(run),
        "cancel": policies.may_cancel(request.user, run),
        "publish": policies.may_publish_derivative(request.user, run, now=timezone.now()),
        "elapsed": selectors.elapsed_seconds(run),
    }
    return render(request, "finetuning/run.html", context)


def _confusion(run: Run) -> list[tuple[str, list[tuple[int, float]]]]:
    """Returns (class, [(count, share of the row)]) for each true class."""
    matrix = run.evaluation.get("confusion", [])
    labels = run.evaluation.get("labels", [])
    return [
        (label, [(count, count / (sum(row) or 1)) for count in row]) for label, row in zip(labels, matrix, strict=True)
    ]


@login_required
def events(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    cursor = selectors.read_cursor(request.GET.get("after", "0")) or 0
    return JsonResponse(selectors.run_progress(find(request, uid), after=cursor))


@login_required
@require_POST
def cancel(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    services.request_cancel(user=request.user, run=find(request, uid), now=timezone.now())
    return redirect("run", uid)


@login_required
def publish(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    run = find(request, uid)
    suggested = slugify(f"{run.release.listing.name}-{run.dataset_version.dataset.name}")[:90]
    initial = {"namespace": people.namespace_of(request.user), "name": suggested, "version": "1.0"}
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
        "terms": derivatives.default_terms(run, now=now),
    }
    return render(request, "finetuning/publish.html", context)
