"""What a fine-tune is said to take before it is launched, what that stops, and how good it was."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import scenarios
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from engine_runs import image_folders
from form_values import values_of
from shapes_factory import write_release
from worlds import dataset_of, uploaded

from finetuning import forecasts, policies, tasks
from finetuning.compute import worked_seconds
from finetuning.models import Attempt, Estimate, Run
from finetuning.models.estimates import EstimateMethod, EstimateStatus
from finetuning.services import estimates, leases, reaping, runs
from marketplace import storage
from marketplace.accounts.models import Namespace
from marketplace.accounts.services import people
from marketplace.errors import Denied
from models_catalog.services import publishing

pytestmark = pytest.mark.django_db
HARDWARE = "a processor, 2 of 2 threads"
HYPER = {"epochs": 4, "batch_size": 8}
World = dict[str, Any]


@pytest.fixture
def owned() -> World:
    """Somebody with a model of their own and data that have passed inspection."""
    vera = scenarios.person("vera")
    dataset = dataset_of(people.namespace_of(vera), report={"splits": {"test": 10}})
    return {"user": vera, "release": scenarios.published_release(vera), "dataset": dataset}


def ask(world: World, **given: Any) -> Estimate:
    wanted = {"strategy": "full", "hyper": HYPER, **given}
    return estimates.ask(**world, now=timezone.now(), **wanted)


def measured(estimate: Estimate, *, seconds: float = 600.0, shortest: float = 300.0) -> Estimate:
    """The estimate with a rehearsal's result, as the job writes it."""
    claimed = leases.acquire(Estimate.objects.waiting(), estimate.pk, now=timezone.now())
    assert claimed is not None
    result = {
        "estimate": {"seconds": seconds, "shortest_seconds": shortest, "rehearsed": {}, "whole": {}},
        "hardware": HARDWARE,
        "peak_memory_bytes": 2**30,
    }
    assert estimates.record(attempt=claimed[1], estimate=estimate, result=result, beside=0)
    estimate.refresh_from_db()
    return estimate


def finished(world: World, seconds: float, *, seed: int, now: datetime | None = None, **hyper: Any) -> Run:
    """A run that has succeeded after so many seconds of compute; the estimate that stands for it is kept."""
    ended = now or timezone.now()
    wanted = {**HYPER, **hyper, "seed": seed}
    run = runs.launch(**world, strategy="full", hyper=wanted, now=ended)
    Attempt.objects.create(
        run=run,
        number=1,
        slot="here",
        leased_until=ended,
        heartbeat_at=ended,
        started_at=ended - timedelta(seconds=seconds),
        ended_at=ended,
        outcome="succeeded",
    )
    result = {"hardware": HARDWARE, "peak_memory_bytes": 2**29}
    Run.objects.filter(pk=run.pk).update(status="succeeded", finished_at=ended, result=result)
    run.refresh_from_db()
    return run


# Asking


def test_an_estimate_is_rehearsed_by_the_engine_and_the_run_keeps_it(
    transactional_db: None,  # noqa: ARG001 - the job's lease is kept from a thread
    tmp_path: Path,
    client: Client,
) -> None:
    vera = scenarios.person("vera")
    draft = scenarios.draft_release(vera)
    for file in write_release(tmp_path / "release").iterdir():
        publishing.attach_artifact(user=vera, release=draft, path=file.name, blob=storage.put_file(file))
    release = publishing.publish(user=vera, release=scenarios.verify(vera, draft), now=timezone.now())
    world = {"user": vera, "release": release, "dataset": uploaded(vera, image_folders(12))}

    row = ask(world)
    tasks.estimate(row.pk)

    row.refresh_from_db()
    assert (row.status, row.method, row.failure_message) == ("ready", "rehearsal", "")
    assert row.hardware.endswith("threads")
    assert 0 < row.low_seconds < row.seconds < row.high_seconds  # type: ignore[operator]  # a ready one has them
    assert row.peak_memory_bytes
    assert row.measured["steps_measured"] > 0
    run = runs.launch(**world, strategy="full", hyper=HYPER, now=timezone.now())
    assert run.estimate == row
    assert worked_seconds(run, now=timezone.now()) == 0  # the rehearsal is nobody's compute
    client.force_login(vera)
    assert "Estimated" in client.get(f"/runs/{run.uid}/").content.decode()


def test_who_asks_twice_gets_the_same(owned: World) -> None:
    first = ask(owned)

    assert ask(owned) == first
    measured(first)
    assert ask(owned) == first
    assert ask(owned, hyper={**HYPER, "epochs": 5}) != first


def test_an_estimate_of_last_week_is_made_anew(owned: World) -> None:
    old = measured(ask(owned))
    Estimate.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=8))

    assert ask(owned) != old


