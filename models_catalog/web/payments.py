"""Where payment providers tell what happened: no person, no session, a signature instead."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from marketplace.errors import Broken
from models_catalog.services import stripe_payments, stripe_webhook


@csrf_exempt
@require_POST
def stripe(request: HttpRequest) -> HttpResponse:
    """Answers 200 with the outcome of a signed event, whatever it is: what is answered otherwise is sent again."""
    if not stripe_payments.is_offered():
        raise Http404
    signature = request.headers.get("Stripe-Signature", "")
    try:
        outcome = stripe_webhook.receive(body=request.body, signature=signature, now=timezone.now())
    except Broken as error:
        return JsonResponse({"code": error.code, "detail": error.message}, status=error.status)
    return JsonResponse({"outcome": outcome.value})
