"""A vendor's statements, and payouts."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Prefetch
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST

from marketplace.accounts.models import Namespace
from marketplace.accounts.models.people import BILLS, NamespaceQuerySet
from marketplace.accounts.services import people
from marketplace.decisions import require
from marketplace.errors import Conflict, DomainError
from marketplace.html import add_error
from models_catalog import exports, policies, statements
from models_catalog.forms import DebtForm, PayoutForm, ReferenceForm
from models_catalog.models import Payout, PayoutBatch
from models_catalog.selectors import MAX_NAME
from models_catalog.services import debts, payouts

PAGE_SIZE = 25


@login_required
def books(request: HttpRequest) -> HttpResponse:
    """Leads to the statement of a namespace that the user bills for and that has sold something, else their own."""
    billed = _billed(request).order_by("organization_id", "name")
    chosen = billed.filter(ledger_accounts__kind="payable").first() or people.namespace_of(request.user)
    return redirect("statement", chosen.name)


def _billed(request: HttpRequest) -> NamespaceQuerySet:
    return Namespace.objects.of(request.user, roles=BILLS)


def _of(request: HttpRequest, namespace: str) -> tuple[Namespace, statements.Month]:
    shown = Namespace.objects.all() if request.user.is_staff else Namespace.objects.of(request.user)
    row = get_object_or_404(shown, name__iexact=namespace[:MAX_NAME])
    require(policies.may_see_books(request.user, row))
    text = request.GET.get("month", "")
    month = statements.Month.parse(text) if text else statements.Month.of(timezone.now())
    if month is None:
        raise Http404
    return row, month


@login_required
def statement(request: HttpRequest, namespace: str) -> HttpResponse:
    """A month of one namespace (`?month=2026-11`), in each currency, with its lines; the staff record here what a vendor
    who is in debt has paid."""
    row, month = _of(request, namespace)
    collect, form = policies.may_collect(request.user), None
    if collect.allowed and (owed := [debt.currency for debt in debts.owed(row)]):
        form = DebtForm(request.POST or None, currencies=owed)
    if request.method == "POST":
        require(collect)
        if form is None:
            raise Conflict("no_such_debt", f"{row} owes this site nothing.")
        if form.is_valid():
            try:
                debts.collect(namespace=row, actor=request.user, now=timezone.now(), **form.cleaned_data)
                messages.success(request, "Recorded. The royalties that waited for it can be paid out.")
                return redirect("statement", row.name)
            except DomainError as error:
                add_error(form, error)
    page = Paginator(statements.entries_of(row, month), PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "namespace": row,
        "month": month,
        "months": [*dict.fromkeys([month, *statements.months(row)])],
        "namespaces": list(_billed(request).order_by("organization_id", "name")),
        "statements": statements.statements(row, month),
        "lines": [statements.line_of(entry, row) for entry in page],
        "page": page,
        "debt_form": form,
    }
    return render(request, "models_catalog/statement.html", context)


@login_required
def statement_csv(request: HttpRequest, namespace: str) -> HttpResponseBase:
    row, month = _of(request, namespace)
    return exports.statement(row, month)


@login_required
def payout_list(request: HttpRequest) -> HttpResponse:
    """Batches that the user may see, and the form that collects one: for the staff of every vendor's balance, for a
    billing role of its own."""
    namespaces = [] if request.user.is_staff else list(_billed(request).order_by("organization_id", "name"))
    form = PayoutForm(request.POST or None, namespaces=namespaces)
    if request.method == "POST" and form.is_valid():
        try:
            batch = payouts.create(actor=request.user, now=timezone.now(), **form.cleaned_data)
            return redirect("payout", batch.pk)
        except DomainError as error:
            add_error(form, error)
    rows = PayoutBatch.objects.visible_to(request.user).prefetch_related(_shown(request))
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {"page": page, "form": form, "debts": debts.owed() if request.user.is_staff else []}
    return render(request, "models_catalog/payouts.html", context)


def _shown(request: HttpRequest) -> Prefetch[str]:
    mine = Payout.objects.shown_to(request.user).select_related("namespace")
    return Prefetch("payouts", mine, to_attr="shown_payouts")


def _batch(request: HttpRequest, pk: uuid.UUID) -> PayoutBatch:
    return get_object_or_404(PayoutBatch.objects.visible_to(request.user), pk=pk)


@login_required
def payout(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    batch = _batch(request, pk)
    rows = Payout.objects.shown_to(request.user).filter(batch=batch).select_related("namespace")
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {"batch": batch, "page": page, "send": policies.may_pay_out(request.user), "form": ReferenceForm()}
    return render(request, "models_catalog/payout.html", context)


@login_required
def payout_csv(request: HttpRequest, pk: uuid.UUID) -> HttpResponseBase:
    return exports.payout_batch(_batch(request, pk), request.user)


@login_required
@require_POST
def payout_sent(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    form = ReferenceForm(request.POST)
    reference = form.cleaned_data["reference"] if form.is_valid() else ""
    payouts.mark_sent(batch=_batch(request, pk), actor=request.user, reference=reference, now=timezone.now())
    return redirect("payout", pk)


@login_required
@require_POST
def payout_cancel(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    payouts.cancel(batch=_batch(request, pk), actor=request.user, now=timezone.now())
    return redirect("payout", pk)
