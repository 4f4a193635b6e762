"""Reports in private, takedowns with a reason, one appeal, and a record of it all."""

from __future__ import annotations

from typing import Any

import pytest
import scenarios
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from marketplace.accounts.models import AuditEvent, Notification, User
from marketplace.errors import Conflict, Denied, Invalid, TooMany
from models_catalog import policies
from models_catalog.models import Listing, Question, Release, Report, Review, Takedown
from models_catalog.models.moderation import Subject, TakedownStatus
from models_catalog.services import limits, moderation, quarantine, questions, reviews

pytestmark = pytest.mark.django_db
World = dict[str, Any]


@pytest.fixture
def world() -> World:
    """A listing with a review, a question and an answer, and somebody of the staff."""
    vendor, buyer, staff = (scenarios.person(name) for name in ("vera", "bo", "stan"))
    User.objects.filter(pk=staff.pk).update(is_staff=True)
    staff.refresh_from_db()
    release = scenarios.published_release(vendor)
    scenarios.licensed(buyer, release)
    now = timezone.now()
    author = buyer.namespace
    review = reviews.write(user=buyer, listing=release.listing, author=author, rating=1, text="Bad!", now=now)
    question = questions.ask(user=buyer, listing=release.listing, text="Why?", now=now)
    answer = questions.answer(user=vendor, question=question, text="So.", now=now)
    return {
        "vendor": vendor,
        "buyer": buyer,
        "staff": staff,
        "listing": release.listing,
        "release": release,
        "review": review,
        "question": question,
        "answer": answer,
    }


def reported(world: World, kind: str = "review", *, user: User | None = None) -> Report:
    reporter = user or world["vendor"]
    return moderation.report(user=reporter, subject=world[kind], reason="abuse", text="Rude.", now=timezone.now())


def taken_down(world: World, subject: Subject) -> Takedown:
    return moderation.take_down(
        actor=world["staff"], subject=subject, reason="Insults.", legal_basis="Rules, 3.", now=timezone.now()
    )


def appealed(world: World, row: Takedown) -> Takedown:
    moderation.appeal(user=world["buyer"], takedown=row, text="It is true.", now=timezone.now())
    row.refresh_from_db()
    return row


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("kind", ["listing", "release", "review", "question", "answer"])
def test_everything_that_is_public_can_be_reported(world: World, kind: str) -> None:
    subject = world[kind]
    reference = str(subject) if kind in {"listing", "release"} else str(subject.pk)
    client = signed_in(scenarios.person("sam"))

    page = client.post(f"/reports/new/?{kind}={reference}", {"reason": "spam", "text": "Look."})
    body = {"kind": kind, "subject": reference, "reason": "spam", "text": "Look."}
    by_api = client.post("/api/v1/reports/", body, content_type="application/json")

    assert page.status_code == 302
    assert by_api.status_code == 201
    assert Report.objects.get().uid.hex == by_api.json()["id"].replace("-", "")  # the same one, while it is open
    assert Notification.objects.filter(user=world["staff"], kind="report.create").count() == 1


def test_a_report_is_seen_by_its_reporter_and_the_staff_alone(world: World) -> None:
    row = reported(world, user=scenarios.person("sam"))

    assert signed_in(row.reporter).get(f"/reports/{row.uid}/").status_code == 200
    assert [one["id"] for one in signed_in(row.reporter).get("/api/v1/reports/").json()["results"]] == [str(row.uid)]
    assert signed_in(world["staff"]).get(f"/reports/{row.uid}/").status_code == 200
    for stranger in (world["buyer"], world["vendor"]):
        assert signed_in(stranger).get(f"/reports/{row.uid}/").status_code == 404
        assert signed_in(stranger).get("/api/v1/reports/").json()["results"] == []
    assert signed_in(world["buyer"]).get("/moderation/").status_code == 403


