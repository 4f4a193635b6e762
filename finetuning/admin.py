"""Datasets, runs and attempts in Django's admin, to look things up; and the quotas of compute, which are set there."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import admin
from django.http import HttpRequest

from finetuning.models import ComputeQuota
from marketplace import administration
from marketplace.accounts.models import User
from marketplace.accounts.services import audit


@admin.register(ComputeQuota)
class ComputeQuotaAdmin(administration.ReadOnlyAdmin):
    """The one thing that is changed here: it has no page of its own, and every change is written down."""

    fields = ("namespace", "hours_per_month")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return list(self.fields)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        super().save_model(request, obj, form, change)
        audit.record(
            "compute_quota.set",
            actor=cast("User", request.user),  # of the staff: the permissions above
            namespace=obj.namespace,
            subject=obj,
            details={"hours_per_month": obj.hours_per_month},
        )


administration.register("finetuning")
