"""Who may have webhooks for a namespace."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.models.people import ADMINISTERS
from marketplace.decisions import ALLOW, Decision, deny, not_in_this_state
from marketplace.webhooks.models import Endpoint


def may_administer(user: User | AnonymousUser, namespace: Namespace) -> Decision:
    """May the user decide which programs are told what happens to the namespace?"""
    if Namespace.objects.of(user, roles=ADMINISTERS).filter(pk=namespace.pk).exists():
        return ALLOW
    return deny("not_an_admin", f"Only owners and admins of {namespace} manage its webhooks.")


def may_send(endpoint: Endpoint) -> Decision:
    """Does anything leave for the endpoint now?"""
    if endpoint.disabled_at is None:
        return ALLOW
    return not_in_this_state("webhook_disabled", "This webhook is switched off. Switch it on first.")
