"""Reviews by licensees alone, kept in every version; questions with their answers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import scenarios
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from marketplace.accounts.models import AuditEvent, Namespace, Notification, Role, Scope, User
from marketplace.accounts.services import people, tokens
from marketplace.errors import Conflict, Denied, DomainError, Invalid, TooMany
from models_catalog import policies
from models_catalog.models import Grant, Listing, Release, Review
from models_catalog.services import limits, questions, reviews

pytestmark = pytest.mark.django_db


def write(user: User, release: Release, rating: int = 4, text: str = "It sorts tomatoes.", **given: Any) -> Review:
    author = given.pop("author", None) or people.namespace_of(user)
    now = given.pop("now", timezone.now())
    return reviews.write(user=user, listing=release.listing, author=author, rating=rating, text=text, now=now, **given)


def listing_of(release: Release) -> Listing:
    return Listing.objects.get(pk=release.listing_id)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def release() -> Release:
    return scenarios.published_release(scenarios.person("vera"))


@pytest.fixture
def buyer(release: Release) -> User:
    user = scenarios.person("bo")
    scenarios.licensed(user, release)
    return user


# Who may


def test_only_who_holds_or_held_a_license_reviews(release: Release, buyer: User) -> None:
    stranger, now = scenarios.person("sam"), timezone.now()

    with pytest.raises(Denied) as caught:
        write(stranger, release)
    assert caught.value.code == "no_license"

    Grant.objects.update(revoked_at=now)
    assert write(buyer, release).grant.revoked_at == now


def test_the_vendors_people_review_under_no_name(release: Release) -> None:
    vendor = scenarios.vendor_of(release)
    works = scenarios.organization(vendor, "works")
    scenarios.licensed(vendor, release, licensee=works)

    for author in (works, people.namespace_of(vendor)):
        assert policies.may_review(vendor, release.listing, author=author).code == "own_model"


def test_a_reader_of_an_organization_does_not_review_in_its_name(release: Release) -> None:
    owner = scenarios.person("olga")
    works = scenarios.organization(owner, "works")
    reader = scenarios.member(works, "rea", Role.READER)
    scenarios.licensed(owner, release, licensee=works)

    assert policies.may_review(reader, release.listing, author=works).code == "not_a_member"
    assert write(owner, release, author=works).author == works


@pytest.mark.parametrize(
    ("changes", "code"), [({"rating": 0}, "bad_rating"), ({"rating": 6}, "bad_rating"), ({"text": " \n"}, "empty_text")]
)
def test_a_review_has_one_to_five_stars_and_words(
    release: Release, buyer: User, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(Invalid) as caught:
        write(buyer, release, **changes)

    assert caught.value.code == code
    with pytest.raises(IntegrityError), transaction.atomic():
        Review.objects.filter(pk=write(buyer, release).pk).update(rating=6)


# What is kept


def test_a_namespace_has_one_review_whose_earlier_words_stay(release: Release, buyer: User) -> None:
    first = write(buyer, release, rating=2, text="Slow.")
    second = write(buyer, release, rating=5, text="Fast since 1.1.")

    assert (first.pk, second.rating, second.edited_at is not None) == (Review.objects.get().pk, 5, True)
    kept = second.versions.get()
    assert (kept.rating, kept.text, kept.written_at) == (2, "Slow.", first.created_at)
    page = Client().get("/models/vera/net/reviews/").content.decode()
    assert "Slow." in page
    assert "Fast since 1.1." in page


def test_the_listing_shows_the_mean_of_its_reviews_with_their_number(release: Release, buyer: User) -> None:
    other = scenarios.person("cy")
    scenarios.licensed(other, release)
    write(buyer, release, rating=2)
    write(other, release, rating=5)
    write(buyer, release, rating=4)

    listing = listing_of(release)
    assert (listing.review_count, listing.rating) == (2, 4.5)
    for address in ("/models/", "/models/vera/net/"):
        assert "4.5" in Client().get(address).content.decode()
    body = Client().get("/api/v1/listings/vera/net/").json()
    assert (body["rating"], body["review_count"]) == (4.5, 2)


def test_the_vendor_answers_in_public_and_the_answer_can_be_replaced(release: Release, buyer: User) -> None:
    review, vendor = write(buyer, release), scenarios.vendor_of(release)

    reviews.answer(user=vendor, review=review, text="Thank you.", now=timezone.now())
    answered = reviews.answer(user=vendor, review=review, text="Thanks!", now=timezone.now())

    assert answered.answer == "Thanks!"
    assert AuditEvent.objects.filter(action="review.answer").count() == 2
    assert "Thanks!" in Client().get("/models/vera/net/reviews/").content.decode()
    assert Notification.objects.filter(user=buyer, kind="review.answer").exists()
    with pytest.raises(Denied):
        reviews.answer(user=buyer, review=review, text="No.", now=timezone.now())
    edited = write(buyer, release, rating=1, now=timezone.now() + timedelta(minutes=1))
    assert edited.is_edited_since_answer


def test_the_vendor_has_no_way_to_take_a_review_away(release: Release, buyer: User) -> None:
    """Neither the desk nor the API has a call for it; the vendor's only act is the answer."""
    review = write(buyer, release)
    vendor = signed_in(scenarios.vendor_of(release))

    for method in (vendor.delete, vendor.patch):
        assert method(f"/api/v1/listings/vera/net/reviews/{review.pk}/answer/").status_code == 405
        assert method("/api/v1/listings/vera/net/reviews/").status_code == 405


