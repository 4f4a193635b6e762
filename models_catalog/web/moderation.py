"""Reports, for those who make them; the staff's queue; takedowns, for owners and staff."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST

from marketplace.decisions import require
from marketplace.errors import DomainError
from marketplace.html import add_error
from models_catalog import policies
from models_catalog.desks import moderation as desk
from models_catalog.forms import DecisionForm, ReportForm, TakedownForm, WordsForm
from models_catalog.models.moderation import SUBJECTS, ReportStatus, Subject, TakedownStatus, kind_of, subject_of
from models_catalog.services import moderation as services
from models_catalog.services import payment_watch

PAGE_SIZE = 25


def _subject(request: HttpRequest) -> Subject:
    """Returns what the address names, such as `?review=12`, or raises Http404."""
    for kind in SUBJECTS:
        if reference := request.GET.get(kind, ""):
            found = desk.find_subject(request.user, kind, reference)
            if found is not None:
                return found
    raise Http404


@login_required
def report_new(request: HttpRequest) -> HttpResponse:
    subject = _subject(request)
    form = ReportForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            row = services.report(user=request.user, subject=subject, now=timezone.now(), **form.cleaned_data)
            return redirect("report", row.uid)
        except DomainError as error:
            add_error(form, error)
    context = {"subject": subject, "kind": kind_of(subject), "form": form}
    return render(request, "models_catalog/report_form.html", context)


@login_required
def reports(request: HttpRequest) -> HttpResponse:
    """One's own reports; the staff's queue is `queue`."""
    rows = desk.reports(request.user).filter(reporter=request.user)
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "models_catalog/reports.html", {"page": page})


@login_required
def report(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    row = get_object_or_404(desk.reports(request.user), uid=uid)
    context = {
        "report": row,
        "subject": subject_of(row),
        "kind": kind_of(subject_of(row)),
        "moderate": policies.may_moderate(request.user),
        "dismissal": DecisionForm(prefix="dismiss"),
        "takedown_form": TakedownForm(prefix="down"),
    }
    return render(request, "models_catalog/report.html", context)


@login_required
@require_POST
def report_dismiss(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    row = get_object_or_404(desk.reports(request.user), uid=uid)
    decision = request.POST.get("dismiss-decision", "")
    services.dismiss(actor=request.user, report=row, decision=decision, now=timezone.now())
    return redirect("report", uid)


@login_required
@require_POST
def report_uphold(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    row = get_object_or_404(desk.reports(request.user), uid=uid)
    made = services.take_down(
        actor=request.user,
        subject=subject_of(row),
        reason=request.POST.get("down-reason", ""),
        legal_basis=request.POST.get("down-legal_basis", ""),
        now=timezone.now(),
    )
    messages.success(request, "It is taken down. Its owner was told why, and may appeal.")
    return redirect("takedown", made.uid)


@login_required
def queue(request: HttpRequest) -> HttpResponse:
    """The staff's queue of reports, the oldest open one first, or of takedowns."""
    require(policies.may_moderate(request.user))
    status = request.GET.get("status", ReportStatus.OPEN)
    rows = desk.reports(request.user)
    if status in ReportStatus.values:
        rows = rows.filter(status=status)
    rows = rows.order_by("pk" if status == ReportStatus.OPEN else "-pk")
    context = {
        "page": Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page")),
        "status": status,
        "statuses": ReportStatus.choices,
        "payments": payment_watch.open_events().count(),
        "appeals": desk.takedowns(request.user).filter(status=TakedownStatus.APPEALED).count(),
    }
    return render(request, "models_catalog/moderation.html", context)


@login_required
def takedowns(request: HttpRequest) -> HttpResponse:
    """Those of one's own things; for the staff all of them."""
    status = request.GET.get("status", "")
    rows = desk.takedowns(request.user)
    if status in TakedownStatus.values:
        rows = rows.filter(status=status)
    context = {
        "page": Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page")),
        "status": status,
        "statuses": TakedownStatus.choices,
        "moderate": policies.may_moderate(request.user),
    }
    return render(request, "models_catalog/takedowns.html", context)


@login_required
def takedown_new(request: HttpRequest) -> HttpResponse:
    """Takes something down without a report."""
    require(policies.may_moderate(request.user))
    subject = _subject(request)
    form = TakedownForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            row = services.take_down(actor=request.user, subject=subject, now=timezone.now(), **form.cleaned_data)
            return redirect("takedown", row.uid)
        except DomainError as error:
            add_error(form, error)
    context = {"subject": subject, "kind": kind_of(subject), "form": form}
    return render(request, "models_catalog/takedown_form.html", context)


@login_required
def takedown(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    """Why it was taken down; the form that appeals, and for the staff the one that decides."""
    row = get_object_or_404(desk.takedowns(request.user), uid=uid)
    form = WordsForm(request.POST or None, label="Why should it come back?")
    if request.method == "POST" and form.is_valid():
        try:
            services.appeal(user=request.user, takedown=row, text=form.cleaned_data["text"], now=timezone.now())
            return redirect("takedown", uid)
        except DomainError as error:
            add_error(form, error)
    context = {
        "takedown": row,
        "subject": subject_of(row),
        "kind": kind_of(subject_of(row)),
        "form": form,
        "appeal": policies.may_appeal(request.user, row),
        "moderate": policies.may_moderate(request.user),
        "decision": DecisionForm(),
    }
    return render(request, "models_catalog/takedown.html", context)


@login_required
@require_POST
def takedown_decide(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    """Confirms or lifts."""
    row = get_object_or_404(desk.takedowns(request.user), uid=uid)
    decide = services.lift if request.POST.get("outcome") == "lift" else services.confirm
    decide(actor=request.user, takedown=row, decision=request.POST.get("decision", ""), now=timezone.now())
    return redirect("takedown", uid)
