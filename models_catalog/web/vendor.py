"""The vendor's desk: drafts, files, verification, publication, withdrawal, requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.forms import Form
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from finetuning.engine.spec import CARD_FILE, CONFIG_FILE, GOLDEN_FILE, weights_file
from marketplace import storage
from marketplace.decisions import require
from marketplace.errors import DomainError, Invalid
from marketplace.html import add_error, form_errors, wants_json
from marketplace.templatetags.market import filesize, price
from marketplace.uploads import services as uploads
from models_catalog import policies, selectors
from models_catalog.desks import vendor
from models_catalog.forms import ArtifactForm, CardForm, ConfigForm, ListingForm, ParentForm, ReasonForm, ReleaseForm
from models_catalog.models import Release
from models_catalog.presets import offer
from models_catalog.services import licensing, lineage, publishing
from models_catalog.web.catalog import manageable


@login_required
def desk(request: HttpRequest) -> HttpResponse:
    """What waits for the vendor; their lists are sections of their own (web/desk.py)."""
    return render(request, "models_catalog/vendor_desk.html", {"desk": vendor.overview(request.user)})


@login_required
def listing_new(request: HttpRequest) -> HttpResponse:
    form = ListingForm(request.POST or None, user=request.user)
    if request.method == "POST" and form.is_valid():
        try:
            listing = publishing.create_listing(user=request.user, **form.cleaned_data)
            return redirect("vendor_listing", listing.namespace.name, listing.name)
        except DomainError as error:
            add_error(form, error)
    return render(request, "models_catalog/vendor_form.html", {"form": form, "title": "New listing"})


@login_required
def listing(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    row = manageable(request, namespace, name)
    latest = row.latest_release
    initial = {
        "version": "" if row.releases.exists() else "1.0",
        "currency": latest.terms.currency if latest else "EUR",
    }
    form = ReleaseForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        fields = form.cleaned_data
        value = offer(fields["license"], price_minor=fields["price_minor"], currency=fields["currency"])
        try:
            release = publishing.draft(
                user=request.user,
                listing=row,
                version=fields["version"],
                terms=licensing.terms_row(value),
                notes=fields["notes"],
            )
            return redirect("vendor_release", row.namespace.name, row.name, release.version)
        except DomainError as error:
            add_error(form, error)
    releases = row.releases.select_related("terms").order_by("-id")
    return render(request, "models_catalog/vendor_listing.html", {"listing": row, "releases": releases, "form": form})


def _release(request: HttpRequest, namespace: str, name: str, version: str) -> Release:
    release = selectors.release_with_files(request.user, manageable(request, namespace, name), version)
    if release is None:
        raise Http404
    return release


def _back(release: Release) -> str:
    return reverse("vendor_release", args=[release.listing.namespace.name, release.listing.name, release.version])


@login_required
def release(request: HttpRequest, namespace: str, name: str, version: str) -> HttpResponse:
    row = _release(request, namespace, name, version)
    if request.headers.get("HX-Request") == "true":
        return render(request, "models_catalog/_release_state.html", {"release": row, "listing": row.listing})
    return _release_page(request, row)


def _release_page(request: HttpRequest, row: Release, **forms: Form) -> HttpResponse:
    """Renders the page; a form that was refused comes back with what was typed."""
    checklist = _checklist(row)
    context = {
        "release": row,
        "listing": row.listing,
        "lead": f"{row.terms.name} · {price(row.terms)}",
        "checklist": checklist,
        "missing": [name for name, is_there, is_required, _ in checklist if is_required and not is_there],
        "endings": sorted(publishing.ALLOWED_SUFFIXES),
        "max_size": filesize(settings.MAX_ARTIFACT_BYTES),
        "max_bytes": settings.MAX_ARTIFACT_BYTES,
        "upload": ArtifactForm(),
        "config": ConfigForm(),
        "card": CardForm(initial={"text": _card_text(row)}),
        "publish": policies.may_publish(request.user, row),
        "split": policies.split_of(row) if row.terms.price_minor else None,
        "yank": policies.may_yank(request.user, row),
        "edges": row.parent_edges.shown_to(request.user),
        "parent": ParentForm(),
        **forms,
    }
    return render(request, "models_catalog/vendor_release.html", context)


def _checklist(row: Release) -> list[tuple[str, bool, bool, str]]:
    """Returns (file, is it there, must it be, what it is for)."""
    have = {file.path for file in row.artifacts.all()}
    files = [
        (CONFIG_FILE, True, "names the architecture, the classes and the preprocessing"),
        (weights_file(row.listing.framework), True, "the weights; every tensor must fit the architecture"),
        (CARD_FILE, True, "the model card: intended use, limits, origin"),
        (GOLDEN_FILE, False, "an input and its output, to prove the model is whole; computed here if you have none"),
    ]
    return [(path, path in have, is_required, purpose) for path, is_required, purpose in files]


def _card_text(row: Release) -> str:
    file = next((item for item in row.artifacts.all() if item.path == CARD_FILE), None)
    if file is None:
        return f"# {row.listing.title}\n\n## Intended use\n\n## Limits\n"
    with storage.open_blob(file.sha256) as content:
        return content.read().decode("utf-8", errors="replace")


@login_required
@require_POST
def artifact(request: HttpRequest, namespace: str, name: str, version: str) -> HttpResponse:
    """Takes one file or several; a path of its own is for one file only."""
    row = _release(request, namespace, name, version)
    form = ArtifactForm(request.POST, request.FILES)
    if not form.is_valid():
        return form_errors(form) if wants_json(request) else redirect(_back(row))
    files: Sequence[Any] = request.FILES.getlist("file") or [None]
    try:
        sources = [
            uploads.given(user=request.user, upload=form.cleaned_data["upload"], file=file, now=timezone.now())
            for file in files
        ]
    except DomainError as error:
        add_error(form, error)
        return form_errors(form) if wants_json(request) else redirect(_back(row))
    paths = [name for _, name in sources] if len(sources) > 1 else [form.cleaned_data["path"] or sources[0][1]]
    for path in paths:
        require(policies.may_edit_release(request.user, row, path=path))
        publishing.check_path(path)
    for path, (source, _) in zip(paths, sources, strict=True):
        blob = storage.settle(source, max_bytes=settings.MAX_ARTIFACT_BYTES)
        publishing.attach_artifact(user=request.user, release=row, path=path, blob=blob)
    return JsonResponse({"location": _back(row)}) if wants_json(request) else redirect(_back(row))


@login_required
@require_POST
def parent(request: HttpRequest, namespace: str, name: str, version: str) -> HttpResponse:
    """Declares what a draft was made from."""
    row = _release(request, namespace, name, version)
    form = ParentForm(request.POST)
    if not form.is_valid():
        return _release_page(request, row, parent=form)
    try:
        lineage.declare(
            user=request.user,
            release=row,
            parent=_parent_named(request, form.cleaned_data["listing"], version=form.cleaned_data["parent_version"]),
            relation=form.cleaned_data["relation"],
            now=timezone.now(),
        )
    except DomainError as error:
        add_error(form, error)
        return _release_page(request, row, parent=form)
    return redirect(_back(row))


def _parent_named(request: HttpRequest, identifier: str, *, version: str) -> Release:
    owner, _, name = identifier.strip().partition("/")
    found = selectors.listing_of(request.user, owner, name).first()
    release = selectors.release_with_files(request.user, found, version) if found else None
    if release is None:
        raise Invalid("no_such_model", "Nothing of this name is here for you: write vendor/model.", field="listing")
    return release


@login_required
@require_POST
def text(request: HttpRequest, namespace: str, name: str, version: str, kind: str) -> HttpResponse:
    """Writes the card, or a config.json from the form."""
    row = _release(request, namespace, name, version)
    form = CardForm(request.POST) if kind == "card" else ConfigForm(request.POST)
    if not form.is_valid():
        return _release_page(request, row, **{"card" if kind == "card" else "config": form})
    fields = dict(form.cleaned_data)
    if kind == "card":
        path, content = CARD_FILE, fields["text"]
    else:
        labels = [line.strip() for line in fields.pop("labels").splitlines() if line.strip()]
        architecture = row.listing.architecture
        path = CONFIG_FILE
        content = publishing.timm_config(architecture=architecture, labels=labels, preprocessing=fields)
    publishing.attach_texts(user=request.user, release=row, texts=[(path, content)])
    messages.success(request, f"{path} is saved.")
    return redirect(_back(row))


@login_required
@require_POST
def act(request: HttpRequest, namespace: str, name: str, version: str, verb: str) -> HttpResponse:
    """submit, publish, yank, or remove a file."""
    row = _release(request, namespace, name, version)
    if verb == "submit":
        publishing.submit(user=request.user, release=row)
    elif verb == "publish":
        publishing.publish(user=request.user, release=row, now=timezone.now())
    elif verb == "remove":
        publishing.remove_artifact(user=request.user, release=row, path=request.POST.get("path", ""))
    elif verb == "yank":
        form = ReasonForm(request.POST)
        reason = form.cleaned_data["reason"] if form.is_valid() else ""
        publishing.yank(user=request.user, release=row, reason=reason, now=timezone.now())
    else:
        raise Http404
    return redirect(_back(row))
