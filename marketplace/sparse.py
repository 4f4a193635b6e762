"""`?fields=name,title` on every GET of the API: only these fields of an answer, or of each row of a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rest_framework.request import Request
from rest_framework.serializers import BaseSerializer, ListSerializer

from marketplace.errors import Broken

PARAMETER = "fields"
_PAGE = frozenset({"next", "previous", "results"})
_MAX_SHOWN = 20


def wanted(request: Request) -> list[str] | None:
    """Returns the names that are asked for, each once; None where all are wanted."""
    given = request.query_params.getlist(PARAMETER)
    if not given:
        return None
    return list(dict.fromkeys(name.strip() for text in given for name in text.split(",") if name.strip()))


def require_known(names: Iterable[str], known: Iterable[str]) -> None:
    """Raises Broken (`unknown_fields`), which lists those that there are."""
    known = list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        shown = ", ".join(name[:40] for name in unknown[:_MAX_SHOWN])
        text = f"There is no field {shown} here; the fields are {', '.join(known)}."
        raise Broken("unknown_fields", text, field=PARAMETER, items=known)


def names_of(serializer: Any) -> list[str] | None:
    """Returns the names of the rows' fields; None of a function that makes rows."""
    is_class = isinstance(serializer, type) and issubclass(serializer, BaseSerializer)
    return list(serializer().fields) if is_class else None


def narrow(rows: Any, names: list[str]) -> None:
    """Takes from a serializer of rows what is not asked for, before any of it is computed."""
    if not isinstance(rows, ListSerializer):
        return
    fields: dict[str, Any] = getattr(rows.child, "fields", {})
    for name in [name for name in fields if name not in names]:
        fields.pop(name)


def picked(data: Any, names: list[str]) -> Any:
    """Returns the names of an answer, or of each row of a list. Raises Broken (`unknown_fields`)."""
    if isinstance(data, list):
        return [picked(row, names) for row in data]
    if not isinstance(data, Mapping):
        return data
    if set(data) == _PAGE:
        return {**data, "results": picked(data["results"], names)}
    require_known(names, data)
    return {name: data[name] for name in data if name in names}
