from __future__ import annotations

import pytest
import scenarios
from django.test import Client

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
