"""Where somebody who is signed in types the code that a program shows, and lets it in or not."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache

from marketplace.accounts.models import Scope
from marketplace.accounts.models.device_logins import DeviceLogin
from marketplace.accounts.services import device_logins
from marketplace.errors import DomainError
from marketplace.html import add_error


class CodeForm(forms.Form):
    code = forms.CharField(
        max_length=20, label="Code", help_text="As your program shows it, such as BCDF-GHJK.", strip=True
    )


class LetInForm(forms.Form):
    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, scope.label) for scope in device_logins.OFFERED],
        initial=[Scope.MODELS_WRITE, Scope.DATASETS_WRITE, Scope.PREDICT],
        widget=forms.CheckboxSelectMultiple,
        label="It may",
    )
    days = forms.TypedChoiceField(choices=[(30, "30 days"), (90, "90 days")], coerce=int, initial=30, label="For")


@login_required
@never_cache
def device_login(request: HttpRequest) -> HttpResponse:
    """The code first, then what asks; each look at a code is counted. A code in the address is only filled in: who was
    sent a link still compares it with their program's."""
    if request.method != "POST":
        return _ask(request, CodeForm(initial={"code": request.GET.get("code", "")[:20]}))
    form = CodeForm(request.POST)
    if not form.is_valid():
        return _ask(request, form)
    try:
        login = device_logins.typed(form.cleaned_data["code"], user=request.user, now=timezone.now())
        return _decided(request, login) or _shown(request, login)
    except DomainError as error:
        add_error(form, error)
    return _ask(request, form)


def _ask(request: HttpRequest, form: CodeForm) -> HttpResponse:
    return render(request, "accounts/device_code.html", {"form": form})


def _shown(request: HttpRequest, login: DeviceLogin, form: LetInForm | None = None) -> HttpResponse:
    return render(request, "accounts/device_login.html", {"login": login, "form": form or LetInForm()})


def _decided(request: HttpRequest, login: DeviceLogin) -> HttpResponse | None:
    """Returns what follows a decision; None where none was sent."""
    now = timezone.now()
    if "deny" in request.POST:
        device_logins.deny(login=login, user=request.user, now=now)
        messages.success(request, "The program was not let in.")
        return redirect("tokens")
    if "approve" not in request.POST:
        return None
    form = LetInForm(request.POST)
    if not form.is_valid():
        return _shown(request, login, form)
    fields = form.cleaned_data
    device_logins.approve(login=login, user=request.user, scopes=fields["scopes"], days=fields["days"], now=now)
    messages.success(request, "The program is let in: go back to it. Its token is in this list once it has fetched it.")
    return redirect("tokens")