def test_the_pages_take_the_same_number_of_queries_however_long_they_are(release: Release, buyer: User) -> None:
    write(buyer, release)
    questions.ask(user=buyer, listing=release.listing, text="How?", now=timezone.now())

    def queries() -> list[int]:
        counts = []
        for page in ("reviews", "questions"):
            with CaptureQueriesContext(connection) as captured:
                Client().get(f"/models/vera/net/{page}/")
            counts.append(len(captured))
        return counts

    few = queries()
    for number in range(5):
        other = scenarios.person(f"buyer-{number}")
        scenarios.licensed(other, release)
        write(other, release)
        write(other, release, rating=1)
        asked = questions.ask(user=other, listing=release.listing, text="How?", now=timezone.now())
        questions.answer(user=buyer, question=asked, text="So.", now=timezone.now())

    assert queries() == few


@pytest.mark.usefixtures("release")
def test_reviews_are_written_and_read_by_the_api(buyer: User) -> None:
    _, secret = tokens.issue(user=buyer, name="desk", scopes=[Scope.REVIEWS_WRITE])
    client = Client(headers={"Authorization": f"Bearer {secret}"})
    address = "/api/v1/listings/vera/net/reviews/"

    made = client.post(address, {"rating": 3, "text": "Fine."}, content_type="application/json")
    again = client.post(address, {"rating": 5, "text": "Good."}, content_type="application/json")
    wrong = client.post(address, {"rating": 9, "text": "Good."}, content_type="application/json")

    assert (made.status_code, again.status_code, wrong.status_code) == (201, 201, 400)
    rows = Client().get(address).json()["results"]
    assert [(row["author"], row["rating"], row["text"]) for row in rows] == [("bo", 5, "Good.")]


def test_the_vendor_answers_reviews_and_questions_by_the_api(release: Release, buyer: User) -> None:
    review, address = write(buyer, release), "/api/v1/listings/vera/net/"
    vendor, json = signed_in(scenarios.vendor_of(release)), {"content_type": "application/json"}

    answered = vendor.put(f"{address}reviews/{review.pk}/answer/", {"text": "Thank you."}, **json)
    asked = signed_in(buyer).post(f"{address}questions/", {"text": "Does it know tomatoes?"}, **json)
    told = vendor.post(f"{address}questions/{asked.json()['id']}/answers/", {"text": "It does."}, **json)

    assert (answered.status_code, answered.json()["answer"]) == (200, "Thank you.")
    assert (asked.status_code, told.status_code) == (201, 201)
    assert [answer.text for answer in release.listing.questions.get().answers.all()] == ["It does."]


# Questions


def test_anybody_signed_in_asks_and_answers_and_the_vendors_answer_is_marked(release: Release) -> None:
    asker, vendor = scenarios.person("sam"), scenarios.vendor_of(release)
    client = signed_in(asker)
    client.post("/models/vera/net/questions/", {"text": "Does it know tomatoes?"})
    question = release.listing.questions.get()
    for user, text in ((vendor, "It does."), (asker, "Indeed.")):
        signed_in(user).post(f"/questions/{question.pk}/answers/", {"text": text})

    body = Client().get("/api/v1/listings/vera/net/questions/").json()["results"]

    assert [(row["text"], row["is_vendors"]) for row in body[0]["answers"]] == [("It does.", True), ("Indeed.", False)]
    assert "Does it know tomatoes?" in Client().get("/models/vera/net/questions/").content.decode()
    assert Client().post("/models/vera/net/questions/", {"text": "Me too?"}).status_code == 200
    assert release.listing.questions.count() == 1


def test_one_person_asks_only_so_many_questions_an_hour(release: Release) -> None:
    asker, now = scenarios.person("sam"), timezone.now()

    def ask(at: Any = now) -> None:
        questions.ask(user=asker, listing=release.listing, text="Why?", now=at)

    for _ in range(limits.PER_HOUR):
        ask()
    with pytest.raises(TooMany) as caught:
        ask()

    assert (caught.value.code, caught.value.status) == ("too_many_posts", 429)
    ask(now + timedelta(hours=1, seconds=1))


def test_drafts_of_others_have_neither_reviews_nor_questions() -> None:
    scenarios.draft_release(scenarios.person("vera"))
    client = signed_in(scenarios.person("sam"))

    for page in ("reviews", "questions", "review"):
        assert client.get(f"/models/vera/net/{page}/").status_code == 404


def test_what_was_taken_down_meanwhile_is_not_edited_or_answered(release: Release, buyer: User) -> None:
    review = write(buyer, release)
    Review.objects.filter(pk=review.pk).update(hidden_at=timezone.now(), hidden_reason="Insults.")
    vendor = scenarios.vendor_of(release)

    attempts = (
        lambda: write(buyer, release, rating=1),
        lambda: reviews.answer(user=vendor, review=review, text="No.", now=timezone.now()),
    )

    for attempt in attempts:
        with pytest.raises(DomainError) as caught:
            attempt()
        assert (type(caught.value), caught.value.code) == (Conflict, "taken_down")


def test_the_form_writes_in_the_name_of_an_organization(release: Release) -> None:
    owner = scenarios.person("olga")
    works = scenarios.organization(owner, "works")
    scenarios.licensed(owner, release, licensee=works)
    client = signed_in(owner)

    own = client.get("/models/vera/net/review/").content.decode()
    client.post("/models/vera/net/review/?author=works", {"rating": "4", "text": "We use it.", "run": ""})

    assert "holds or held a license" in own
    assert Review.objects.get().author == Namespace.objects.get(name="works")