def test_nobody_has_many_rehearsals_at_once(owned: World) -> None:
    for epochs in range(1, 1 + policies.MAX_WAITING_ESTIMATES):
        ask(owned, hyper={"epochs": epochs})

    with pytest.raises(Denied) as caught:
        ask(owned, hyper={"epochs": 50})

    assert caught.value.code == "too_many_estimates"


def test_a_fault_of_the_server_is_tried_again_and_one_of_the_input_is_told(owned: World) -> None:
    now = timezone.now()
    row = ask(owned)
    for turn in range(leases.MAX_FAILURES):
        row.refresh_from_db()
        assert row.status == EstimateStatus.WAITING
        claimed = leases.acquire(Estimate.objects.waiting(), row.pk, now=now)
        assert claimed is not None, turn
        estimates.record_failure(attempt=claimed[1], estimate=row, code="app:crashed", message="It crashed.")

    row.refresh_from_db()
    assert (row.status, row.failure_code, row.failure_message) == ("failed", "app:crashed", "It crashed.")
    other = ask(owned, hyper={"epochs": 9})
    claimed = leases.acquire(Estimate.objects.waiting(), other.pk, now=now)
    assert claimed is not None
    estimates.record_failure(attempt=claimed[1], estimate=other, code="user:too_few_images", message="Add images.")
    other.refresh_from_db()
    assert other.status == EstimateStatus.FAILED


def test_an_estimate_whose_worker_died_is_rung_for_again(owned: World) -> None:
    cache.clear()
    row = ask(owned)
    claimed = leases.acquire(Estimate.objects.waiting(), row.pk, now=timezone.now())
    assert claimed is not None

    touched = reaping.reap(now=timezone.now() + leases.LEASE + timedelta(seconds=1))

    assert touched == 1
    assert not Attempt.objects.open().filter(estimate=row).exists()
    assert leases.acquire(Estimate.objects.waiting(), row.pk, now=timezone.now()) is not None


# Limits


def test_a_run_that_cannot_fit_its_budget_is_refused_before_it_costs_anything(owned: World) -> None:
    measured(ask(owned), seconds=7200, shortest=7200)

    with pytest.raises(Denied) as caught:
        runs.launch(**owned, strategy="full", hyper=HYPER, budget_minutes=30, now=timezone.now())

    assert caught.value.code == "estimate_over_budget"
    assert not Run.objects.exists()
    assert runs.launch(**owned, strategy="full", hyper=HYPER, budget_minutes=200, now=timezone.now()).estimate


def test_a_run_that_cannot_fit_the_month_is_refused(owned: World, settings: Any) -> None:
    settings.COMPUTE_HOURS_PER_MONTH = 1
    measured(ask(owned), seconds=7200, shortest=7200)

    with pytest.raises(Denied) as caught:
        runs.launch(**owned, strategy="full", hyper=HYPER, now=timezone.now())

    assert caught.value.code == "estimate_over_quota"


def test_a_run_that_the_server_would_end_is_refused(owned: World, settings: Any) -> None:
    settings.RUN_DEADLINE_SECONDS = 3600
    measured(ask(owned), seconds=7200, shortest=7200)

    with pytest.raises(Denied) as caught:
        runs.launch(**owned, strategy="full", hyper=HYPER, now=timezone.now())

    assert caught.value.code == "estimate_over_deadline"


def test_what_may_just_fit_is_warned_of_and_launched(owned: World) -> None:
    row = measured(ask(owned), seconds=1800, shortest=1800)

    doubts = policies.doubts_of(row, budget_minutes=40, now=timezone.now())

    assert [doubt.code for doubt in doubts] == ["estimate_over_budget"]
    assert runs.launch(**owned, strategy="full", hyper=HYPER, budget_minutes=40, now=timezone.now())


# Intervals


def test_the_interval_of_nine_runs_is_their_range_and_of_more_leaves_the_ends_out() -> None:
    nine, thirty = forecasts.spread_of(range(1, 10)), forecasts.spread_of(range(1, 31))

    assert (nine.low, nine.middle, nine.high, nine.coverage) == (1, 5, 9, pytest.approx(0.8))
    assert (thirty.low, thirty.high) == (3, 28)
    assert thirty.coverage == pytest.approx(25 / 31)
    assert forecasts.spread_of([2.0]).coverage == 0


def test_a_rehearsal_without_a_history_has_a_margin_and_says_so(owned: World) -> None:
    row = measured(ask(owned), seconds=1000, shortest=500)

    low, high = forecasts.MARGIN
    assert (row.low_seconds, row.seconds, row.high_seconds) == (low * 500, 1000, high * 1000)
    assert row.coverage is None
    assert "no measured share" in forecasts.derivation(row)


