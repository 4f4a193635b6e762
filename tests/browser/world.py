"""Builds, inside the running product and through its services, one thing of every kind that a page shows.

Runs in `manage.py shell`; the people here are the browser tests' own, so that no other test meets their traces.
"""

from __future__ import annotations

import dataclasses
import io
import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from archives_factory import zip_of
from django.utils import timezone
from safetensors.numpy import load, save

from finetuning.models import Dataset
from finetuning.services import datasets, runs
from marketplace import storage
from marketplace.accounts.models import Namespace, Scope, User
from marketplace.accounts.services import people, tokens
from marketplace.accounts.services.notifications import notify
from marketplace.webhooks.events import EventType
from marketplace.webhooks.models import Endpoint, Message, Outcome
from marketplace.webhooks.services import delivery, endpoints, outbox
from marketplace.webhooks.transport import Answer
from models_catalog.models import AccessRequest, Grant, GrantTransfer, Incident, Listing, Order, PayoutBatch, Release
from models_catalog.presets import COMMERCIAL_TEMPLATE
from models_catalog.services import (
    access,
    grants,
    keys,
    licensing,
    moderation,
    orders,
    payouts,
    publishing,
    questions,
    reviews,
    seats,
)
from models_catalog.terms import Terms

PASSWORD = "a tour of every page"
EXAMPLE = Path("static/examples/shapes.zip")
SOURCE = "northlight/efficientnet-lite0"
STEP_SECONDS = 0.2
PATIENCE_SECONDS = 240


def build() -> None:
    """Prints the addresses of what it made, as one line of JSON."""
    tourist, studio = _person("tourist"), _person("studio")
    uploads = {
        "ready": _upload(tourist, "shapes", EXAMPLE.read_bytes()),
        "invalid": _upload(tourist, "a text file", zip_of({"notes.txt": b"no images"})),
        "deleted": _upload(tourist, "to be deleted", zip_of({"notes.txt": b"no images"})),
    }
    releases = _releases(studio)
    grant, order = _licenses(tourist)
    paid, batch = _sale(studio)
    asked = AccessRequest.objects.get(requester__name="tourist")
    group = people.create_organization(owner=tourist, name="tour-group", display_name="Tour group")
    seated, trial, offer = _lifecycle(studio, tourist, group)
    token, secret = tokens.issue(user=tourist, name="tour", scopes=Scope.values)
    _wait(lambda: not Dataset.objects.filter(owner__name="tourist", status="checking").exists())
    uploads["ready"].refresh_from_db()
    run = runs.launch(
        user=tourist, release=_release(SOURCE), dataset=uploads["ready"], strategy="head", hyper={}, now=timezone.now()
    )
    _wait(lambda: not Release.objects.filter(listing__namespace__name="studio", status="verifying").exists())
    withdrawn = publishing.publish(user=studio, release=_fresh(releases["withdrawn"]), now=timezone.now())
    publishing.yank(user=studio, release=_fresh(withdrawn), reason="A better one follows.", now=timezone.now())
    notify(kind="access.approve", recipients=[tourist], title="You may go on", body="As you asked.", url="/licenses/")
    spoken = _voices(tourist)
    webhook, message = _webhook(tourist)
    made = {
        "token": f"/account/tokens/{token.pk}/",
        "webhook": f"/account/webhooks/{webhook.uid}/",
        "webhook message": f"/account/webhooks/{webhook.uid}/messages/{message.uid}/",
        "incident": f"/incidents/{Incident.objects.get(release=withdrawn).pk}/",
        **spoken,
        "grant": f"/licenses/{grant.pk}/",
        "receipt": f"/licenses/{grant.pk}/receipt/",
        "grant with seats": f"/licenses/{seated.pk}/",
        "trial": f"/licenses/{trial.pk}/",
        "transfer": f"/licenses/transfers/{offer.pk}/",
        "access request": f"/licenses/requests/{asked.pk}/",
        "order": f"/orders/{order.pk}/",
        "order paid": f"/orders/{paid.pk}/",
        "payout": f"/payouts/{batch.pk}/",
        "run": f"/runs/{run.uid}/",
        **{f"dataset {name}": f"/datasets/{dataset.uid}/" for name, dataset in uploads.items()},
    }
    sys.stdout.write(json.dumps({"secret": secret, "run": str(run.uid), "paths": made}) + "\n")


