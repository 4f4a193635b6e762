"""What a run may use: its own budget, and its owner's hours of the month; and what it is charged."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import scenarios
from django.test import Client
from django.utils import timezone
from worlds import World, claimed_run, launch

from finetuning import compute, tasks
from finetuning.models import Attempt, ComputeQuota, Run
from finetuning.services import runs, steering
from marketplace.accounts.models import AuditEvent, Namespace, User
from marketplace.errors import Denied

pytestmark = pytest.mark.django_db(transaction=True)


def worked(run: Run, *, hours: float, outcome: str = "succeeded") -> None:
    """An attempt of this month; one of the server's faults costs nobody anything."""
    now = timezone.now()
    begun = max(now - timedelta(hours=hours), now.replace(day=1, hour=0, minute=0, second=0, microsecond=0))
    number = Attempt.objects.filter(run=run).count() + 1
    Attempt.objects.create(
        run=run,
        number=number,
        leased_until=now,
        heartbeat_at=now,
        started_at=begun,
        ended_at=begun + timedelta(hours=hours),
        outcome=outcome,
    )


def owner(world: World) -> Namespace:
    return Namespace.objects.get(user=world["buyer"])


def test_a_month_of_compute_that_is_used_up_refuses_the_next_run(world: World, settings: Any) -> None:
    settings.COMPUTE_HOURS_PER_MONTH = 2
    run = launch(world)
    worked(run, hours=1.5)
    worked(run, hours=9, outcome="app:killed")
    worked(run, hours=9, outcome="lease_expired")
    assert compute.hours_used(owner(world), now=timezone.now()) == pytest.approx(1.5)
    launch(world, hyper={"seed": 3})

    worked(run, hours=0.6)
    with pytest.raises(Denied) as caught:
        launch(world, hyper={"seed": 4})

    assert caught.value.code == "compute_quota_exceeded"
    steering.request_pause(user=world["buyer"], run=run, now=timezone.now())
    with pytest.raises(Denied):
        steering.resume(user=world["buyer"], run=Run.objects.get(pk=run.pk), now=timezone.now())


def test_open_runs_count_at_what_they_may_still_take(world: World, settings: Any) -> None:
    settings.COMPUTE_HOURS_PER_MONTH = 2
    now = timezone.now()
    given: dict[str, Any] = {"user": world["buyer"], "release": world["release"], "dataset": world["dataset"]}
    first = runs.launch(**given, hyper={}, budget_minutes=120, now=now)

    with pytest.raises(Denied) as caught:
        launch(world, hyper={"seed": 3})
    assert caught.value.code == "compute_quota_exceeded"
    assert "its runs may take 2.0 more" in caught.value.message

    worked(first, hours=0.5)
    assert compute.hours_promised(owner(world), now=now) == pytest.approx(1.5, abs=0.01)
    steering.request_cancel(user=world["buyer"], run=first, now=now)
    launch(world, hyper={"seed": 3})


def test_a_run_whose_turn_comes_with_no_hours_left_ends_before_it_begins(world: World, settings: Any) -> None:
    settings.COMPUTE_HOURS_PER_MONTH = 2
    first, second, third = (launch(world, hyper={"seed": seed}) for seed in (1, 2, 3))
    worked(first, hours=2.5)
    worked(third, hours=0.1, outcome="lease_expired")

    assert runs.claim(second.pk) is None
    assert runs.claim(third.pk) is not None  # it was begun, so it goes on

    second.refresh_from_db()
    assert (second.status, second.failure_code) == ("failed", "user:compute_quota_exceeded")
    assert "has used 2.5 of its 2 hours" in second.failure_message


def test_the_staff_give_one_namespace_other_hours_and_that_is_written_down(
    world: World, settings: Any, client: Client
) -> None:
    settings.COMPUTE_HOURS_PER_MONTH, settings.ORGANIZATION_COMPUTE_HOURS_PER_MONTH = 2, 50
    organization = scenarios.organization(world["buyer"], "acme")
    staff = scenarios.person("stan")
    User.objects.filter(pk=staff.pk).update(is_staff=True)
    given = {"namespace": owner(world).pk, "hours_per_month": 7}
    client.force_login(world["vendor"])
    refused = client.post("/admin/finetuning/computequota/add/", given)
    client.force_login(staff)

    added = client.post("/admin/finetuning/computequota/add/", given)

    assert refused.status_code in {302, 403}
    assert added.status_code == 302, added.content
    assert ComputeQuota.objects.get().hours_per_month == 7
    assert [compute.hours_allowed(it) for it in (owner(world), organization)] == [7, 50]
    assert AuditEvent.objects.get(action="compute_quota.set").details == {"hours_per_month": 7}


def test_a_run_is_stopped_at_its_budget_and_says_so(world: World) -> None:
    run = runs.launch(
        user=world["buyer"],
        release=world["release"],
        dataset=world["dataset"],
        hyper={},
        budget_minutes=1,
        now=timezone.now(),
    )
    worked(run, hours=1)  # of an earlier attempt, such as before a pause

    tasks.fine_tune(run.pk)

    run.refresh_from_db()
    assert (run.status, run.failure_code, run.charge_minor) == ("failed", "user:budget_reached", 0)
    assert "1 min" in run.failure_message


@pytest.mark.parametrize("minutes", [0, -1, 10**9, "x"])
def test_a_budget_that_is_none_is_refused_with_its_field(world: World, client: Client, minutes: Any) -> None:
    client.force_login(world["buyer"])
    given = {"listing": "vera/net", "dataset": str(world["dataset"].uid), "budget_minutes": minutes}

    answer = client.post("/api/v1/runs/", given, content_type="application/json")

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == ["budget_minutes"]


@pytest.mark.parametrize(("price", "charged"), [(0, (0, "")), (600, (300, "EUR"))])
def test_only_what_led_to_a_result_is_charged(
    world: World, settings: Any, price: int, charged: tuple[int, str]
) -> None:
    settings.COMPUTE_PRICE_MINOR_PER_HOUR = price
    run, attempt = claimed_run(world)
    worked(run, hours=3, outcome="app:killed")
    Attempt.objects.filter(pk=attempt.pk).update(started_at=timezone.now() - timedelta(minutes=30))

    assert runs.finish(run=run, attempt=attempt, result={}, evaluation={}, artifacts={})

    run.refresh_from_db()
    assert (run.charge_minor, run.charge_currency) == charged


def test_a_failed_run_is_charged_nothing(world: World, settings: Any) -> None:
    settings.COMPUTE_PRICE_MINOR_PER_HOUR = 600
    run, attempt = claimed_run(world)
    Attempt.objects.filter(pk=attempt.pk).update(started_at=timezone.now() - timedelta(minutes=30))

    runs.fail(run=run, attempt=attempt, code="app:out_of_memory", message="It failed.")

    assert Run.objects.get(pk=run.pk).charge_minor == 0


def test_the_launch_page_has_a_budget_and_says_the_price(world: World, settings: Any, client: Client) -> None:
    settings.COMPUTE_PRICE_MINOR_PER_HOUR = 250
    client.force_login(world["buyer"])

    page = client.get("/runs/new/?model=vera/net").content.decode()

    assert 'name="budget_minutes"' in page
    assert "€2.50 an hour" in page
