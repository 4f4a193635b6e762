"""Errors told to a Sentry server, where the operator has one. settings.py calls this before Django is ready."""

from __future__ import annotations

from typing import Any

from structlog.contextvars import get_contextvars


def start(dsn: str, *, environment: str, release: str) -> None:
    """Reports what is logged as an error, and every exception that nobody caught, with the number of the request or
    the run. Nothing of what people send: no bodies, cookies, addresses, names, local variables."""
    import sentry_sdk  # noqa: PLC0415 - a twentieth of a second of every process, for sites that have no such server

    sentry_sdk.init(
        dsn=dsn,
        environment=environment,
        release=release,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        # The servers that are called, receivers of webhooks above all, are told nothing of this one; their addresses are
        # secrets, and so is much else that a trail would hold.
        trace_propagation_targets=[],
        max_breadcrumbs=0,
        before_send=_scrubbed,  # type: ignore[arg-type]  # its Event is a TypedDict, as any dict of these keys is
    )


def _scrubbed(event: dict[str, Any], _hint: dict[str, Any]) -> dict[str, Any]:
    request = event.get("request", {})
    # Tokens and license keys come in all of them, the url too: `transaction` says which page it was.
    for part in ("headers", "cookies", "query_string", "env", "data", "url"):
        request.pop(part, None)
    for error in event.get("exception", {}).get("values", ()):
        if isinstance(error.get("value"), str):  # PostgreSQL tells the values that clash: `Key (email)=(...)`
            error["value"] = error["value"].partition("\nDETAIL:")[0]
    event.pop("user", None)
    event.pop("breadcrumbs", None)
    event.pop("server_name", None)
    event.setdefault("tags", {}).update({key: str(value) for key, value in get_contextvars().items()})
    return event
