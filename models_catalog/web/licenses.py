"""A buyer's licenses: the list, each one's page, receipt and file, and what is done with it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from marketplace.accounts.models import ApiToken, Membership, Namespace
from marketplace.errors import DomainError, Invalid
from marketplace.html import add_error
from models_catalog import declarations, policies, selectors
from models_catalog.forms import SeatForm, TransferForm
from models_catalog.models import Acceptance, Grant, Order, Seat
from models_catalog.models.licensing import GrantState, RequestStatus
from models_catalog.services import consent, grants, keys, licensing, offline, seats
from models_catalog.services.consent import Origin
from models_catalog.statement_forms import AcceptForm, StatementForm

PAGE_SIZE = 25
MAX_OPEN = 10


def origin(request: HttpRequest) -> Origin:
    return Origin("page", request.META.get("REMOTE_ADDR", ""))


@login_required
def licenses(request: HttpRequest) -> HttpResponse:
    """What the person and their organisations hold, by licensee and state; and what is still open."""
    rows = selectors.grants_of(request.user, {**request.GET.dict(), "side": "licensee"}, now=timezone.now())
    waiting = selectors.access_requests_of(request.user, {"status": RequestStatus.PENDING.value})
    context = {
        "page": Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page")),
        "licensees": Namespace.objects.of(request.user).order_by("organization_id", "name"),
        "licensee": request.GET.get("licensee", ""),
        "states": GrantState.choices,
        "state": request.GET.get("status", ""),
        "orders": Order.objects.filter(placed_by=request.user, status="pending").select_related("listing__namespace")[
            :MAX_OPEN
        ],
        "requests": waiting[:MAX_OPEN],
        "transfers": selectors.transfers_shown(request.user).open()[:MAX_OPEN],
    }
    return render(request, "models_catalog/licenses.html", context)


def _shown(request: HttpRequest, pk: uuid.UUID) -> Grant:
    return get_object_or_404(selectors.grants_shown(request.user), pk=pk)


@login_required
def grant(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    return _page(request, _shown(request, pk))


def _page(request: HttpRequest, row: Grant, *, secret: str = "", **forms: object) -> HttpResponse:
    """Renders the page; a form that was refused comes back with what was typed, a new key is shown this once."""
    now = timezone.now()
    holds = policies.may_use_grant(request.user, row).allowed  # else it is the vendor who looks
    administers = policies.may_administer(request.user, row.licensee).allowed
    taken = selectors.seats_of(row, now=now)
    context = {
        "grant": row,
        "is_open": row.state in (GrantState.ACTIVE, GrantState.TRIAL, GrantState.EXPIRING),
        "holds": holds,
        "administers": administers,
        "renew": policies.may_renew(request.user, row, now=now),
        "renewal": AcceptForm(initial={"terms_hash": row.terms.terms_hash}, terms=row.terms.value),
        "statement": StatementForm(terms=row.terms.value, auto_id="state_%s"),
        "facts": declarations.in_words(row.declaration, row.terms.value),
        "revoke": policies.may_revoke(request.user, row),
        "transfer": policies.may_transfer(request.user, row, now=now),
        "transfer_form": TransferForm(),
        "offer": row.transfers.open().select_related("recipient").first(),
        "seat_rows": taken[: max(row.seats, 1)] if row.seats else [],
        "seat_form": SeatForm(choices=_seat_choices(row)) if administers and row.seats else None,
        "secret": secret,
        **forms,
    }
    return render(request, "models_catalog/grant.html", context)


def _seat_choices(row: Grant) -> list[tuple[str, str]]:
    """Members by name, and each one's working tokens below them."""
    members = Membership.objects.filter(organization=row.licensee.organization_id).values_list("user", flat=True)
    users = [row.licensee.user_id] if row.licensee.user_id else list(members)
    names = dict(selectors.usernames(users))
    tokens = ApiToken.objects.live(timezone.now()).filter(user__in=users).select_related("user")
    people = [(f"{pk}:", name) for pk, name in names.items()]
    return [*people, *((f"{token.user_id}:{token.pk}", f"{token.user.username}, token {token}") for token in tokens)]


@login_required
@require_POST
@never_cache
def act(request: HttpRequest, pk: uuid.UUID, verb: str) -> HttpResponse:
    """Whatever a button of the page does."""
    acts: dict[str, Callable[[HttpRequest, Grant], HttpResponse]] = {
        "renew": _renew,
        "state": _state,
        "revoke": _revoke,
        "key": _key,
        "key-end": _key_end,
        "seat": _seat,
        "seat-release": _seat_release,
        "transfer": _transfer,
        "transfer-withdraw": _transfer_withdraw,
    }
    if verb not in acts:
        raise Http404
    return acts[verb](request, _shown(request, pk))


def _renew(request: HttpRequest, row: Grant) -> HttpResponse:
    form = AcceptForm(request.POST, terms=row.terms.value)
    if form.is_valid():
        try:
            renewed = licensing.renew(
                user=request.user,
                grant=row,
                terms_hash=form.cleaned_data["terms_hash"],
                now=timezone.now(),
                origin=origin(request),
                declaration=form.declaration,
            )
            return redirect("order" if isinstance(renewed, Order) else "grant", renewed.pk)
        except DomainError as error:
            add_error(form, error)
    return _page(request, row, renewal=form)


