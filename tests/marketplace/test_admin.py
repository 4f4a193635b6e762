from __future__ import annotations

from typing import Any

import pytest
import scenarios
from django.apps import apps
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from finetuning.models import ComputeQuota
from marketplace.accounts.services import people
from models_catalog.models import Grant, Listing
from models_catalog.services import moderation, questions, reviews

pytestmark = pytest.mark.django_db


def test_the_admin_has_no_sign_in_of_its_own(client: Client) -> None:
    """The site's sign-in asks for the second factor and counts attempts; Django's own does neither."""
    staff = scenarios.person("root")
    type(staff).objects.filter(pk=staff.pk).update(is_staff=True, is_superuser=True)

    page = client.get("/admin/login/?next=/admin/")
    posted = client.post("/admin/login/", {"username": "root", "password": "a long password"})

    for answer in (page, posted):
        assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, "/account/login/")
    assert client.get("/admin/").status_code == 302
    client.force_login(staff)
    assert client.get("/admin/").status_code == 200


def test_the_admin_is_closed_to_those_who_are_no_staff(client: Client) -> None:
    client.force_login(scenarios.person("bo"))

    assert client.get("/admin/", follow=True).status_code == 403


# Quotas alone are set in the admin (tests/finetuning/test_compute.py).
MODELS = [
    model
    for label in ("models_catalog", "finetuning")
    for model in apps.get_app_config(label).get_models()
    if model is not ComputeQuota
]


def staff() -> Client:
    """Somebody of the staff without any further permission."""
    user = scenarios.person("stan")
    type(user).objects.filter(pk=user.pk).update(is_staff=True)
    client = Client()
    client.force_login(user)
    return client


def trade(number: int) -> None:
    """One of everything of the catalog that comes about by buying and talking."""
    vendor, buyer, now = scenarios.person(f"vendor-{number}"), scenarios.person(f"buyer-{number}"), timezone.now()
    release = scenarios.published_release(vendor, name=f"net-{number}")
    scenarios.licensed(buyer, release)
    scenarios.downloaded(buyer, release.artifacts.get(path="config.json"))
    author = people.namespace_of(buyer)
    given = {"user": buyer, "listing": release.listing, "author": author, "now": now}
    reviews.write(rating=3, text="So.", **given)
    review = reviews.write(rating=4, text="Better.", **given)
    asked = questions.ask(user=buyer, listing=release.listing, text="How?", now=now)
    questions.answer(user=vendor, question=asked, text="So.", now=now)
    moderation.report(user=vendor, subject=review, reason="spam", text="Spam.", now=now)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_the_staff_look_at_every_model_and_change_none(model: Any) -> None:
    trade(0)
    client, name = staff(), f"admin:{model._meta.app_label}_{model._meta.model_name}"

    listed = client.get(reverse(f"{name}_changelist"), {"q": "net"})

    assert listed.status_code == 200
    assert client.get(reverse(f"{name}_add")).status_code == 403
    row = model._default_manager.first()
    if row is not None:
        assert client.get(reverse(f"{name}_change", args=[row.pk])).status_code == 200
        assert client.post(reverse(f"{name}_change", args=[row.pk]), {}).status_code == 403
        assert client.post(reverse(f"{name}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
        assert model._default_manager.filter(pk=row.pk).exists()


def test_a_list_takes_the_same_number_of_queries_however_long_it_is() -> None:
    client = staff()

    def queries() -> dict[str, int]:
        counts = {}
        for model in MODELS:
            with CaptureQueriesContext(connection) as captured:
                client.get(reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"))
            counts[model.__name__] = len(captured)
        return counts

    trade(0)
    trade(1)
    few = queries()
    for number in range(2, 6):
        trade(number)

    assert queries() == few


def test_the_token_that_may_write_an_outcome_is_not_shown() -> None:
    attempts = next(model for model in MODELS if model.__name__ == "Attempt")

    shown = admin.site.get_model_admin(attempts)

    assert "token" not in shown.get_fields(None)  # type: ignore[arg-type]  # it does not look at the request
    assert "token" not in shown.get_list_display(None)  # type: ignore[arg-type]  # likewise


def test_a_person_who_is_no_staff_looks_at_nothing() -> None:
    client = Client()
    client.force_login(scenarios.person("bo"))

    for model in (Grant, Listing):
        address = reverse(f"admin:models_catalog_{model._meta.model_name}_changelist")
        assert client.get(address).status_code == 302