def test_a_rehearsal_is_corrected_by_how_far_earlier_ones_missed(owned: World) -> None:
    for seed in range(1, 10):
        row = ask(owned, hyper={**HYPER, "seed": seed, "epochs": 4 + 3 * seed, "loss": "focal"})
        measured(row, seconds=100)
        finished(owned, 100 + 10 * seed, seed=seed, epochs=4 + 3 * seed, loss="focal")

    row = measured(ask(owned, hyper={**HYPER, "batch_size": 4}), seconds=1000)

    assert row.seconds == pytest.approx(1500)
    assert (row.low_seconds, row.high_seconds) == (pytest.approx(1100), pytest.approx(1900))
    assert (row.coverage, row.past_runs) == (pytest.approx(0.8), 9)
    assert "9 earlier rehearsals" in forecasts.derivation(row)


def test_enough_runs_like_it_tell_at_once_and_without_the_engine(owned: World) -> None:
    for seed in range(1, 10):
        finished(owned, 100 + seed, seed=seed)

    row = ask(owned)

    assert (row.status, row.method) == (EstimateStatus.READY, EstimateMethod.HISTORY)
    assert (row.low_seconds, row.seconds, row.high_seconds) == tuple(map(pytest.approx, (101, 105, 109)))
    assert (row.peak_memory_bytes, row.hardware) == (2**29, HARDWARE)
    assert ask(owned, hyper={**HYPER, "batch_size": 4}).status == EstimateStatus.WAITING  # another kind of run
    assert ask(owned, hyper={**HYPER, "epochs": 40}).status == EstimateStatus.WAITING  # too far from those


# Pages and API


def test_the_launch_page_asks_follows_and_keeps_what_was_typed(owned: World, client: Client) -> None:
    client.force_login(owned["user"])
    address = "/runs/new/?model=vera/net&task=image-classification"
    typed = {**values_of(client.get(address).content.decode()), "strategy": "full", "epochs": "7", "estimate": "1"}

    part = client.post(address, {**typed, "budget_minutes": "5"}, headers={"HX-Request": "true"}).content.decode()
    whole = client.post(address, typed).content.decode()

    row = Estimate.objects.get()
    assert f'data-estimate-url="/runs/estimates/{row.uid}/?budget=5"' in part
    assert "<html" not in part
    assert values_of(whole)["epochs"] == "7"
    assert not Run.objects.exists()
    measured(row, seconds=7200, shortest=7200)
    told = client.get(f"/runs/estimates/{row.uid}/", {"budget": "5"}).content.decode()
    assert "data-estimate-url" not in told
    assert "2 h 0 min" in told
    assert "estimate_over_budget" in told


def test_what_is_wrong_with_the_form_is_told_beside_the_button(owned: World, client: Client) -> None:
    client.force_login(owned["user"])
    address = "/runs/new/?model=vera/net&task=image-classification"
    typed = {**values_of(client.get(address).content.decode()), "strategy": "full", "estimate": "1"}
    wrong = {**typed, "epochs": "0"}
    raced = {**typed, "mode": "race", "strategies": ["head", "full"]}
    fixed = {**typed, "strategy": "head", "mode": "search"}

    answers = [client.post(address, one, headers={"HX-Request": "true"}) for one in (wrong, raced, fixed)]
    parts = [answer.content.decode() for answer in answers]

    assert "Epochs: " in parts[0]
    assert "ask for the estimate of each strategy by itself" in parts[1]
    assert "has nothing to vary" in parts[2]
    assert not Estimate.objects.exists()


def test_a_search_is_counted_into_the_time_that_the_page_tells(owned: World, client: Client) -> None:
    client.force_login(owned["user"])
    address = "/runs/new/?model=vera/net&task=image-classification"
    typed = {**values_of(client.get(address).content.decode()), "strategy": "full", "epochs": "7", "estimate": "1"}
    searched = {**typed, "mode": "search", "trials": "3", "minutes": "90", "space": ["learning_rate"]}

    part = client.post(address, searched, headers={"HX-Request": "true"}).content.decode()
    row = Estimate.objects.get()
    measured(row, seconds=1200, shortest=1200)
    told = client.get(f"/runs/estimates/{row.uid}/", {"budget": "5", "trials": "3", "minutes": "90"}).content.decode()

    assert f'data-estimate-url="/runs/estimates/{row.uid}/?budget=&amp;trials=3&amp;minutes=90"' in part
    assert "1 h 20 min" in told  # three trials and the training, 20 min each
    assert "28 min 0 s to 2 h 0 min" in told  # 0.7 times one trial and the training; 1.5 times all of them
    assert "at most 3 within 90 min" in told


def test_the_estimate_of_somebody_else_is_not_there(owned: World, client: Client) -> None:
    row = ask(owned)
    client.force_login(scenarios.person("bo"))

    assert client.get(f"/runs/estimates/{row.uid}/").status_code == 404


