"""Who may do what, in which state, under which terms: role x state x terms -> code, where "" is a yes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
import scenarios
from django.contrib.auth.models import AnonymousUser
from django.utils import timezone

from marketplace.accounts.models import Role, User
from marketplace.accounts.services import people
from marketplace.decisions import Decision
from models_catalog import policies
from models_catalog.models import Release
from models_catalog.presets import APPROVAL_TEMPLATE, COMMERCIAL_TEMPLATE, PRESETS
from models_catalog.services import access, publishing
from models_catalog.terms import Terms

pytestmark = pytest.mark.django_db
TERMS: dict[str, Terms] = {
    "free": PRESETS["mit"],
    "fixed": PRESETS["cc-by-nd-4.0"],
    "paid": COMMERCIAL_TEMPLATE,
    "reviewed": APPROVAL_TEMPLATE,
}
VENDORS = ("owner", "admin", "writer", "reader", "billing")  # in northlight, which sells the model
STRANGERS = ("anonymous", "stranger", "staff")


@dataclass(frozen=True)
class World:
    release: Release
    people: dict[str, User | AnonymousUser]


def world(state: str, terms: str) -> World:
    """A release of the organisation northlight. `buyer` holds it, `lapsed` held it, `member` is a writer and
    `helper` a reader of beta, which holds it; `asked` waits for approval."""
    founder = scenarios.person("owner")
    northlight = scenarios.organization(founder, "northlight")
    crowd: dict[str, User | AnonymousUser] = {"owner": founder, "anonymous": AnonymousUser()}
    crowd |= {role: scenarios.member(northlight, role, Role(role)) for role in VENDORS[1:]}
    crowd |= {name: scenarios.person(name) for name in ("stranger", "staff", "buyer", "lapsed", "asked", "boss")}
    crowd["staff"].is_staff = True
    beta = scenarios.organization(crowd["boss"], "beta")
    crowd |= {
        "member": scenarios.member(beta, "member", Role.WRITER),
        "helper": scenarios.member(beta, "helper", Role.READER),
    }
    release = made(founder, state, namespace=northlight, terms=TERMS[terms])
    if release.manifest_sha256 and not release.is_remote:
        for user, licensee in (("buyer", None), ("lapsed", None), ("member", beta)):
            held(crowd[user], release, licensee=licensee)
        people.namespace_of(crowd["lapsed"]).grants.update(expires_at=timezone.now() - timedelta(days=1))
        if terms == "reviewed":
            access.request_access(user=crowd["asked"], release=release, reason="x", now=timezone.now())
    if state == "yanked":
        publishing.yank(user=founder, release=release, reason="x", now=timezone.now())
    release.refresh_from_db()
    return World(release, crowd)


def made(founder: User, state: str, **given: object) -> Release:
    if state == "remote":
        draft = scenarios.draft_release(founder, **given)
        return publishing.publish_remote(
            user=founder, release=draft, now=timezone.now(), remote_url="https://w.example/a"
        )
    if state == "rejected":
        draft = scenarios.draft_release(founder, **given)
        publishing.submit(user=founder, release=draft)
        publishing.record_verification(release_id=draft.pk, result={"status": "rejected"}, golden=None)
        return draft
    makers = {"draft": scenarios.draft_release, "ready": scenarios.ready_release}
    return makers.get(state, scenarios.published_release)(founder, **given)


def held(user: User, release: Release, *, licensee: object = None) -> None:
    if release.terms.manual_approval:
        request = access.request_access(user=user, release=release, reason="x", now=timezone.now(), licensee=licensee)
        vendor = scenarios.vendor_of(release)
        access.decide_request(request_id=request.pk, actor=vendor, approve=True, answer="", now=timezone.now())
    scenarios.licensed(user, release, licensee=licensee)


def asked(policy: str, one: World, role: str) -> Decision:
    user, now = one.people[role], timezone.now()
    ask: dict[str, Callable[[], Decision]] = {
        "may_license": lambda: policies.may_license(user, one.release, now=now),
        "may_license_for_vendor": lambda: policies.may_license(
            user, one.release, now=now, holder=one.release.listing.namespace
        ),
        "may_download": lambda: policies.may_download(user, one.release, now=now),
        "may_predict": lambda: policies.may_predict(user, one.release, now=now),
        "may_fine_tune": lambda: policies.may_fine_tune(user, one.release, now=now),
        "may_fine_tune_for_vendor": lambda: policies.may_fine_tune(
            user, one.release, now=now, holder=one.release.listing.namespace
        ),
        "may_fine_tune_for_some": lambda: policies.may_fine_tune_for_some(user, one.release, now=now),
        "may_share_derivative": lambda: policies.may_share_derivative(user, one.release, now=now),
        "may_share_derivative_for_vendor": lambda: policies.may_share_derivative(
            user, one.release, now=now, holder=one.release.listing.namespace
        ),
        "may_publish": lambda: policies.may_publish(user, one.release),
        "may_submit": lambda: policies.may_submit(user, one.release),
        "may_yank": lambda: policies.may_yank(user, one.release),
        "may_edit_release": lambda: policies.may_edit_release(user, one.release),
        "may_bill": lambda: policies.may_bill(user, one.release.listing),
        "may_fetch": lambda: policies.may_fetch(user, one.release),
    }
    return ask[policy]()


# {policy: {(state, terms): {code: the roles that get it}}}
TABLE: dict[str, dict[tuple[str, str], dict[str, tuple[str, ...]]]] = {
    "may_license": {
        ("published", "free"): {
            "sign_in": ("anonymous",),
            "already_licensed": ("buyer",),
            "": ("stranger", "staff", "lapsed", "asked", "member", "helper", *VENDORS),
        },
        ("published", "paid"): {"already_licensed": ("buyer",), "": ("stranger", "lapsed", "member", "writer")},
        ("published", "reviewed"): {
            "approval_needed": ("stranger", "staff", "asked", "member", "helper", "writer"),
            "already_licensed": ("buyer",),
            "": ("lapsed",),  # approved once, and the licence has run out
        },
        ("yanked", "free"): {
            "sign_in": ("anonymous",),
            "already_licensed": ("buyer",),
            "release_withdrawn": ("stranger", "lapsed", "member", "writer"),
        },
        ("draft", "free"): {"not_published": ("stranger", "owner", "staff"), "sign_in": ("anonymous",)},
        ("remote", "free"): {"": ("stranger",)},
    },
    "may_license_for_vendor": {
        ("published", "free"): {
            "own_model": ("owner", "admin", "writer"),
            "not_a_member": ("reader", "billing", "buyer", "stranger", "staff"),
            "sign_in": ("anonymous",),
        },
    },
    "may_download": {
        ("published", "free"): {
            "no_license": (*STRANGERS, "lapsed", "asked"),
            "": ("buyer", "member", "helper", *VENDORS),
        },
        ("published", "paid"): {"no_license": (*STRANGERS, "lapsed"), "": ("buyer", "member", "helper", *VENDORS)},
        ("published", "reviewed"): {"no_license": ("asked", *STRANGERS), "": ("buyer", "member", "owner")},
        ("yanked", "free"): {"no_license": (*STRANGERS, "lapsed"), "": ("buyer", "member", "helper", *VENDORS)},
        ("draft", "free"): {"not_published": (*STRANGERS, "buyer"), "": VENDORS},
        ("ready", "free"): {"not_published": ("stranger",), "": ("writer", "reader")},
        ("remote", "free"): {"not_on_server": ("stranger", "owner", "staff")},
    },
    "may_predict": {
        ("published", "free"): {"no_license": STRANGERS, "": ("buyer", "helper", "reader")},
        ("yanked", "free"): {"": ("buyer",), "no_license": ("stranger",)},
        ("draft", "free"): {"not_published": ("owner", "stranger")},
    },
    "may_fine_tune": {
        ("published", "free"): {
            # A member's own work needs a licence of their own, a vendor's member's too.
            "no_license": (*STRANGERS, "lapsed", "member", "helper", *VENDORS),
            "": ("buyer",),
        },
        ("published", "fixed"): {"": ("buyer",), "no_license": ("member",)},
        ("published", "paid"): {"": ("buyer",), "no_license": ("stranger",)},
        ("published", "reviewed"): {"": ("buyer",), "no_license": ("asked",)},
        ("yanked", "free"): {"release_withdrawn": ("buyer", "owner", "stranger")},
        ("draft", "free"): {"not_published": ("owner", "stranger")},
        ("ready", "free"): {"not_published": ("owner",)},
        ("remote", "free"): {"not_on_server": ("owner", "stranger")},
    },
    "may_fine_tune_for_vendor": {
        ("published", "free"): {"": VENDORS, "not_a_member": ("buyer", "member", *STRANGERS)},
        ("draft", "free"): {"not_published": VENDORS},
    },
    "may_fine_tune_for_some": {
        ("published", "free"): {
            "held_by_organization": ("member", "owner", "admin", "writer"),
            "no_license": (*STRANGERS, "lapsed", "helper", "reader", "billing"),
            "": ("buyer",),
        },
        ("draft", "free"): {"not_published": ("owner",)},
    },
    "may_share_derivative": {
        ("published", "free"): {"": ("buyer",), "no_license": ("member", "owner", "lapsed", *STRANGERS)},
        ("published", "fixed"): {"use_not_granted": ("buyer",), "no_license": ("stranger",)},
        ("published", "paid"): {"": ("buyer",)},
        ("published", "reviewed"): {"needs_approval": ("buyer",), "no_license": ("asked",)},
        ("yanked", "free"): {"": ("buyer",), "no_license": ("stranger",)},
    },
    "may_share_derivative_for_vendor": {
        ("published", "fixed"): {"": ("owner", "writer"), "not_a_member": ("buyer", "stranger")},
    },
    "may_publish": {
        ("ready", "free"): {
            "": ("owner", "admin", "writer"),
            "not_the_vendor": ("reader", "billing", "buyer", *STRANGERS),
        },
        ("draft", "free"): {"not_verified": ("owner", "stranger")},
        ("published", "free"): {"release_frozen": ("owner",)},
        ("yanked", "free"): {"release_frozen": ("owner",)},
        ("rejected", "free"): {"not_verified": ("owner",)},
    },
    "may_submit": {
        ("draft", "free"): {"": ("owner", "admin", "writer"), "not_the_vendor": ("reader", "billing", *STRANGERS)},
        ("rejected", "free"): {"": ("owner",), "not_the_vendor": ("reader",)},
        ("published", "free"): {"release_frozen": ("owner", "stranger")},
    },
    "may_yank": {
        ("published", "free"): {
            "": ("owner", "admin", "writer"),
            "not_the_vendor": ("reader", "billing", "buyer", *STRANGERS),
        },
        ("ready", "free"): {"not_published": ("owner",)},
        ("yanked", "free"): {"not_published": ("owner",)},
        ("remote", "free"): {"": ("owner",)},
    },
    "may_edit_release": {
        ("draft", "free"): {"": ("owner", "admin", "writer"), "not_the_vendor": ("reader", "billing", *STRANGERS)},
        ("rejected", "free"): {"": ("owner",), "not_the_vendor": ("stranger",)},
        ("ready", "free"): {"release_frozen": ("owner", "stranger")},
        ("published", "free"): {"release_frozen": ("owner", "buyer")},
        ("yanked", "free"): {"release_frozen": ("owner",)},
    },
    "may_bill": {
        ("published", "paid"): {
            "": ("owner", "admin", "billing", "staff"),
            "not_billing": ("writer", "reader", "buyer", "member", "stranger", "anonymous"),
        },
    },
    "may_fetch": {
        ("remote", "free"): {"": ("staff",), "not_staff": ("owner", "stranger", "anonymous")},
        ("published", "free"): {"on_server": ("staff",)},
    },
}


def rows() -> Iterator[tuple[str, str, str]]:
    for policy, states in TABLE.items():
        for state, terms in states:
            yield policy, state, terms


@pytest.mark.parametrize(("policy", "state", "terms"), list(rows()))
def test_a_policy_answers_each_role_with_its_code(policy: str, state: str, terms: str) -> None:
    one = world(state, terms)
    expected = {role: code for code, roles in TABLE[policy][state, terms].items() for role in roles}

    answers = {role: asked(policy, one, role) for role in expected}

    assert {role: decision.code for role, decision in answers.items()} == expected
    for decision in answers.values():
        assert decision.allowed == (decision.code in {"", "held_by_organization"})
        assert decision.allowed or decision.why
