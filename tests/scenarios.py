"""Reaches real states through the services, so that no test starts from an impossible world."""

from __future__ import annotations

import dataclasses

from django.utils import timezone

from marketplace import storage
from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import people
from models_catalog.models import Release
from models_catalog.presets import PRESETS
from models_catalog.services import licensing, publishing
from models_catalog.terms import Terms


def person(username: str) -> User:
    user = User.objects.create_user(username, f"{username}@example.com", "a long password")
    people.namespace_of(user)
    return user


def published_release(vendor: User, *, name: str = "net", terms: Terms | None = None) -> Release:
    """A release that has passed verification and is in the catalog."""
    namespace = Namespace.objects.get(user=vendor)
    listing = publishing.create_listing(
        user=vendor,
        namespace=namespace,
        name=name,
        title=name,
        task="image-classification",
        framework="timm",
        architecture="test_efficientnet",
    )
    row = licensing.terms_row(terms or PRESETS["apache-2.0"])
    release = publishing.draft(user=vendor, listing=listing, version="1.0", terms=row)
    texts = [("README.md", "# A net"), ("config.json", "{}"), ("model.safetensors", "weights of a test")]
    publishing.attach_texts(user=vendor, release=release, texts=texts)
    publishing.submit(user=vendor, release=release)
    result = {"status": "accepted", "report": {"parameters": 10, "labels": ["a", "b"], "input": {"size": 64}}}
    publishing.record_verification(release_id=release.pk, result=result, golden=None)
    release.refresh_from_db()
    return publishing.publish(user=vendor, release=release, now=timezone.now())


def licensed(user: User, release: Release) -> None:
    licensing.accept_terms(user=user, release=release, terms_hash=release.terms.terms_hash, now=timezone.now())


def priced(terms: Terms, minor: int) -> Terms:
    return dataclasses.replace(terms, price_minor=minor)


def blob(content: bytes) -> storage.Blob:
    return storage.put_bytes(content)
