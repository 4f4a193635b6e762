"""How often the API and the Hub's protocol may be called, and the headers that tell it on every answer.

A window begins with a caller's first call and is fixed from then on. A token has a window of its own, by its owner's plan,
and all that an account's tokens and sessions do together has a larger one: more tokens are not more calls without end.
Files count apart from the rest. Counts lie in a cache apart from the one that must survive (settings.CACHES)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.http import HttpRequest, HttpResponse
from django.utils.connection import ConnectionProxy
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from marketplace.accounts.models import ApiToken, User
from marketplace.rate_settings import STANDARD, Rate

API, FILES = "api", "resolvers"  # what Hub clients call them
FILES_FACTOR = 5  # a snapshot is two calls for each of its files, and few for everything else
ACCOUNT_FACTOR = 5  # what an account may do in all, in windows of one token
_counts = cast("BaseCache", ConnectionProxy(caches, "throttles"))


@dataclass(frozen=True, slots=True)
class Window:
    """Where a caller stands after the call that was counted."""

    bucket: str
    rate: Rate
    used: int
    ends_in_seconds: int

    @property
    def left(self) -> int:
        return max(0, self.rate.calls - self.used)

    @property
    def is_exceeded(self) -> bool:
        return self.used > self.rate.calls

    def headers(self) -> dict[str, str]:
        """As draft-ietf-httpapi-ratelimit-headers has them, in the form that huggingface_hub reads."""
        return {
            "RateLimit": f'"{self.bucket}";r={self.left};t={self.ends_in_seconds}',
            "RateLimit-Policy": f'"fixed window";"{self.bucket}";q={self.rate.calls};w={self.rate.seconds}',
        }


def spend(bucket: str, caller: str, *, rate: Rate, now: float) -> Window:
    """Counts one call and returns where the caller stands; `now` in seconds since the epoch."""
    key = f"{bucket}:{caller}:{rate.calls}/{rate.seconds}"
    end = _counts.get(key)
    if end is None or end <= now:
        past, end = end, now + rate.seconds
        if past is not None:
            _counts.set(key, end, rate.seconds)
        elif not _counts.add(key, end, rate.seconds):
            end = _counts.get(key, end)  # two first calls at once: the earlier one's window
    count = f"{key}:{end}"
    _counts.add(count, 0, rate.seconds + 1)
    try:
        used = _counts.incr(count)
    except ValueError:  # pushed out of a full cache between the two lines
        used = 1
    return Window(bucket, rate, used, max(1, math.ceil(end - now)))


class CallLimit(BaseThrottle):
    """Counts a request once, whoever asks again whether it may go on. A view says by `rate_bucket` where it counts."""

    def allow_request(self, request: Request, view: Any) -> bool:
        plain = request._request  # noqa: SLF001 - DRF's own way to Django's request
        self.window: Window | None = getattr(plain, "rate_window", None)
        if self.window is None:
            bucket = getattr(view, "rate_bucket", API)
            self.window = _spend_all(bucket, _limits(request, bucket, self.get_ident(request)))
            plain.rate_window = self.window  # type: ignore[attr-defined]  # for RateLimitHeaders
        return not self.window.is_exceeded

    def wait(self) -> float | None:
        return self.window.ends_in_seconds if self.window else None


def _spend_all(bucket: str, limits: list[tuple[str, Rate]]) -> Window:
    """Counts for each caller up to one who has none left, and returns the window of whom has the fewest."""
    tightest: Window | None = None
    for caller, rate in limits:
        window = spend(bucket, caller, rate=rate, now=time.time())
        if window.is_exceeded:
            return window
        tightest = window if tightest is None or window.left < tightest.left else tightest
    if tightest is None:
        raise ValueError("a call counts for somebody")
    return tightest


def _limits(request: Request, bucket: str, address: str) -> list[tuple[str, Rate]]:
    """Returns each caller that the request counts for, with what they may."""
    own = settings.RATE_LIMITS.get(bucket)  # of calls that prove something by a secret: nobody signs in for them
    factor = FILES_FACTOR if bucket == FILES else 1
    token = request.auth if isinstance(request.auth, ApiToken) else None
    user = token.user if token else request.user
    if own or not isinstance(user, User):
        return [(f"address:{address}", own or settings.RATE_LIMITS["anonymous"].times(factor))]
    rate = rate_of(user).times(factor)
    caller = f"token:{token.pk}" if token else f"session:{user.pk}"
    return [(caller, rate), (f"account:{user.pk}", rate.times(ACCOUNT_FACTOR))]


def count_for(user: User) -> None:
    """Counts a call for the account alone, where a signed address or a pass says whose it is. Raises Throttled."""
    window = spend(API, f"account:{user.pk}", rate=rate_of(user).times(ACCOUNT_FACTOR), now=time.time())
    if window.is_exceeded:
        raise Throttled(wait=window.ends_in_seconds)


def rate_of(user: User) -> Rate:
    """Returns what each token of the user may, by their plan; a plan that is gone from the settings is the standard one."""
    found: Rate = settings.RATE_LIMIT_PLANS.get(user.api_plan, settings.RATE_LIMIT_PLANS[STANDARD])
    return found


class RateLimitHeaders:
    """Tells on each answer that was counted, refusals and failures included, how many calls are left."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        window: Window | None = getattr(request, "rate_window", None)
        if window is not None:
            for name, value in window.headers().items():
                response[name] = value
        return response
