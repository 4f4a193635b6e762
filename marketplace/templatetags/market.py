"""Pure formatting filters."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from babel.numbers import format_currency, get_currency_precision
from django import template
from django.utils.translation import get_language, to_locale

register = template.Library()


@register.filter
def percent(value: float | None, digits: int = 1) -> str:
    """0.953 -> 95.3%"""
    return "–" if value is None else f"{100 * value:.{digits}f}%"


@register.filter
def count(value: float | None) -> str:
    """4652008 -> 4.7 M"""
    if value is None:
        return "–"
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.1f} {unit}"
    return f"{value:g}"


@register.filter
def filesize(value: float | None) -> str:
    """18612345 -> 17.8 MiB"""
    if value is None:
        return "–"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return ""


@register.filter
def duration(seconds: float | None) -> str:
    """95 -> 1 min 35 s"""
    if seconds is None:
        return "–"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def money(minor: int, currency: str) -> str:
    """(4900, "EUR") -> €49.00, in the reader's language."""
    amount = Decimal(minor).scaleb(-get_currency_precision(currency))
    return str(format_currency(amount, currency, locale=to_locale(get_language() or "en")))


@register.filter
def price(terms: Any) -> str:
    """Returns the price of terms, or Free."""
    return money(terms.price_minor, terms.currency) if terms.price_minor else "Free"


@register.filter
def lookup(mapping: Any, key: Any) -> Any:
    """Returns mapping[key], or None."""
    return mapping.get(key) if hasattr(mapping, "get") else None


@register.filter
def heat(value: float | None) -> str:
    """0..1 -> the CSS class of a heat cell."""
    return f"heat-{min(9, int(10 * (value or 0)))}"
