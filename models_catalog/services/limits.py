"""How often one person may write in public: counted in the rows themselves, so that every process sees the same."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from marketplace.accounts.models import User
from marketplace.errors import TooMany

HOUR = timedelta(hours=1)
PER_HOUR = 20  # of each kind: questions, answers, reports


def require_pace(rows: QuerySet[Any], *, user: User, now: datetime) -> None:
    """Raises TooMany (`too_many_posts`) where there are PER_HOUR of the user's `rows` in the last hour. Locks the
    user, so that of many at once no more come through."""
    User.objects.select_for_update(no_key=True).get(pk=user.pk)
    if rows.filter(created_at__gt=now - HOUR).count() >= PER_HOUR:
        raise TooMany("too_many_posts", f"You wrote {PER_HOUR} of these in the last hour. Go on in an hour.")
