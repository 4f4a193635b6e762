"""Namespaces, organisations and their members."""

from __future__ import annotations

import re

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from marketplace.accounts.models import Membership, Namespace, Organization, Role, User
from marketplace.accounts.models.people import ADMINISTERS, RESERVED_NAMES, validate_name
from marketplace.accounts.services import audit
from marketplace.errors import Conflict, Denied, Invalid


def check_name(name: str) -> None:
    """Raises Invalid (`bad_name`) or Conflict (`name_reserved`, `name_taken`) unless it can be a namespace."""
    try:
        validate_name(name)
    except ValidationError as error:
        raise Invalid("bad_name", str(error.message), field="name") from error
    if name.lower() in RESERVED_NAMES:
        raise Conflict("name_reserved", "This name is reserved. Choose another.", field="name")
    if Namespace.objects.filter(name__iexact=name).exists():
        raise Conflict("name_taken", "This name is taken. Choose another.", field="name")


def namespace_of(user: User) -> Namespace:
    """Returns the user's own namespace; makes it on first use, for accounts made outside sign-up."""
    with transaction.atomic():
        namespace = Namespace.objects.filter(user=user).first()
        if namespace is not None:
            return namespace
        stem = re.sub(r"[^A-Za-z0-9_]+", "-", user.username).strip("-") or f"user-{user.pk}"
        taken = stem.lower() in RESERVED_NAMES or Namespace.objects.filter(name__iexact=stem).exists()
        return Namespace.objects.create(name=f"{stem}-{user.pk}" if taken else stem, user=user)


def create_organization(*, owner: User, name: str, display_name: str = "", website: str = "") -> Namespace:
    """Creates the organisation with its namespace and its first owner. Raises as `check_name`."""
    check_name(name)
    try:
        with transaction.atomic():
            organization = Organization.objects.create(display_name=display_name or name, website=website)
            Membership.objects.create(organization=organization, user=owner, role=Role.OWNER)
            namespace = Namespace.objects.create(name=name, organization=organization)
            audit.record("organization.create", actor=owner, namespace=namespace, subject=name)
    except IntegrityError as error:
        raise Conflict("name_taken", "This name is taken. Choose another.", field="name") from error
    return namespace


def set_role(*, actor: User, namespace: Namespace, username: str, role: Role | None) -> None:
    """Adds a member, changes their role, or with None removes them; everybody may leave. Raises Denied (`not_an_admin`,
    `not_an_owner`), Invalid (`user_unknown`), Conflict (`last_owner`). Locks the organisation, so that two
    changes at once cannot leave it without an owner."""
    user = User.objects.filter(username__iexact=username).first()
    with transaction.atomic():
        organization = Organization.objects.select_for_update().filter(namespace=namespace).first()
        members = Membership.objects.filter(organization=organization)
        _require_rank(actor=actor, members=members, user=user, role=role)
        if user is None or organization is None:
            raise Invalid("user_unknown", f"There is no account named {username}.", field="username")
        if role is None:
            members.filter(user=user).delete()
        else:
            members.update_or_create(organization=organization, user=user, defaults={"role": role})
        if not members.filter(role=Role.OWNER).exists():
            raise Conflict("last_owner", "An organisation needs an owner. Name another one first.")
        audit.record("organization.member", actor=actor, namespace=namespace, subject=username, details={"role": role})


def _require_rank(*, actor: User, members: QuerySet[Membership], user: User | None, role: Role | None) -> None:
    """Raises Denied unless the actor's role may give `role` to the user, or take the user's present one."""
    if role is None and user == actor and members.filter(user=actor).exists():
        return
    rank = members.filter(user=actor, role__in=ADMINISTERS).values_list("role", flat=True).first()
    if rank is None:
        raise Denied("not_an_admin", "Only owners and admins change the members of an organisation.")
    is_owners = role == Role.OWNER or members.filter(user=user, role=Role.OWNER).exists()
    if is_owners and rank != Role.OWNER:
        raise Denied("not_an_owner", "Only an owner makes somebody an owner, or changes the role of one.")