def _person(username: str) -> User:
    user = User.objects.create_user(username, f"{username}@example.com", PASSWORD)
    people.namespace_of(user)
    return user


def _webhook(user: User) -> tuple[Endpoint, Message]:
    """One with a message that was refused, and a test that was taken."""
    now, own = timezone.now(), people.namespace_of(user)
    url = "https://hooks.example.com/a/program/that/listens/at/a/rather/long/address"
    endpoint, _ = endpoints.create(user=user, namespace=own, url=url, description="Our build server", now=now)
    outbox.record(EventType.RUN_SUCCEEDED, recipients=[own], data={"run": {"id": "1", "owner": own.name}}, now=now)
    test = endpoints.send_test(endpoint=endpoint, user=user, now=now)
    message = endpoint.messages.exclude(pk=test.pk).get()
    answers = [Answer(Outcome.REFUSED, 812, 503, "<h1>Not now</h1>"), Answer(Outcome.DELIVERED, 95, 200, "ok")]
    for row, answer in zip((message, test), answers, strict=True):
        delivery.settle(message=row, answer=answer, now=now)
    return endpoint, message


def _upload(user: User, name: str, content: bytes) -> Dataset:
    return datasets.receive(
        user=user,
        owner=people.namespace_of(user),
        name=name,
        task="image-classification",
        source=io.BytesIO(content),
        filename="upload.zip",
    )


def _release(name: str) -> Release:
    namespace, _, listing = name.partition("/")
    found = Listing.objects.get(namespace__name=namespace, name=listing).latest_release
    assert found is not None
    return found


def _fresh(release: Release) -> Release:
    return Release.objects.select_related("listing__namespace", "terms").get(pk=release.pk)


def _licenses(user: User) -> tuple[Grant, Order]:
    accepted = []
    for name in (SOURCE, "northlight/efficientnet-lite1"):
        release = _release(name)
        terms_hash = release.terms.terms_hash
        accepted.append(licensing.accept_terms(user=user, release=release, terms_hash=terms_hash, now=timezone.now()))
    reviewed = _release("northlight/efficientnet-lite2-reviewed")
    access.request_access(user=user, release=reviewed, reason="Sorting tomatoes.", now=timezone.now())
    return accepted[0], accepted[1]  # type: ignore[return-value]  # the second one has a price


def _lifecycle(studio: User, tourist: User, group: Namespace) -> tuple[Grant, Grant, GrantTransfer]:
    """A license with seats and a key, a trial, and a license that is offered to the tourist."""
    terms = dataclasses.replace(COMMERCIAL_TEMPLATE, name="Studio license", price_minor=0, seats=3, transferable=True)
    tried = dataclasses.replace(COMMERCIAL_TEMPLATE, name="Studio trial", trial_days=14)
    now = timezone.now()
    seated, trial = (_offer(studio, name, value) for name, value in (("seated-model", terms), ("tried-model", tried)))
    given = {"user": tourist, "licensee": group, "release": seated, "terms_hash": seated.terms.terms_hash, "now": now}
    grant = licensing.accept_terms(**given)
    seats.assign(grant=grant, actor=tourist, username="tourist", now=now)
    keys.rotate(grant=grant, actor=tourist, now=now)
    own = licensing.accept_terms(**{**given, "licensee": None})
    offer = grants.offer_transfer(grant=own, actor=tourist, recipient=people.namespace_of(_person("cousin")), now=now)
    tries = licensing.start_trial(user=tourist, release=trial, terms_hash=trial.terms.terms_hash, now=now)
    return grant, tries, offer


def _offer(user: User, name: str, terms: Terms) -> Release:
    """A published release; what the verify job would say of its files is said for it."""
    listing = publishing.create_listing(
        user=user,
        namespace=people.namespace_of(user),
        name=name,
        title=name,
        summary="For the tour.",
        task="image-classification",
        framework="timm",
        architecture="tf_efficientnet_lite0",
    )
    release = publishing.draft(user=user, listing=listing, version="1.0", terms=licensing.terms_row(terms))
    texts = [("README.md", "# For the tour"), ("config.json", "{}"), ("model.safetensors", f"weights of {name}")]
    publishing.attach_texts(user=user, release=release, texts=texts)
    Release.objects.filter(pk=release.pk).update(status="verifying")
    report = {"status": "accepted", "report": {"parameters": 10, "labels": ["a"], "input": {"size": 64}}}
    publishing.record_verification(release_id=release.pk, result=report, golden=None)
    return publishing.publish(user=user, release=_fresh(release), now=timezone.now())


