"""The account's tokens: the list, and one of them. Only the page that answers a form ever shows a secret."""

from __future__ import annotations

from datetime import timedelta

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from marketplace.accounts.forms import TokenChangeForm, TokenForm, TokenRotationForm
from marketplace.accounts.models import ApiToken, CapPeriod
from marketplace.accounts.services import spending
from marketplace.accounts.services import tokens as services
from marketplace.errors import DomainError
from marketplace.html import add_error
from marketplace.throttling import ACCOUNT_FACTOR, rate_of


@login_required
@never_cache
def tokens(request: HttpRequest) -> HttpResponse:
    form, secret = TokenForm(request.POST or None), ""
    if request.method == "POST" and form.is_valid():
        try:
            secret = _issue(request, form)
            form = TokenForm()
        except DomainError as error:
            add_error(form, error)
    rows = request.user.api_tokens.filter(revoked_at__isnull=True)
    rate = rate_of(request.user)
    context = {"form": form, "tokens": rows, "secret": secret, "rate": rate, "account": rate.times(ACCOUNT_FACTOR)}
    return render(request, "accounts/tokens.html", context)


def _issue(request: HttpRequest, form: TokenForm) -> str:
    fields = form.cleaned_data
    _, secret = services.issue(
        user=request.user,
        name=fields["name"],
        scopes=fields["scopes"],
        expires_at=timezone.now() + timedelta(days=fields["days"]),
        resources=fields["resources"].split(),
        cap=form.wanted_cap(),
    )
    return secret


def _token(request: HttpRequest, pk: int) -> ApiToken:
    return get_object_or_404(ApiToken.objects.filter(user=request.user, revoked_at__isnull=True), pk=pk)


@login_required
@never_cache
def token(request: HttpRequest, pk: int) -> HttpResponse:
    row = _token(request, pk)
    form = TokenChangeForm(request.POST or None, initial=TokenChangeForm.values_of(row))
    if request.method == "POST" and form.is_valid():
        services.change(token=row, name=form.cleaned_data["name"], cap=form.wanted_cap())
        messages.success(request, "The token is changed.")
        return redirect("token", row.pk)
    return _page(request, row, form=form)


def _page(
    request: HttpRequest,
    row: ApiToken,
    *,
    form: TokenChangeForm | None = None,
    rotation: TokenRotationForm | None = None,
    secret: str = "",
) -> HttpResponse:
    context = {
        "token": row,
        "form": form or TokenChangeForm(initial=TokenChangeForm.values_of(row)),
        "rotation": rotation or TokenRotationForm(),
        "secret": secret,
        "spent": spending.spent_by_currency(row),
        "cap": {
            "period": CapPeriod(row.cap_period).label,
            "spent_minor": spending.spent_minor(row, now=timezone.now()),
        }
        if row.cap_minor is not None
        else None,
    }
    return render(request, "accounts/token.html", context)


@login_required
@never_cache
@require_POST
def rotate(request: HttpRequest, pk: int) -> HttpResponse:
    row, form, secret = _token(request, pk), TokenRotationForm(request.POST), ""
    if form.is_valid():
        try:
            secret = services.rotate(token=row, now=timezone.now(), overlap_hours=form.cleaned_data["overlap_hours"])
        except DomainError as error:
            add_error(form, error)
    return _page(request, row, rotation=None if secret else form, secret=secret)


@login_required
@require_POST
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    row = get_object_or_404(request.user.api_tokens, pk=pk)
    services.revoke(row, actor=request.user, now=timezone.now())
    messages.success(request, f"{row} no longer works.")
    if others := services.issued_by(row):
        names = ", ".join(map(str, others))
        messages.warning(
            request, f"It had issued or replaced others, which go on. Revoke what you do not know: {names}."
        )
    return redirect("tokens")