def test_what_is_not_there_for_somebody_cannot_be_reported(world: World) -> None:
    scenarios.draft_release(world["vendor"], name="draft")
    client = signed_in(world["buyer"])

    for query in ("listing=vera/draft", "review=99", "review=x", "question=" + "9" * 40, "none=1"):
        assert client.get(f"/reports/new/?{query}").status_code == 404


def test_the_staff_dismiss_a_report_once_and_with_a_reason(world: World) -> None:
    row = reported(world)
    with pytest.raises(Invalid):
        moderation.dismiss(actor=world["staff"], report=row, decision=" ", now=timezone.now())

    moderation.dismiss(actor=world["staff"], report=row, decision="An opinion.", now=timezone.now())

    with pytest.raises(Conflict) as caught:
        moderation.dismiss(actor=world["staff"], report=row, decision="Again.", now=timezone.now())
    assert caught.value.code == "already_decided"
    told = Notification.objects.get(user=world["vendor"], kind="report.decide")
    assert told.body == "An opinion."
    assert AuditEvent.objects.filter(action="report.dismiss", actor=world["staff"]).count() == 1


def test_the_staff_dismiss_a_report_by_the_api(world: World) -> None:
    url = f"/api/v1/reports/{reported(world).uid}/dismiss/"

    answer = signed_in(world["staff"]).post(url, {"decision": "An opinion."}, content_type="application/json")

    assert (answer.json()["status"], answer.json()["decision"]) == ("dismissed", "An opinion.")


def test_nobody_else_decides(world: World) -> None:
    row = reported(world)

    for act in (
        lambda: moderation.dismiss(actor=world["vendor"], report=row, decision="Mine.", now=timezone.now()),
        lambda: moderation.take_down(
            actor=world["vendor"], subject=row.review, reason="a", legal_basis="b", now=timezone.now()
        ),
    ):
        with pytest.raises(Denied) as caught:
            act()
        assert caught.value.code == "staff_only"


@pytest.mark.parametrize("kind", ["review", "question", "answer"])
def test_a_post_that_is_taken_down_is_gone_until_it_is_lifted(world: World, kind: str) -> None:
    pages = ("/models/vera/net/reviews/", "/models/vera/net/questions/")

    def shown() -> bool:
        return world[kind].text in "".join(Client().get(page).content.decode() for page in pages)

    assert shown()
    row = taken_down(world, world[kind])
    assert not shown()

    moderation.lift(actor=world["staff"], takedown=row, decision="A mistake.", now=timezone.now())
    assert shown()
    assert not type(world[kind]).objects.filter(hidden_at__isnull=False).exists()


def test_a_review_that_is_taken_down_counts_no_more(world: World) -> None:
    assert Listing.objects.get().review_count == 1

    row = taken_down(world, world["review"])
    assert (Listing.objects.get().review_count, Listing.objects.get().rating) == (0, None)

    moderation.lift(actor=world["staff"], takedown=row, decision="A mistake.", now=timezone.now())
    assert Listing.objects.get().rating == 1


def test_a_takedown_upholds_every_open_report_and_tells_owner_and_reporters_why(world: World) -> None:
    sam = scenarios.person("sam")
    reported(world)
    reported(world, user=sam)

    row = taken_down(world, world["review"])

    assert set(Report.objects.values_list("status", "takedown")) == {("upheld", row.pk)}
    told = Notification.objects.get(user=world["buyer"], kind="takedown.decide")
    assert "Insults. Legal basis: Rules, 3." in told.body
    assert Notification.objects.filter(user=sam, kind="report.decide").exists()
    page = signed_in(world["buyer"]).get(f"/takedowns/{row.uid}/").content.decode()
    assert "Insults." in page
    assert "Rules, 3." in page
    assert signed_in(sam).get(f"/takedowns/{row.uid}/").status_code == 404


