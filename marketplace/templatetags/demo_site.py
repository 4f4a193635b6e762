"""What the sign-in page says of the demo; loaded by that page alone."""

from __future__ import annotations

from django import template
from django.conf import settings

from marketplace.accounts.models import User
from marketplace.demo import ACCOUNTS

register = template.Library()


@register.simple_tag
def demo_accounts() -> list[tuple[str, str, str]]:
    """Returns (username, password, purpose) of the accounts that the demo made; none on a production site."""
    if settings.PRODUCTION:
        return []
    made = set(User.objects.filter(username__in=[name for name, _, _ in ACCOUNTS]).values_list("username", flat=True))
    return [account for account in ACCOUNTS if account[0] in made]
