"""Organisations over the API: what the page can do, and no more."""

from __future__ import annotations

from typing import Any

import pytest
import scenarios
from django.test import Client

from marketplace.accounts.models import Role, User
from marketplace.accounts.services import tokens

pytestmark = pytest.mark.django_db
PATH = "/api/v1/organizations/"


def caller(user: User, *scopes: str, **limits: Any) -> dict[str, str]:
    _, secret = tokens.issue(user=user, name="a", scopes=scopes or ("organizations:write",), **limits)
    return {"Authorization": f"Bearer {secret}"}


def ask(method: str, path: str, headers: dict[str, str], body: Any = None, **more: str) -> Any:
    call = getattr(Client(), method)
    return call(f"{PATH}{path}", body or {}, content_type="application/json", headers={**headers, **more})


def roles(answer: Any) -> dict[str, str]:
    return {member["username"]: member["role"] for member in answer.json()["members"]}


def test_an_organisation_is_made_and_its_members_are_changed() -> None:
    olga, headers = (user := scenarios.person("olga")), caller(user)
    scenarios.person("wim")

    made = ask("post", "", headers, {"name": "Acme", "display_name": "Acme Labs"})
    again = ask("post", "", headers, {"name": "acme"})
    added = ask("put", "acme/members/wim/", headers, {"role": "writer"})
    changed = ask("put", "acme/members/WIM/", headers, {"role": "billing"})

    assert (made.status_code, made.json()["role"], made.json()["display_name"]) == (201, "owner", "Acme Labs")
    assert (again.status_code, again.json()["code"]) == (409, "name_taken")
    assert roles(added) == {"olga": "owner", "wim": "writer"}
    assert roles(changed) == {"olga": "owner", "wim": "billing"}
    assert [row["name"] for row in Client().get(PATH, headers=caller(olga)).json()["results"]] == ["Acme"]
    assert roles(ask("delete", "acme/members/wim/", headers)) == {"olga": "owner"}
    last = ask("delete", "acme/members/olga/", headers)
    assert (last.status_code, last.json()["code"]) == (409, "last_owner")
    nobody = ask("put", "acme/members/nobody/", headers, {"role": "reader"})
    assert (nobody.status_code, nobody.json()["code"]) == (422, "user_unknown")


def test_a_member_sees_it_and_may_leave_and_changes_nobody_else() -> None:
    olga = scenarios.person("olga")
    acme = scenarios.organization(olga, "acme")
    rita = scenarios.member(acme, "rita", Role.READER)
    headers = caller(rita)

    assert Client().get(f"{PATH}acme/", headers=headers).json()["role"] == "reader"
    refused = ask("put", "acme/members/rita/", headers, {"role": "owner"})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_an_admin")
    assert ask("delete", "acme/members/olga/", headers).status_code == 403

    assert ask("delete", "acme/members/rita/", headers).status_code == 204
    assert Client().get(f"{PATH}acme/", headers=headers).status_code == 404


def test_strangers_and_tokens_without_the_scope_or_limited_to_others_have_none() -> None:
    olga = scenarios.person("olga")
    scenarios.organization(olga, "acme")
    stranger = caller(scenarios.person("sam"))

    assert Client().get(f"{PATH}acme/", headers=stranger).status_code == 404
    assert ask("put", "acme/members/sam/", stranger, {"role": "owner"}).status_code == 404
    assert ask("post", "", caller(olga, "organizations:read"), {"name": "b"}).status_code == 403
    assert Client().get(PATH).status_code == 401
    limited = caller(olga, "organizations:write", resources=["other"])
    assert ask("put", "acme/members/sam/", limited, {"role": "owner"}).status_code == 404


def test_members_are_changed_only_as_they_were_seen() -> None:
    olga = scenarios.person("olga")
    acme = scenarios.organization(olga, "acme")
    headers = caller(olga)
    seen = Client().get(f"{PATH}acme/", headers=headers)["ETag"]
    scenarios.member(acme, "wim", Role.WRITER)

    stale = ask("put", "acme/members/wim/", headers, {"role": "owner"}, **{"If-Match": seen})
    now = Client().get(f"{PATH}acme/", headers=headers)["ETag"]
    fresh = ask("put", "acme/members/wim/", headers, {"role": "owner"}, **{"If-Match": now})

    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    assert roles(fresh) == {"olga": "owner", "wim": "owner"}


def test_a_member_leaves_on_the_page() -> None:
    acme = scenarios.organization(scenarios.person("olga"), "acme")
    browser = Client()
    browser.force_login(scenarios.member(acme, "rita", Role.READER))
    page = browser.get("/account/organizations/acme/")
    assert "Leave" in page.content.decode()

    left = browser.post("/account/organizations/acme/", {"username": "rita", "role": ""})

    assert left["Location"] == "/account/organizations/"
    assert browser.get("/account/organizations/acme/").status_code == 404
