"""Django's admin as a window: the staff look everything up there, and act through the site's own pages, whose services
keep rights, money, states and the record of it. Nothing is added, changed or deleted here."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.db import models
from django.http import HttpRequest

MAX_COLUMNS = 9
# Rights to act, and secrets: not even to be looked at.
_HIDDEN = frozenset({"token", "secret", "digest"})
# What the names of rows are made of: followed in the list's one query, so that no row costs another.
_NAMED_BY = frozenset(
    [
        "namespace",
        "listing",
        "release",
        "licensee",
        "terms",
        "author",
        "dataset",
        "artifact",
        "owner",
        "parent",
        "user",
    ]  # of their `__str__`
)
_DEPTH = 3
_LONG = (models.TextField, models.JSONField)


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """Columns, filters and search follow from the model's own fields; for the site's staff, who need no further
    permission."""

    list_per_page = 50
    show_full_result_count = False

    def has_module_permission(self, request: HttpRequest) -> bool:
        return _is_staff(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_staff(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return ["pk", *(field.name for field in _columns(self.model))]

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        return [
            field.name
            for field in self.model._meta.fields  # noqa: SLF001 - Django's public name for it
            if field.choices or isinstance(field, models.BooleanField)
        ]

    def get_list_select_related(self, request: HttpRequest) -> list[Any]:
        shown = [field for field in _columns(self.model) if isinstance(field, models.ForeignKey)]
        return [path for field in shown for path in (field.name, *_naming(field, field.name, _DEPTH))]

    def get_search_fields(self, request: HttpRequest) -> list[Any]:
        own = [
            field.name
            for field in self.model._meta.fields  # noqa: SLF001 - Django's public name for it
            if isinstance(field, models.CharField) and not field.choices and field.name not in _HIDDEN
        ]
        return [*own, *_search_through(self.model)]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [field.name for field in self.model._meta.fields if field.name not in _HIDDEN]  # noqa: SLF001 - as above

    def get_ordering(self, request: HttpRequest) -> list[Any]:
        return ["-pk"]


def register(app_label: str) -> None:
    """Opens a window on every model of the app, also on those that it will have."""
    for model in apps.get_app_config(app_label).get_models():
        if not admin.site.is_registered(model):
            admin.site.register(model, ReadOnlyAdmin)


def _is_staff(request: HttpRequest) -> bool:
    return bool(request.user.is_active and request.user.is_staff)


def _columns(model: type[models.Model]) -> list[models.Field[Any, Any]]:
    """The first columns that fit a list: no long text, no document, no digest, not the key."""
    return [
        field
        for field in model._meta.fields  # noqa: SLF001 - Django's public name for it
        if not isinstance(field, _LONG)
        and not field.primary_key
        and field.name not in _HIDDEN
        and not field.name.endswith("sha256")
    ][:MAX_COLUMNS]


def _naming(field: models.ForeignKey[Any, Any], path: str, depth: int) -> list[str]:
    if not depth:
        return []
    found = []
    for inner in field.related_model._meta.fields:  # noqa: SLF001 - Django's public name for it
        if isinstance(inner, models.ForeignKey) and inner.name in _NAMED_BY:
            deeper = f"{path}__{inner.name}"
            found += [deeper, *_naming(inner, deeper, depth - 1)]
    return found


def _search_through(model: type[models.Model]) -> list[str]:
    """Names of the things that a row points to."""
    found = []
    for field in model._meta.fields:  # noqa: SLF001 - Django's public name for it
        if not isinstance(field, models.ForeignKey):
            continue
        names = {inner.name for inner in field.related_model._meta.fields}  # noqa: SLF001 - as above
        found += [f"{field.name}__{name}" for name in ("name", "username") if name in names]
    return found