def test_the_owner_appeals_once_and_the_staff_decide_with_a_reason(world: World) -> None:
    row = appealed(world, taken_down(world, world["review"]))
    assert row.status == TakedownStatus.APPEALED
    with pytest.raises(Conflict):
        appealed(world, row)

    moderation.confirm(actor=world["staff"], takedown=row, decision="Still insults.", now=timezone.now())

    row.refresh_from_db()
    assert (row.status, row.decision) == (TakedownStatus.CONFIRMED, "Still insults.")
    with pytest.raises(Conflict) as caught:
        appealed(world, row)
    assert caught.value.code == "already_appealed"
    with pytest.raises(Conflict):
        moderation.confirm(actor=world["staff"], takedown=row, decision="Again.", now=timezone.now())
    assert Review.objects.shown().count() == 0


def test_an_appeal_that_is_granted_brings_the_thing_back_and_it_is_all_on_record(world: World) -> None:
    row = appealed(world, taken_down(world, world["review"]))

    moderation.lift(actor=world["staff"], takedown=row, decision="You are right.", now=timezone.now())

    assert Review.objects.shown().count() == 1
    actions = AuditEvent.objects.filter(action__startswith="takedown.").order_by("pk").values_list("action", flat=True)
    assert list(actions) == ["takedown.begin", "takedown.appeal", "takedown.lift"]
    with pytest.raises(Conflict):
        moderation.lift(actor=world["staff"], takedown=row, decision="Again.", now=timezone.now())
    taken_down(world, world["review"])


def test_only_the_owner_appeals(world: World) -> None:
    row = taken_down(world, world["question"])

    with pytest.raises(Denied) as caught:
        moderation.appeal(user=world["vendor"], takedown=row, text="Please.", now=timezone.now())

    assert caught.value.code == "not_the_owner"


def test_the_same_thing_is_taken_down_once_at_a_time(world: World) -> None:
    taken_down(world, world["question"])

    with pytest.raises(Conflict) as caught:
        taken_down(world, world["question"])

    assert caught.value.code == "already_taken_down"


@pytest.mark.parametrize(
    "change",
    [
        {"status": "lifted"},
        {"status": "appealed"},
        {"status": "confirmed"},
        {"legal_basis": ""},
        {"question": None},
        {"appeal": "Words without a time."},
    ],
)
def test_the_database_holds_no_takedown_that_could_not_have_happened(world: World, change: dict[str, Any]) -> None:
    row = taken_down(world, world["question"])

    with pytest.raises(IntegrityError), transaction.atomic():
        Takedown.objects.filter(pk=row.pk).update(**change)


def test_the_whole_way_by_pages(world: World) -> None:
    staff, buyer = signed_in(world["staff"]), signed_in(world["buyer"])
    row = reported(world, "review")

    assert str(row) in staff.get("/moderation/").content.decode()
    staff.post(f"/reports/{row.uid}/uphold/", {"down-reason": "Insults.", "down-legal_basis": "Rules, 3."})
    made = Takedown.objects.get()
    buyer.post(f"/takedowns/{made.uid}/", {"text": "It is true."})
    assert str(made) in staff.get("/takedowns/?status=appealed").content.decode()
    staff.post(f"/takedowns/{made.uid}/decide/", {"outcome": "lift", "decision": "You are right."})

    made.refresh_from_db()
    assert (made.status, made.decision) == ("lifted", "You are right.")
    assert "You are right." in buyer.get(f"/takedowns/{made.uid}/").content.decode()


def test_the_whole_way_by_the_api(world: World) -> None:
    staff, buyer = signed_in(world["staff"]), signed_in(world["buyer"])

    def post(client: Client, address: str, **body: str) -> tuple[int, dict[str, Any]]:
        answer = client.post(f"/api/v1/{address}", body, content_type="application/json")
        return answer.status_code, answer.json()

    question = str(world["question"].pk)
    given = {"kind": "question", "subject": question, "reason": "Insults.", "legal_basis": "Rules, 3."}
    assert post(buyer, "takedowns/", **given)[1]["code"] == "staff_only"
    status, made = post(staff, "takedowns/", **given)
    assert (status, made["status"], Question.objects.shown().count()) == (201, "in_force", 0)
    assert buyer.get("/api/v1/takedowns/").json()["results"][0]["legal_basis"] == "Rules, 3."
    status, _ = post(buyer, f"takedowns/{made['id']}/appeal/", text="It is true.")
    assert status == 200
    status, decided = post(staff, f"takedowns/{made['id']}/decide/", outcome="confirm", decision="No.")
    assert (status, decided["status"]) == (200, "confirmed")


