"""The terms builder: a vendor composes terms, reads them in plain words, and puts them on a draft."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from marketplace.errors import DomainError
from marketplace.html import add_error
from models_catalog.models import Listing, Release
from models_catalog.plain_words import in_plain_words
from models_catalog.presets import OFFERS
from models_catalog.services import licensing, offers, publishing
from models_catalog.terms import Terms
from models_catalog.terms_form import FIELDS, TermsForm, initial
from models_catalog.web.catalog import manageable


@login_required
def build(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """`?start=` is the license or template to begin with, `?version=` a draft whose terms are changed. The button
    `preview` shows the terms in plain words, `save` puts them on the draft, or on a new one."""
    listing = manageable(request, namespace, name)
    start = request.GET.get("start", "")
    start = start if start in OFFERS else offers.START
    version = request.GET.get("version", "")
    form = TermsForm(request.POST or None, initial={**initial(OFFERS[start]), "version": version[:40]})
    terms: Terms | None = OFFERS[start]
    if request.method == "POST":
        terms = _composed(form, start)
        if terms is not None and request.POST.get("do") == "save" and (saved := _save(request, listing, form, terms)):
            return redirect("vendor_release", listing.namespace.name, listing.name, saved.version)
    context: dict[str, Any] = {
        "listing": listing,
        "form": form,
        "start": start,
        "starts": [(key, offer.name) for key, offer in OFFERS.items()],
        "terms": terms,
        "plain": in_plain_words(terms) if terms else None,
    }
    return render(request, "models_catalog/vendor_terms.html", context)


def _composed(form: TermsForm, start: str) -> Terms | None:
    if not form.is_valid():
        return None
    try:
        return offers.compose(form.clauses, start=start)
    except DomainError as error:
        error.field = FIELDS.get(error.field, error.field.replace("rights.", "right_"))
        add_error(form, error)
        return None


def _save(request: HttpRequest, listing: Listing, form: TermsForm, terms: Terms) -> Release | None:
    """Returns the draft that has the terms now, or None where something forbids them: the form says what."""
    version = form.cleaned_data["version"]
    draft = listing.releases.filter(version=version).first()
    try:
        if draft is not None:
            return offers.set_terms(user=request.user, release=draft, terms=terms)
        row = licensing.terms_row(terms)
        return publishing.draft(user=request.user, listing=listing, version=version, terms=row)
    except DomainError as error:
        add_error(form, error)
        return None
