"""The way to a run: which model, what to learn, which settings."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone

from finetuning import selectors
from finetuning.engine.spec import PRESETS, Preset, SearchMode, SpecError, Task, preset_of
from finetuning.forms import RunForm, ready_datasets
from finetuning.models import Dataset, Run
from finetuning.search_form import SearchForm
from finetuning.services import estimates, searches
from finetuning.services import runs as services
from finetuning.services.datasets import parse_uid
from finetuning.web import estimates as pages
from marketplace.errors import DomainError
from marketplace.html import add_error
from models_catalog import policies
from models_catalog.models import Listing, Release
from models_catalog.models.listings import TASKS
from models_catalog.selectors import licenses_of
from models_catalog.web.catalog import find as find_release

MAX_CHOICES = 25
_OF_THE_PAGE = ("model", "version", "dataset")  # what a link to another task or preset keeps


@login_required
def new(request: HttpRequest) -> HttpResponse:
    """`?model=namespace/name`, `task`, `preset` and any field of the form; without a model, those that the person
    may tune."""
    namespace, _, name = request.GET.get("model", "").partition("/")
    if not name:
        return render(request, "finetuning/run_choose.html", _choice(request))
    release = find_release(request, namespace, name, request.GET.get("version", ""))
    task = _task(request, release)
    preset, problem = _preset(request, task)
    form = RunForm(request.POST or None, user=request.user, task=task, initial=_initial(request, preset))
    search = SearchForm(request.POST or None, task=task)
    told: dict[str, Any] | None = None
    if request.method == "POST" and all([form.is_valid(), search.is_valid()]):
        try:
            if "estimate" not in request.POST:
                return redirect("run", _launched(request, release, form, search).uid)
            told = _estimated(request, release, form, search)
        except DomainError as error:
            if twin := error.extra.get("run"):  # the very same is under way: that is where its owner wants to be
                messages.info(request, error.message)
                return redirect("run", twin)
            add_error(search if error.field in search.fields else form, error)
    if request.htmx and "estimate" in request.POST:
        return render(request, "finetuning/_estimate.html", {"told": told, "problems": _problems(form, search)})
    context = {
        "told": told,
        "form": form,
        "search": search,
        "release": release,
        "listing": release.listing,
        "allowed": policies.may_fine_tune_for_some(request.user, release, now=timezone.now()),
        "task": task,
        "price_minor": settings.COMPUTE_PRICE_MINOR_PER_HOUR,
        "currency": settings.COMPUTE_CURRENCY,
        "tasks": [(target, dict(TASKS)[target], _link(request, task=target)) for target in release.listing.targets],
        "preset": preset,
        "preset_problem": problem,
        "presets": [(item, _link(request, task=task, preset=item.name)) for item in PRESETS[task]],
    }
    return render(request, "finetuning/run_new.html", context)


def _launched(request: HttpRequest, release: Release, form: RunForm, search: SearchForm) -> Run:
    wish = search.wish
    return services.launch(
        user=request.user,
        release=release,
        dataset=form.cleaned_data["dataset"],
        strategy="" if wish and wish.mode is SearchMode.RACE else form.cleaned_data["strategy"],
        hyper=_given(form, search),
        search=wish,
        budget_minutes=form.cleaned_data["budget_minutes"],
        now=timezone.now(),
    )


def _estimated(request: HttpRequest, release: Release, form: RunForm, search: SearchForm) -> dict[str, Any]:
    """Asks for the estimate of what the forms describe. Raises as `searches.extent_of` and `estimates.ask`."""
    budget = form.cleaned_data["budget_minutes"]
    extent = searches.extent_of(search.wish, budget_minutes=budget)
    row = estimates.ask(
        user=request.user,
        release=release,
        dataset=form.cleaned_data["dataset"],
        strategy=form.cleaned_data["strategy"],
        hyper=_given(form, search),
        search=search.wish,
        budget_minutes=budget,
        now=timezone.now(),
    )
    return pages.part_of(row, budget_minutes=budget, extent=extent)


def _given(form: RunForm, search: SearchForm) -> dict[str, Any]:
    """Returns the settings of the form; what a trial varies is not held at the value that the form shows."""
    varied = search.wish.space if search.wish else ()
    return {name: value for name, value in form.hyper.items() if name not in varied}


def _problems(*forms: RunForm | SearchForm) -> list[str]:
    """Returns what is wrong with the forms, each with the field's name."""
    return [
        f"{form.fields[name].label or name}: {text}" if name in form.fields else str(text)
        for form in forms
        for name, texts in form.errors.items()
        for text in texts
    ]


def _choice(request: HttpRequest) -> dict[str, Any]:
    """Returns the models that the person may tune, on the dataset that the address names where it does."""
    dataset = _named_dataset(request)
    tunable = Listing.objects.tunable(Task(dataset.task) if dataset else None)
    own = tunable.managed_by(request.user).live().filter(latest_release__remote_url="")
    return {
        "grants": licenses_of(request.user).active(timezone.now()).filter(listing__in=tunable),
        "own": own.select_related("namespace", "latest_release__terms").order_by("-updated_at")[:MAX_CHOICES],
        "dataset": dataset,
    }


def _named_dataset(request: HttpRequest) -> Dataset | None:
    uid = parse_uid(request.GET.get("dataset", ""))
    return selectors.datasets_of(request.user).filter(uid=uid).first() if uid else None


def _task(request: HttpRequest, release: Release) -> Task:
    """Returns what is to be learned: as asked, else as the named dataset says, else the first that the person
    has data for."""
    targets = release.listing.targets or (Task(release.listing.task),)
    dataset = _named_dataset(request)
    for asked in (request.POST.get("task"), request.GET.get("task"), dataset.task if dataset else None):
        if asked in targets:
            return Task(asked)
    return next((target for target in targets if ready_datasets(request.user, target).exists()), targets[0])


def _preset(request: HttpRequest, task: Task) -> tuple[Preset | None, str]:
    """Returns the preset that the address names, or what is wrong with the name."""
    name = request.GET.get("preset", "")
    try:
        return (preset_of(task, name) if name else None), ""
    except SpecError as error:
        return None, str(error)


def _initial(request: HttpRequest, preset: Preset | None) -> dict[str, Any]:
    """Returns what the address says of the form, such as the settings of a run that is to be repeated, over what
    the preset says."""
    # A box that was not ticked is written out: the text "False" would tick it.
    asked = {name: False if value == "False" else value for name, value in request.GET.dict().items()}
    return {**preset.hyper, **asked, "strategy": preset.strategy.value} if preset else asked


def _link(request: HttpRequest, **changes: str) -> str:
    """Returns this page's address for another task or preset."""
    kept = {name: request.GET[name] for name in _OF_THE_PAGE if request.GET.get(name)}
    return f"?{urlencode({**kept, **changes})}"
