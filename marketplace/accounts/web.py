"""The account's overview and organisations; tokens are token_pages.py's, signing in and the like are allauth's."""

from __future__ import annotations

from allauth.account.models import EmailAddress
from allauth.mfa.utils import is_mfa_enabled
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone

from marketplace.accounts.forms import MemberForm, OrganizationForm
from marketplace.accounts.models import Namespace, Role
from marketplace.accounts.models.people import ADMINISTERS
from marketplace.accounts.services import people
from marketplace.errors import DomainError
from marketplace.html import add_error


@login_required
def settings_page(request: HttpRequest) -> HttpResponse:
    context = {
        "email_verified": EmailAddress.objects.is_verified(request.user.email),
        "has_mfa": is_mfa_enabled(request.user),
        "namespaces": Namespace.objects.writable_by(request.user).values_list("name", flat=True),
        "tokens": request.user.api_tokens.live(timezone.now()).count(),
    }
    return render(request, "accounts/settings.html", context)


@login_required
def organizations(request: HttpRequest) -> HttpResponse:
    form = OrganizationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            namespace = people.create_organization(owner=request.user, **form.cleaned_data)
            return redirect("organization", namespace.name)
        except DomainError as error:
            add_error(form, error)
    rows = Namespace.objects.of(request.user).filter(organization__isnull=False).select_related("organization")
    return render(request, "accounts/organizations.html", {"form": form, "organizations": rows})


@login_required
def organization(request: HttpRequest, name: str) -> HttpResponse:
    mine = Namespace.objects.of(request.user).filter(organization__isnull=False).select_related("organization")
    namespace = get_object_or_404(mine, name__iexact=name)
    form = MemberForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        role = Role(form.cleaned_data["role"]) if form.cleaned_data["role"] else None
        try:
            people.set_role(actor=request.user, namespace=namespace, username=form.cleaned_data["username"], role=role)
            is_member = mine.filter(pk=namespace.pk).exists()
            return redirect("organization", namespace.name) if is_member else redirect("organizations")
        except DomainError as error:
            add_error(form, error)
    administers = Namespace.objects.of(request.user, roles=ADMINISTERS).filter(pk=namespace.pk).exists()
    members = namespace.organization.memberships.select_related("user").order_by("user__username")
    context = {"namespace": namespace, "members": members, "form": form, "administers": administers}
    return render(request, "accounts/organization.html", context)