def test_the_api_answers_202_then_the_estimate_with_what_it_passes(owned: World, client: Client, settings: Any) -> None:
    settings.COMPUTE_PRICE_MINOR_PER_HOUR = 600
    client.force_login(owned["user"])
    given = {"listing": "vera/net", "dataset": str(owned["dataset"].uid), "strategy": "full", "hyper": HYPER}

    asked = client.post("/api/v1/estimates/", given, content_type="application/json")
    measured(Estimate.objects.get(), seconds=7200, shortest=3600)
    again = client.post("/api/v1/estimates/", {**given, "budget_minutes": 30}, content_type="application/json")
    read = client.get(f"/api/v1/estimates/{asked.json()['id']}/", {"budget_minutes": 100}).json()

    assert (asked.status_code, asked.json()["status"], asked.json()["seconds"]) == (202, "waiting", None)
    assert (again.status_code, [limit["code"] for limit in again.json()["limits"]]) == (200, ["estimate_over_budget"])
    assert (read["limits"], [one["code"] for one in read["warnings"]]) == ([], ["estimate_over_budget"])
    assert read["price_minor"] == [420, 1200, 1800]
    assert "margin" in read["derivation"]


def test_the_api_counts_a_search_in_as_far_as_its_minutes_go(owned: World, client: Client) -> None:
    client.force_login(owned["user"])
    given = {"listing": "vera/net", "dataset": str(owned["dataset"].uid), "strategy": "full", "hyper": HYPER}
    search = {"mode": "search", "trials": 3, "minutes": 60, "space": ["learning_rate"]}

    def answer(**asked: Any) -> Any:
        return client.post("/api/v1/estimates/", {**given, **asked}, content_type="application/json").json()

    waiting = answer(search=search)
    measured(Estimate.objects.get(), seconds=600, shortest=600)
    alone, searched, cut = answer(), answer(search=search), answer(search={**search, "minutes": 10})
    address = f"/api/v1/estimates/{alone['id']}/"
    read, half = client.get(address, {"trials": 3, "minutes": 10}), client.get(address, {"trials": 3})

    def told(one: Any) -> list[Any]:
        return [one[name] for name in ("low_seconds", "seconds", "high_seconds")]

    assert told(waiting) == [None] * 3
    assert told(alone) == pytest.approx([420, 600, 900])
    assert told(searched) == pytest.approx([840, 2400, 3600])
    assert told(cut) == told(read.json()) == pytest.approx([840, 1200, 1500])
    assert (half.status_code, half.json()["code"]) == (422, "bad_search")
    assert answer(search={"mode": "race", "strategies": ["head", "full"]})["code"] == "estimate_of_race"
    assert answer(search=search, budget_minutes=30)["code"] == "bad_search"  # its trials alone take longer
    assert answer(search=search, strategy="head", hyper={})["code"] == "bad_search"  # what could not be launched


def test_the_staff_see_how_far_estimates_missed_and_nobody_else(owned: World, client: Client) -> None:
    measured(ask(owned, hyper={**HYPER, "seed": 1}), seconds=100, shortest=100)
    finished(owned, 130, seed=1)
    measured(ask(owned, hyper={**HYPER, "seed": 2}), seconds=100, shortest=100)
    finished(owned, 170, seed=2)

    client.force_login(owned["user"])
    refused = client.get("/estimates/")
    owned["user"].is_staff = True
    owned["user"].save()
    page = " ".join(client.get("/estimates/").content.decode().split())

    assert refused.status_code == 403
    assert '<td class="num">1.50</td> <td class="num">1.30 to 1.70</td> <td class="num">50.0%</td>' in page
    assert page.count("(outside)") == 1


def test_the_staffs_page_and_history_ask_as_often_of_many_runs_as_of_few(owned: World) -> None:
    def asked() -> tuple[int, int]:
        with CaptureQueriesContext(connection) as page:
            forecasts.qualities(forecasts.records())
        with CaptureQueriesContext(connection) as history:
            row = ask(owned, hyper={**HYPER, "seed": 99})
        row.delete()
        return len(page), len(history)

    for seed in range(1, 10):
        measured(ask(owned, hyper={**HYPER, "seed": seed}))
        finished(owned, 100, seed=seed)
    few = asked()
    for seed in range(10, 21):
        ask(owned, hyper={**HYPER, "seed": seed})
        finished(owned, 100, seed=seed)

    assert asked() == few


def test_the_hours_of_a_month_leave_estimates_out(owned: World) -> None:
    measured(ask(owned))

    owner = Namespace.objects.get(user=owned["user"])
    assert policies.has_quota(owned["user"], owner, now=timezone.now()).allowed
    assert not Attempt.objects.filter(run__isnull=False).exists()
