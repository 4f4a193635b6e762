"""DRF's limits of calls, counted apart from the cache that must survive (settings.CACHES)."""

from __future__ import annotations

from typing import cast

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.utils.connection import ConnectionProxy
from rest_framework.throttling import AnonRateThrottle, UserRateThrottle

_counts = cast("BaseCache", ConnectionProxy(caches, "throttles"))


class AnonymousThrottle(AnonRateThrottle):
    cache = _counts


class UserThrottle(UserRateThrottle):
    cache = _counts


class LicenseKeyThrottle(AnonRateThrottle):
    """Of calls that show a license key: guessing must not pay, and nobody is signed in there."""

    scope = "license_key"
    cache = _counts