def _sale(buyer: User) -> tuple[Order, PayoutBatch]:
    """An order that the site was paid for, and the batch that pays its vendor."""
    release, now = _release("northlight/efficientnet-lite1"), timezone.now()
    order = licensing.accept_terms(user=buyer, release=release, terms_hash=release.terms.terms_hash, now=now)
    assert isinstance(order, Order)
    staff = User.objects.get(username="admin")
    orders.settle_order(order=order, actor=staff, now=now, received_by="site")
    currency = release.terms.currency
    return order, payouts.create(actor=staff, currency=currency, minimum_minor=1, now=now)


def _voices(user: User) -> dict[str, str]:
    """A review that cites a measurement, a question with an answer, a report, a takedown that can be appealed."""
    release, now = _release(SOURCE), timezone.now()
    vendor, staff = User.objects.get(username="vendor"), User.objects.get(username="admin")
    evidence = reviews.Evidence(
        run_uid=uuid.uuid4(),
        release=release,
        owner=people.namespace_of(user),
        task="image-classification",
        strategy="Head only",
        metric="Accuracy",
        value=0.941,
        low=0.912,
        high=0.962,
        baseline=0.8,
        items=360,
        dataset_sha256="d" * 64,
        receipt_sha256="e" * 64,
        measured_at=now,
    )
    given = {"user": user, "listing": release.listing, "author": people.namespace_of(user), "now": now}
    reviews.write(rating=2, text="Slow at first.", **given)
    review = reviews.write(rating=4, text="It sorts tomatoes well.", evidence=evidence, **given)
    reviews.answer(user=vendor, review=review, text="Thank you.", now=now)
    asked = questions.ask(user=user, listing=release.listing, text="Does it know aubergines?", now=now)
    questions.answer(user=vendor, question=asked, text="It does.", now=now)
    rude = questions.ask(user=user, listing=release.listing, text="Who wrote this nonsense?", now=now)
    taken = moderation.take_down(
        actor=staff, subject=rude, reason="Insults.", legal_basis="The site's rules, 3.", now=now
    )
    report = moderation.report(user=user, subject=release.listing, reason="other", text="An example.", now=now)
    return {
        "evaluation": f"/evaluations/{review.evaluation.uid}/",
        "takedown": f"/takedowns/{taken.uid}/",
        "report": f"/reports/{report.uid}/",
    }


def _releases(user: User) -> dict[str, Release]:
    """One release for each state of the vendor's page; the files are those of a real model, its weights moved a
    little: those of another vendor would be refused without their lineage."""
    files = {file.path: storage.Blob(file.sha256, file.bytes) for file in _release(SOURCE).artifacts.all()}
    weights = load(storage.path_of(files.pop("model.safetensors").sha256).read_bytes())
    files.pop("golden.safetensors", None)
    files["model.safetensors"] = storage.put_bytes(save({**weights, "classifier.bias": weights["classifier.bias"] + 1}))
    made = {}
    for name in ("draft", "rejected", "verified", "withdrawn"):
        listing = publishing.create_listing(
            user=user,
            namespace=people.namespace_of(user),
            name=f"{name}-model",
            title=f"A {name} model",
            summary="For the tour.",
            task="image-classification",
            framework="timm",
            architecture="tf_efficientnet_lite0",
        )
        release = publishing.draft(user=user, listing=listing, version="1.0", terms=_release(SOURCE).terms)
        made[name] = release
        if name == "draft":
            continue
        for path, blob in files.items():
            publishing.attach_artifact(user=user, release=release, path=path, blob=blob)
        if name == "rejected":
            publishing.attach_texts(user=user, release=release, texts=[("model.safetensors", "no weights at all")])
        publishing.submit(user=user, release=release)
    return made


def _wait(question: Any) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not question():
        assert time.monotonic() < deadline, "the queue did not do its work"
        time.sleep(STEP_SECONDS)