def test_one_person_reports_only_so_much_an_hour(world: World) -> None:
    sam, now = scenarios.person("sam"), timezone.now()
    rows = [questions.ask(user=world["buyer"], listing=world["listing"], text="Hm?", now=now) for _ in range(19)]
    for subject in (*rows, world["review"]):
        moderation.report(user=sam, subject=subject, reason="spam", text="Spam.", now=now)
    assert len(rows) + 1 == limits.PER_HOUR

    with pytest.raises(TooMany):
        moderation.report(user=sam, subject=world["listing"], reason="spam", text="Spam.", now=now)


def test_the_queue_takes_the_same_number_of_queries_however_long_it_is(world: World) -> None:
    client = signed_in(world["staff"])

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            client.get("/moderation/")
        return len(captured)

    kinds = ("listing", "release", "review", "question", "answer")
    for kind in kinds:
        reported(world, kind)
    few = queries()
    for number in range(3):
        user = scenarios.person(f"reporter-{number}")
        for kind in kinds:
            reported(world, kind, user=user)

    assert queries() == few


# Releases and listings


def test_a_release_that_is_taken_down_is_quarantined_until_it_is_lifted(world: World) -> None:
    row = taken_down(world, world["release"])

    release = Release.objects.select_related("listing__namespace", "terms").get()
    assert release.is_quarantined
    assert policies.may_download(world["buyer"], release, now=timezone.now()).code == "quarantined"

    moderation.appeal(user=world["vendor"], takedown=row, text="It is mine.", now=timezone.now())
    moderation.lift(actor=world["staff"], takedown=row, decision="It is.", now=timezone.now())
    release.refresh_from_db()
    assert release.status == "published"
    assert policies.may_download(world["buyer"], release, now=timezone.now()).allowed


def test_a_listing_that_is_taken_down_takes_every_release_along_and_gets_no_new_one(world: World) -> None:
    vendor = world["vendor"]
    scenarios.published_release(vendor, version="2.0")
    waiting = scenarios.ready_release(vendor, version="3.0")

    row = taken_down(world, world["listing"])

    assert set(Release.objects.exclude(pk=waiting.pk).values_list("status", flat=True)) == {"quarantined"}
    assert policies.may_publish(vendor, waiting).code == "taken_down"
    moderation.lift(actor=world["staff"], takedown=row, decision="A mistake.", now=timezone.now())
    assert set(Release.objects.exclude(pk=waiting.pk).values_list("status", flat=True)) == {"published"}
    assert policies.may_publish(vendor, waiting).allowed


def test_a_release_stays_down_while_anything_else_keeps_it_there(world: World) -> None:
    of_release = taken_down(world, world["release"])
    of_listing = taken_down(world, world["listing"])

    moderation.lift(actor=world["staff"], takedown=of_release, decision="Not this.", now=timezone.now())
    assert Release.objects.get().is_quarantined

    moderation.lift(actor=world["staff"], takedown=of_listing, decision="Nor that.", now=timezone.now())
    assert Release.objects.get().status == "published"


def test_what_the_staff_had_quarantined_before_stays_so(world: World) -> None:
    quarantine.quarantine(user=world["staff"], release=world["release"], reason="A scan.", now=timezone.now())
    row = taken_down(world, world["listing"])

    moderation.lift(actor=world["staff"], takedown=row, decision="A mistake.", now=timezone.now())

    assert Release.objects.get().is_quarantined
