"""The pages of webhooks: what is told, the log, the secret that is shown once."""

from __future__ import annotations

import json
import uuid

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from marketplace.accounts.services import people
from marketplace.errors import DomainError
from marketplace.html import add_error
from marketplace.webhooks import policies, selectors
from marketplace.webhooks.forms import ChangeForm, EndpointForm, RotationForm
from marketplace.webhooks.models import Endpoint, Message, MessageStatus
from marketplace.webhooks.services import endpoints

PAGE_SIZE = 25


def _endpoint(request: HttpRequest, uid: uuid.UUID) -> Endpoint:
    return get_object_or_404(selectors.endpoints(request.user), uid=uid)


def _message(request: HttpRequest, uid: uuid.UUID, message: uuid.UUID) -> Message:
    return get_object_or_404(selectors.messages(_endpoint(request, uid)), uid=message)


@login_required
@never_cache
def webhooks(request: HttpRequest) -> HttpResponse:
    """Lists webhooks and makes new ones; the page that answers the form is the only one that shows the secret."""
    people.namespace_of(request.user)
    form, made, secret = EndpointForm(request.POST or None, user=request.user), None, ""
    if request.method == "POST" and form.is_valid():
        fields = dict(form.cleaned_data)
        event_types = fields.pop("events")
        try:
            made, secret = endpoints.create(user=request.user, event_types=event_types, now=timezone.now(), **fields)
            form = EndpointForm(user=request.user)
        except DomainError as error:
            add_error(form, error)
    page = Paginator(selectors.endpoints(request.user), PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "webhooks/webhooks.html", {"page": page, "form": form, "made": made, "secret": secret})


@login_required
def webhook(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    row = _endpoint(request, uid)
    asked = {"url": row.url, "description": row.description, "events": row.event_types}
    form = ChangeForm(request.POST or None, initial=asked)
    if request.method == "POST" and form.is_valid():
        fields = dict(form.cleaned_data)
        event_types = fields.pop("events")
        try:
            endpoints.change(endpoint=row, user=request.user, event_types=event_types, **fields)
            messages.success(request, "Saved.")
            return redirect("webhook", uid)
        except DomainError as error:
            add_error(form, error)
    return _page(request, row, form=form)


def _page(
    request: HttpRequest,
    row: Endpoint,
    *,
    form: ChangeForm | None = None,
    secret: str = "",
    rotation: RotationForm | None = None,
) -> HttpResponse:
    asked = {"url": row.url, "description": row.description, "events": row.event_types}
    state = request.GET.get("status", "")
    log = selectors.messages(row)
    context = {
        "endpoint": row,
        "form": form or ChangeForm(initial=asked),
        "rotation": rotation or RotationForm(),
        "secret": secret,
        "send": policies.may_send(row),
        "page": Paginator(log.filter(status=state) if state else log, PAGE_SIZE).get_page(request.GET.get("page")),
        "states": MessageStatus.choices,
        "state": state,
    }
    return render(request, "webhooks/webhook.html", context)


@login_required
@never_cache
@require_POST
def rotate(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    row, form, secret = _endpoint(request, uid), RotationForm(request.POST), ""
    if form.is_valid():
        hours = form.cleaned_data["overlap_hours"]
        secret = endpoints.rotate(endpoint=row, user=request.user, now=timezone.now(), overlap_hours=hours)
    return _page(request, _endpoint(request, uid), secret=secret, rotation=None if secret else form)


@login_required
@require_POST
def test(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    sent = endpoints.send_test(endpoint=_endpoint(request, uid), user=request.user, now=timezone.now())
    return redirect("webhook_message", uid, sent.uid)


@login_required
@require_POST
def enable(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    endpoints.enable(endpoint=_endpoint(request, uid), user=request.user)
    messages.success(request, "The webhook is switched on. What was given up can be replayed.")
    return redirect("webhook", uid)


@login_required
@require_POST
def disable(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    endpoints.disable(endpoint=_endpoint(request, uid), user=request.user, now=timezone.now())
    messages.success(request, "The webhook is switched off.")
    return redirect("webhook", uid)


@login_required
@require_POST
def delete(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    endpoints.remove(endpoint=_endpoint(request, uid), user=request.user)
    messages.success(request, "The webhook is deleted.")
    return redirect("webhooks")


@login_required
def message(request: HttpRequest, uid: uuid.UUID, message: uuid.UUID) -> HttpResponse:
    row = _message(request, uid, message)
    context = {
        "message": row,
        "body": json.dumps(json.loads(row.body), indent=2, ensure_ascii=False),
        "send": policies.may_send(row.endpoint),
    }
    return render(request, "webhooks/message.html", context)


@login_required
@require_POST
def replay(request: HttpRequest, uid: uuid.UUID, message: uuid.UUID) -> HttpResponse:
    row = _message(request, uid, message)
    endpoints.replay(message=row, user=request.user, now=timezone.now())
    messages.success(request, "It is sent again.")
    return redirect("webhook_message", uid, message)
