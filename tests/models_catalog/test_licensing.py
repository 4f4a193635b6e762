from __future__ import annotations

import pytest
import scenarios
from django.test import Client
from django.utils import timezone

from marketplace.accounts.models import AuditEvent
from marketplace.errors import Conflict, Denied, DomainError, Invalid
from models_catalog import policies
from models_catalog.models import Grant, Order
from models_catalog.presets import APPROVAL_TEMPLATE, COMMERCIAL_TEMPLATE, PRESETS
from models_catalog.services import access, licensing, orders, publishing

pytestmark = pytest.mark.django_db


def test_accepting_free_terms_gives_one_grant_with_the_terms_frozen() -> None:
    release = scenarios.published_release(scenarios.person("vera"))
    buyer = scenarios.person("bo")

    for _ in range(2):
        scenarios.licensed(buyer, release)

    grant = Grant.objects.get()
    assert grant.terms.terms_hash == release.terms.terms_hash
    assert grant.accepted_text_sha256 == release.terms.value.text_sha256
    assert AuditEvent.objects.filter(action="license.grant").count() == 1


def test_other_terms_than_those_shown_are_not_accepted() -> None:
    release = scenarios.published_release(scenarios.person("vera"))

    with pytest.raises(Conflict) as caught:
        licensing.accept_terms(user=scenarios.person("bo"), release=release, terms_hash="0" * 64, now=timezone.now())

    assert caught.value.code == "terms_changed"


def test_paid_terms_grant_only_after_the_vendor_settled_the_order() -> None:
    vendor, buyer = scenarios.person("vera"), scenarios.person("bo")
    release = scenarios.published_release(vendor, terms=COMMERCIAL_TEMPLATE)
    now = timezone.now()

    order = licensing.accept_terms(user=buyer, release=release, terms_hash=release.terms.terms_hash, now=now)

    assert isinstance(order, Order)
    assert policies.may_fine_tune(buyer, release, now=now).code == "no_license"
    with pytest.raises(Denied):
        orders.settle_order(order=order, actor=buyer, now=now)
    grants = {orders.settle_order(order=order, actor=vendor, now=now) for _ in range(2)}
    assert len(grants) == 1
    assert policies.may_fine_tune(buyer, release, now=now).allowed


def test_reviewed_access_needs_the_vendors_yes_and_a_no_needs_a_reason() -> None:
    vendor, buyer, now = scenarios.person("vera"), scenarios.person("bo"), timezone.now()
    release = scenarios.published_release(vendor, terms=APPROVAL_TEMPLATE)
    request = access.request_access(user=buyer, release=release, reason="birds", now=now)

    with pytest.raises(Invalid):
        access.decide_request(request_id=request.pk, actor=vendor, approve=False, answer=" ", now=now)
    access.decide_request(request_id=request.pk, actor=vendor, approve=True, answer="", now=now)

    scenarios.licensed(buyer, release)
    assert policies.may_fine_tune(buyer, release, now=now).allowed
    assert policies.may_share_derivative(buyer, release, now=now).code == "needs_approval"


@pytest.mark.parametrize(
    ("preset", "fine_tune", "share"),
    [
        ("apache-2.0", "", ""),
        ("mit", "", ""),
        ("cc-by-nc-4.0", "", ""),
        ("cc-by-nd-4.0", "", "use_not_granted"),
    ],
)
def test_each_preset_allows_what_its_license_does(preset: str, fine_tune: str, share: str) -> None:
    release = scenarios.published_release(scenarios.person("vera"), terms=PRESETS[preset])
    buyer, now = scenarios.person("bo"), timezone.now()
    scenarios.licensed(buyer, release)

    assert policies.may_fine_tune(buyer, release, now=now).code == fine_tune
    assert policies.may_share_derivative(buyer, release, now=now).code == share


def test_a_withdrawn_release_still_serves_its_licensees_and_nobody_else() -> None:
    vendor, buyer, other = (scenarios.person(name) for name in ("vera", "bo", "cy"))
    release = scenarios.published_release(vendor)
    scenarios.licensed(buyer, release)
    now = timezone.now()

    publishing.yank(user=vendor, release=release, reason="a better one exists", now=now)

    release.refresh_from_db()
    assert policies.may_download(buyer, release, now=now).allowed
    assert policies.may_fine_tune(buyer, release, now=now).code == "release_withdrawn"
    assert policies.may_license(other, release, now=now).code == "release_withdrawn"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("model.pt", "pickle_refused"),
        ("a/../b.json", "bad_path"),
        ("/etc/x.json", "bad_path"),
        ("..\\..\\x.json", "bad_path"),
        (".hidden.json", "bad_path"),
        ("run.exe", "file_type"),
    ],
)
def test_files_that_a_release_must_not_hold_are_refused(path: str, code: str) -> None:
    with pytest.raises(DomainError) as caught:
        publishing.check_path(path)

    assert caught.value.code == code


def test_a_download_is_gated_counted_and_resumable(client: Client) -> None:
    release = scenarios.published_release(scenarios.person("vera"))
    buyer = scenarios.person("bo")
    url = "/models/vera/net/files/1.0/model.safetensors"
    client.force_login(buyer)
    assert client.get(url).status_code == 403

    scenarios.licensed(buyer, release)
    whole, part = client.get(url), client.get(url, headers={"Range": "bytes=8-"})

    content = b"weights of vera/net@1.0"
    assert b"".join(whole.streaming_content) == content
    assert (part.status_code, b"".join(part.streaming_content)) == (206, content[8:])
    assert whole["ETag"] == f'"{scenarios.blob(content).sha256}"'
    assert client.get(url, headers={"Range": "bytes=99-"}).status_code == 416
    assert client.get(url, headers={"If-None-Match": whole["ETag"]}).status_code == 304
    assert release.artifacts.get(path="model.safetensors").downloads.count() == 1


def test_catalog_and_model_pages_use_a_constant_number_of_queries(
    client: Client, django_assert_max_num_queries: object
) -> None:
    vendor = scenarios.person("vera")
    counts = []
    for batch in (range(2), range(2, 12)):
        for number in batch:
            scenarios.published_release(vendor, name=f"net{number}")
        with django_assert_max_num_queries(40) as first:  # type: ignore[operator]
            client.get("/models/")
        with django_assert_max_num_queries(40) as second:  # type: ignore[operator]
            client.get("/models/vera/net0/")
        counts.append((len(first), len(second)))

    assert counts[0] == counts[1]
