"""Pure formatting filters, and the few tags that components share."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from babel.numbers import format_currency, get_currency_precision
from django import template
from django.contrib.humanize.templatetags.humanize import naturaltime
from django.template import Context
from django.templatetags.static import static
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language, to_locale

from finetuning.engine import metric_names

KIBI = 1024
COLOR_MODES = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with alpha",
    "P": "palette",
    "RGBA": "RGB with alpha",
}
register = template.Library()
_SPRITE = "vendor/bootstrap-icons-1.13.2/sprite.svg"
# A state is told by its word and its icon; the tone only repeats them.
_STATES = {
    "good": ("check-circle-fill", "good"),
    "busy": ("arrow-repeat", "accent"),
    "waiting": ("hourglass-split", "warning"),
    "bad": ("x-circle-fill", "bad"),
    "idle": ("dash-circle", ""),
    "draft": ("pencil-square", ""),
}
_KINDS = {
    "succeeded": "good",
    "valid": "good",
    "published": "good",
    "paid": "good",
    "approved": "good",
    "active": "good",
    "accepted": "good",
    "trial": "waiting",
    "expiring": "waiting",
    "offered": "waiting",
    "expired": "bad",
    "revoked": "bad",
    "ready": "good",
    "delivered": "good",
    "checking": "busy",
    "verifying": "busy",
    "starting": "busy",
    "running": "busy",
    "queued": "waiting",
    "paused": "waiting",
    "waiting": "waiting",
    "pending": "waiting",
    "failed": "bad",
    "failing": "bad",
    "invalid": "bad",
    "refunded": "bad",
    "rejected": "bad",
    "yanked": "bad",
    "quarantined": "bad",
    "draft": "draft",
    "open": "waiting",
    "dismissed": "idle",
    "upheld": "bad",
    "in_force": "bad",
    "appealed": "waiting",
    "confirmed": "bad",
    "lifted": "good",
}


@register.filter
def percent(value: float | str | None, digits: int = 1) -> str:
    """0.953 -> 95.3%"""
    return "–" if value is None or isinstance(value, str) else f"{100 * value:.{digits}f}%"


@register.filter
def count(value: float | str | None) -> str:
    """4652008 -> 4.7 M"""
    if value is None or isinstance(value, str):
        return "–"
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.1f} {unit}"
    return f"{value:g}"


@register.filter
def filesize(value: float | str | None) -> str:
    """18612345 -> 17.8 MiB"""
    if value is None or isinstance(value, str):
        return "–"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < KIBI or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= KIBI
    return ""


@register.filter
def duration(seconds: float | str | None) -> str:
    """95 -> 1 min 35 s"""
    if seconds is None or isinstance(seconds, str):
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
def in_currency(minor: int, currency: str) -> str:
    """4900, "EUR" -> €49.00"""
    return money(minor, currency)


@register.filter
def price(terms: Any) -> str:
    """Returns the price of terms, or Free."""
    return money(terms.price_minor, terms.currency) if terms.price_minor else "Free"


@register.filter
def basis_points(value: int) -> str:
    """1000 -> 10%"""
    return f"{value / 100:g}%"


@register.filter
def metric_name(words: str) -> str:
    """COCO-val2017-VOC-labels miou -> COCO-val2017-VOC-labels mIoU"""
    return metric_names.written(words)


@register.filter
def lookup(mapping: Any, key: Any) -> Any:
    """Returns mapping[key], or None."""
    return mapping.get(key) if hasattr(mapping, "get") else None


@register.filter
def unlocalized(value: float) -> str:
    """0.5 -> 0.5 in every language: for attributes, which programs read."""
    return f"{value:.6g}"


@register.filter
def heat(value: float | str | None) -> str:
    """0..1 -> the CSS class of a heat cell."""
    return f"heat-{min(9, int(10 * (value or 0)))}"


@register.simple_tag
def icon(name: str) -> SafeString:
    """Returns an icon of the sprite; the words beside it carry the meaning."""
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>', static(_SPRITE), name)


@register.inclusion_tag("components/status.html")
def status(value: str, title: str) -> dict[str, Any]:
    """Shows the state of a run, dataset, release, order or request as a badge."""
    kind = _KINDS.get(value, "idle")
    name, tone = _STATES[kind]
    return {"title": title, "icon_name": name, "tone": tone, "busy": kind == "busy"}


@register.simple_tag
def when(at: datetime | None, otherwise: str = "–") -> SafeString | str:
    """Returns the time as people say it, with the exact one on hover."""
    if at is None:
        return otherwise
    exact = timezone.localtime(at)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', exact.isoformat(), f"{exact:%Y-%m-%d %H:%M:%S %Z}", naturaltime(at)
    )


@register.simple_tag(takes_context=True)
def nav_link(
    context: Context,
    url_name: str,
    title: str,
    icon_name: str = "",
    exact: bool = False,  # noqa: FBT001, FBT002 - as templates pass it
) -> SafeString:
    """Returns a link of a menu, marked as current on its own page and, unless `exact`, on those below it."""
    href, request = reverse(url_name), context.get("request")
    is_here = request is not None and (request.path == href or (not exact and request.path.startswith(href)))
    current = format_html(' aria-current="{}"', "page" if request and request.path == href else "true")
    return format_html(
        '<a href="{}"{}>{}{}</a>', href, current if is_here else "", icon(icon_name) if icon_name else "", title
    )


@register.simple_tag(takes_context=True)
def is_below(context: Context, *url_names: str) -> bool:
    """Is the page one of these, or below one of them?"""
    return any(context["request"].path.startswith(reverse(name)) for name in url_names)


@register.simple_tag
def group_link(url_name: str, title: str, is_here: bool) -> SafeString:  # noqa: FBT001 - as templates pass it
    """Returns a link to the first of a group of pages, marked as current on each of them."""
    current = format_html(' aria-current="{}"', "true") if is_here else ""
    return format_html('<a href="{}"{}>{}</a>', reverse(url_name), current, title)


@register.filter
def color_mode(mode: str) -> str:
    """Returns what Pillow calls a mode in a reader's words: I;16 -> 16-bit grey."""
    return COLOR_MODES.get(mode, "16-bit grey" if mode.startswith("I") else mode)