def _state(request: HttpRequest, row: Grant) -> HttpResponse:
    form = StatementForm(request.POST, terms=row.terms.value, auto_id="state_%s")
    if form.is_valid():
        try:
            licensing.state(
                user=request.user,
                grant=row,
                declaration=form.declaration,
                now=timezone.now(),
                origin=origin(request),
            )
            messages.success(request, "Recorded, with a receipt.")
            return redirect("grant", row.pk)
        except DomainError as error:
            add_error(form, error)
    return _page(request, row, statement=form)


def _revoke(request: HttpRequest, row: Grant) -> HttpResponse:
    grants.revoke(grant=row, actor=request.user, reason=request.POST.get("reason", ""), now=timezone.now())
    messages.success(request, f"{row.licensee}'s license is revoked; they can read why.")
    return redirect("grant", row.pk)


def _key(request: HttpRequest, row: Grant) -> HttpResponse:
    _, text = keys.rotate(grant=row, actor=request.user, now=timezone.now())
    return _page(request, _shown(request, row.pk), secret=text)


def _key_end(request: HttpRequest, row: Grant) -> HttpResponse:
    keys.revoke(grant=row, actor=request.user, now=timezone.now())
    messages.success(request, "The license key no longer works.")
    return redirect("grant", row.pk)


def _seat(request: HttpRequest, row: Grant) -> HttpResponse:
    form = SeatForm(request.POST, choices=_seat_choices(row))
    if form.is_valid():
        user_id, _, token = form.cleaned_data["member"].partition(":")
        username = dict(selectors.usernames([int(user_id)]))[int(user_id)]
        try:
            seats.assign(
                grant=row,
                actor=request.user,
                username=username,
                token_id=int(token) if token else None,
                now=timezone.now(),
            )
            return redirect("grant", row.pk)
        except DomainError as error:
            form.add_error(None, error.message)
    return _page(request, row, seat_form=form)


def _seat_release(request: HttpRequest, row: Grant) -> HttpResponse:
    rows = Seat.objects.filter(grant=row).select_related("grant__licensee", "grant__listing__namespace")
    number = request.POST.get("seat", "")
    seat = get_object_or_404(rows, pk=int(number) if number.isdecimal() else 0)
    seats.release(seat=seat, actor=request.user, now=timezone.now())
    messages.success(request, f"The seat of {seat} is free.")
    return redirect("grant", row.pk)


def _transfer(request: HttpRequest, row: Grant) -> HttpResponse:
    form = TransferForm(request.POST)
    if form.is_valid():
        try:
            recipient = Namespace.objects.filter(name__iexact=form.cleaned_data["recipient"]).first()
            if recipient is None:
                raise Invalid("namespace_unknown", "There is nobody of that name here.", field="recipient")
            grants.offer_transfer(grant=row, actor=request.user, recipient=recipient, now=timezone.now())
            messages.success(request, f"{recipient} can take the license over now.")
            return redirect("grant", row.pk)
        except DomainError as error:
            add_error(form, error)
    return _page(request, row, transfer_form=form)


def _transfer_withdraw(request: HttpRequest, row: Grant) -> HttpResponse:
    offer = get_object_or_404(row.transfers.open())
    grants.withdraw_transfer(transfer=offer, actor=request.user, now=timezone.now())
    return redirect("grant", row.pk)


@login_required
def license_file(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    row = _shown(request, pk)
    text = offline.license_file(grant=row, actor=request.user, now=timezone.now())
    name = f"{row.listing.namespace.name}-{row.listing.name}{offline.SUFFIX}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(text, content_type="text/plain; charset=utf-8", headers=headers)


def _acceptance(request: HttpRequest, pk: uuid.UUID) -> Acceptance:
    rows = Acceptance.objects.visible_to(request.user).filter(grants=_shown(request, pk))
    return get_object_or_404(selectors.with_receipt_facts(rows))


@login_required
def receipt(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """The receipt as a page to read."""
    acceptance = _acceptance(request, pk)
    signed = consent.receipt(acceptance)
    facts = declarations.in_words(acceptance.declaration, acceptance.terms.value)
    context = {"acceptance": acceptance, "grant_id": pk, "signature": signed["signature"], "facts": facts}
    return render(request, "models_catalog/receipt.html", context)


@login_required
def receipt_json(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """The receipt as signed JSON to keep."""
    text = json.dumps(consent.receipt(_acceptance(request, pk)), indent=2, ensure_ascii=False)
    headers = {"Content-Disposition": f'attachment; filename="receipt-{pk}.json"'}
    return HttpResponse(text, content_type="application/json", headers=headers)


@login_required
def transfer(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """A license that is offered: its terms, and the two answers to it."""
    offer = get_object_or_404(selectors.transfers_shown(request.user), pk=pk)
    terms = offer.grant.terms
    form = AcceptForm(request.POST or None, initial={"terms_hash": terms.terms_hash}, terms=terms.value)
    if request.method == "POST" and "decline" in request.POST:
        grants.withdraw_transfer(transfer=offer, actor=request.user, now=timezone.now())
        return redirect("licenses")
    if request.method == "POST" and form.is_valid():
        try:
            taken = grants.accept_transfer(
                transfer_id=offer.pk,
                actor=request.user,
                terms_hash=form.cleaned_data["terms_hash"],
                now=timezone.now(),
                origin=origin(request),
                declaration=form.declaration,
            )
            return redirect("grant", taken.pk)
        except DomainError as error:
            add_error(form, error)
    may = policies.may_accept_for(request.user, offer.recipient)
    context = {"offer": offer, "form": form, "plain": offer.grant.terms.plain, "may": may}
    return render(request, "models_catalog/transfer.html", context)
