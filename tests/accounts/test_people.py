from __future__ import annotations

import pytest
import scenarios

from marketplace.accounts.models import AuditEvent, Membership, Namespace, Role, User
from marketplace.accounts.services import people
from marketplace.errors import Conflict, Denied

pytestmark = pytest.mark.django_db


def organization() -> Namespace:
    """acme, with a member of every role, each named after it."""
    founder = scenarios.person("owner")
    acme = people.create_organization(owner=founder, name="acme")
    for role in (Role.ADMIN, Role.WRITER, Role.READER, Role.BILLING):
        scenarios.person(role.value)
        people.set_role(actor=founder, namespace=acme, username=role.value, role=role)
    scenarios.person("new")
    return acme


def role_of(namespace: Namespace, username: str) -> str | None:
    found = Membership.objects.filter(organization=namespace.organization, user__username=username).first()
    return found.role if found else None


@pytest.mark.parametrize(
    ("actor", "target", "role", "code"),
    [
        ("owner", "new", Role.OWNER, ""),
        ("owner", "admin", None, ""),
        ("admin", "new", Role.ADMIN, ""),
        ("admin", "writer", None, ""),
        ("admin", "new", Role.OWNER, "not_an_owner"),
        ("admin", "admin", Role.OWNER, "not_an_owner"),
        ("admin", "owner", Role.READER, "not_an_owner"),
        ("admin", "owner", None, "not_an_owner"),
        ("writer", "new", Role.READER, "not_an_admin"),
        ("billing", "new", Role.READER, "not_an_admin"),
        ("new", "new", Role.READER, "not_an_admin"),
    ],
)
def test_owners_change_every_role_and_admins_every_role_but_the_owners(
    actor: str, target: str, role: Role | None, code: str
) -> None:
    acme = organization()
    before, audited = role_of(acme, target), AuditEvent.objects.count()
    user = User.objects.get(username=actor)

    try:
        people.set_role(actor=user, namespace=acme, username=target, role=role)
        told = ""
    except Denied as error:
        told = error.code

    assert told == code
    assert role_of(acme, target) == (before if code else role)
    assert AuditEvent.objects.count() == audited + (not code)


@pytest.mark.parametrize("role", [None, Role.ADMIN])
def test_the_last_owner_stays(role: Role | None) -> None:
    acme = organization()
    founder = Membership.objects.get(role=Role.OWNER).user

    with pytest.raises(Conflict) as caught:
        people.set_role(actor=founder, namespace=acme, username="owner", role=role)

    assert caught.value.code == "last_owner"
    assert role_of(acme, "owner") == Role.OWNER
