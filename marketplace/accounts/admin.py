"""People in Django's admin, to look them up; and the plan of their API tokens, which is chosen there."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest

from marketplace import administration
from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit
from marketplace.rate_settings import STANDARD


class PlanForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    class Meta:
        model = User
        fields = ("api_plan",)

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        others = [name for name in settings.RATE_LIMIT_PLANS if name != STANDARD]
        self.fields["api_plan"] = forms.ChoiceField(
            choices=[("", STANDARD), *((name, name) for name in others)], required=False
        )


@admin.register(User)
class UserAdmin(administration.ReadOnlyAdmin):
    """Only the plan is changed here, and every change is written down; what signs somebody in is not shown."""

    form = PlanForm
    shown = ("username", "email", "is_active", "is_staff", "date_joined", "last_login")
    fields = (*shown, "api_plan")
    readonly_fields = shown

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return list(self.fields)

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return ["pk", *self.fields]

    def get_search_fields(self, request: HttpRequest) -> list[Any]:
        return ["username", "email"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        User.objects.filter(pk=obj.pk).update(api_plan=obj.api_plan)
        audit.record(
            "api_plan.set",
            actor=cast("User", request.user),  # of the staff: the permissions above
            namespace=Namespace.objects.filter(user=obj).first(),
            subject=obj,
            details={"plan": obj.api_plan or STANDARD},
        )
