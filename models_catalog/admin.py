"""The catalog in Django's admin, to look things up; of payment events also those that wait for the staff."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from marketplace import administration
from models_catalog.models import PaymentEvent
from models_catalog.payment_outcomes import Outcome
from models_catalog.services import payment_watch


class NeedsStaff(admin.SimpleListFilter):
    title, parameter_name = "what the staff must look at", "staff"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "Waits for the staff")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(pk__in=payment_watch.open_events().values("pk")) if self.value() else queryset


class ByOutcome(admin.SimpleListFilter):
    title, parameter_name = "outcome", "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(outcome.value, outcome.value.replace("_", " ").capitalize()) for outcome in Outcome]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(outcome=self.value()) if self.value() else queryset


@admin.register(PaymentEvent)
class PaymentEventAdmin(administration.ReadOnlyAdmin):
    date_hierarchy = "received_at"

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return ["received_at", "kind", "outcome", "detail", "order", "event_id"]

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        return [NeedsStaff, ByOutcome, "provider"]


administration.register("models_catalog")
