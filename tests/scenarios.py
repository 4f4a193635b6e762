"""Reaches real states through the services, so that no test starts from an impossible world."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from marketplace import storage
from marketplace.accounts.models import Namespace, Role, User
from marketplace.accounts.services import people
from marketplace.clients import asker
from models_catalog.declarations import Declaration
from models_catalog.models import Artifact, Grant, Listing, Order, Release
from models_catalog.models.licensing import Credential
from models_catalog.presets import PRESETS
from models_catalog.services import licensing, orders, publishing
from models_catalog.terms import Terms


def person(username: str) -> User:
    user = User.objects.create_user(username, f"{username}@example.com", "a long password")
    people.namespace_of(user)
    return user


def organization(owner: User, name: str) -> Namespace:
    return people.create_organization(owner=owner, name=name)


def member(namespace: Namespace, username: str, role: Role) -> User:
    """A new person with the role in the organisation."""
    user = person(username)
    owner = namespace.organization.memberships.get(role=Role.OWNER).user
    people.set_role(actor=owner, namespace=namespace, username=username, role=role)
    return user


def draft_release(
    vendor: User,
    *,
    name: str = "net",
    terms: Terms | None = None,
    version: str = "1.0",
    namespace: Namespace | None = None,
    weights: str = "",
    task: str = "image-classification",
    framework: str = "timm",
    architecture: str = "test_efficientnet",
) -> Release:
    """A draft with its files; a further version where the listing is there."""
    namespace = namespace or Namespace.objects.get(user=vendor)
    listing = Listing.objects.filter(namespace=namespace, name=name).first() or publishing.create_listing(
        user=vendor,
        namespace=namespace,
        name=name,
        title=name,
        task=task,
        framework=framework,
        architecture=architecture,
    )
    row = licensing.terms_row(terms or PRESETS["apache-2.0"])
    release = publishing.draft(user=vendor, listing=listing, version=version, terms=row)
    texts = [
        ("README.md", "# A net"),
        ("config.json", "{}"),
        ("model.safetensors", weights or f"weights of {release}"),
    ]
    publishing.attach_texts(user=vendor, release=release, texts=texts)
    return release


def ready_release(vendor: User, **given: object) -> Release:
    """A release that has passed verification."""
    return verify(vendor, draft_release(vendor, **given))  # type: ignore[arg-type]


def verify(vendor: User, release: Release) -> Release:
    """Submits the draft, which the verify job accepts."""
    if release.is_editable:
        publishing.submit(user=vendor, release=release)
    result = {"status": "accepted", "report": {"parameters": 10, "labels": ["a", "b"], "input": {"size": 64}}}
    publishing.record_verification(release_id=release.pk, result=result, golden=None)
    release.refresh_from_db()
    return release


def published_release(vendor: User, **given: object) -> Release:
    """A release that has passed verification and is in the catalog."""
    return publishing.publish(user=vendor, release=ready_release(vendor, **given), now=timezone.now())


def accepted(user: User, release: Release, *, licensee: Namespace | None = None) -> Grant | Order:
    return licensing.accept_terms(
        user=user,
        release=release,
        terms_hash=release.terms.terms_hash,
        now=timezone.now(),
        licensee=licensee,
        declaration=Declaration(country="DE", monthly_users=1, revenue_minor=1),
    )


def licensed(user: User, release: Release, *, licensee: Namespace | None = None) -> None:
    """The user, or the licensee for whom they write, holds a grant; what has a price is paid by the vendor."""
    taken = accepted(user, release, licensee=licensee)
    if isinstance(taken, Order):
        orders.settle_order(order=taken, actor=vendor_of(release), now=timezone.now())


def vendor_of(release: Release) -> User:
    """Somebody who owns the release's namespace."""
    namespace = release.listing.namespace
    return namespace.user or namespace.organization.memberships.get(role=Role.OWNER).user


def downloaded(
    user: User, artifact: Artifact, *, agent: str = "Mozilla/5.0", by_token: bool = False, at: datetime | None = None
) -> None:
    """The user has asked for the file, as the program that the User-Agent names."""
    licensing.record_download(
        artifact=artifact,
        user=user,
        asker=asker(agent),
        credential=Credential.TOKEN if by_token else Credential.SESSION,
        now=at or timezone.now(),
    )


def priced(terms: Terms, minor: int) -> Terms:
    return dataclasses.replace(terms, price_minor=minor)


def blob(content: bytes) -> storage.Blob:
    return storage.put_bytes(content)


def upload(name: str, content: bytes) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content)
