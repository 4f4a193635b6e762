"""Where sign-up meets namespaces: a username must be free as a namespace, and makes one."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from marketplace.accounts.models import User
from marketplace.accounts.services import people
from marketplace.errors import DomainError


class AccountAdapter(DefaultAccountAdapter):
    def clean_username(self, username: str, shallow: bool = False) -> str:  # noqa: FBT001, FBT002 - allauth's signature
        name: str = super().clean_username(username, shallow)
        try:
            if not shallow:
                people.check_name(name)
        except DomainError as error:
            raise ValidationError(error.message, error.code) from error
        return name

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:  # noqa: FBT001, FBT002
        saved: User = super().save_user(request, user, form, commit)
        if commit:
            people.namespace_of(saved)
        return saved
