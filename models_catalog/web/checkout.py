"""From reading the terms to holding a licence."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone

from marketplace.accounts.models import Namespace
from marketplace.errors import DomainError
from marketplace.html import add_error
from models_catalog import policies, quotes
from models_catalog.forms import AccessRequestForm, PaymentForm
from models_catalog.models import AccessRequest, Order, Release
from models_catalog.services import access, licensing, payments
from models_catalog.statement_forms import AcceptForm
from models_catalog.web.catalog import find
from models_catalog.web.licenses import origin


def checkout(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """The terms and the button that accepts them, for oneself or with `?licensee=` for an organisation."""
    release = find(request, namespace, name)
    licensees = list(Namespace.objects.writable_by(request.user).order_by("organization_id", "name"))
    holder = _licensee(request, licensees)
    decision = policies.may_license(request.user, release, now=timezone.now(), holder=holder)
    asks = decision.code == "approval_needed"
    initial = {"terms_hash": release.terms.terms_hash, "licensee": holder.name if holder else ""}
    form: AcceptForm | AccessRequestForm = (
        AccessRequestForm(request.POST or None, initial=initial)
        if asks
        else AcceptForm(request.POST or None, initial=initial, terms=release.terms.value)
    )
    ways = [(provider.name, provider.title) for provider in payments.offered(release.terms.price_minor)]
    paying = PaymentForm(request.POST or None, ways=ways) if len(ways) > 1 and not asks else None
    if request.method == "POST" and request.user.is_authenticated and form.is_valid():
        try:
            if isinstance(form, AccessRequestForm):
                return _request_access(request, release, form, holder)
            return _accept(request, release, form, holder, payment=request.POST.get("payment", ""))
        except DomainError as error:
            # Terms that have changed are read anew: the form asks again, with their hash.
            form = AcceptForm(initial=initial, terms=release.terms.value) if error.code == "terms_changed" else form
            if form.is_bound:
                add_error(form, error)
            else:
                messages.error(request, error.message)
    earlier = _latest_request(request, release, holder) if asks else None
    context = {
        "release": release,
        "listing": release.listing,
        "plain": release.terms.plain,
        "form": form,
        "paying": paying,
        "quote": quotes.quote(request.user, release, now=timezone.now(), holder=holder),
        "decision": decision,
        "asks": asks,
        "earlier": earlier,
        "again": policies.may_ask(earlier, now=timezone.now()),
        "trial": policies.may_try(request.user, release, now=timezone.now(), holder=holder),
        "holder": holder,
        "licensees": licensees,
    }
    return render(request, "models_catalog/checkout.html", context)


def _latest_request(request: HttpRequest, release: Release, holder: Namespace | None) -> AccessRequest | None:
    own = holder or Namespace.objects.own(request.user).first()
    return access.latest(own, release) if own else None


def _licensee(request: HttpRequest, licensees: list[Namespace]) -> Namespace | None:
    """Returns the namespace that the form or the address names, None for the person, or raises Http404."""
    name = request.POST.get("licensee") or request.GET.get("licensee") or ""
    if not name:
        return None
    found = next((item for item in licensees if item.name.lower() == name.lower()), None)
    if found is None:
        raise Http404
    return found


def _accept(
    request: HttpRequest, release: Release, form: AcceptForm, holder: Namespace | None, *, payment: str
) -> HttpResponse:
    given = {
        "user": request.user,
        "release": release,
        "terms_hash": form.cleaned_data["terms_hash"],
        "now": timezone.now(),
        "licensee": holder,
        "origin": origin(request),
        "declaration": form.declaration,
    }
    if request.POST.get("act") == "trial":
        return redirect("grant", licensing.start_trial(**given).pk)
    accepted = licensing.accept_terms(**given, payment=payment)
    return redirect("order" if isinstance(accepted, Order) else "grant", accepted.pk)


def _request_access(
    request: HttpRequest, release: Release, form: AccessRequestForm, holder: Namespace | None
) -> HttpResponse:
    asked = access.request_access(
        user=request.user, release=release, reason=form.cleaned_data["reason"], now=timezone.now(), licensee=holder
    )
    return redirect("access_request", asked.pk)
