"""Work of a process that is gone is given away at once; of one that may live, only when its lease runs out."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta

import pytest
from django.utils import timezone
from worlds import World, claimed_run

from finetuning.models import Attempt, Run
from finetuning.models.runs import RunStatus
from finetuning.services import reaping
from marketplace.supervision.processes import is_gone, own_name

NAMES_ITSELF = "from marketplace.supervision.processes import own_name; print(own_name(), flush=True); input()"
OTHER_MACHINE = "4711.123456@00000000-0000-0000-0000-000000000000:4026531836"


def worker() -> tuple[subprocess.Popen[str], str]:
    """Returns a living process and its name."""
    process = subprocess.Popen(
        [sys.executable, "-c", NAMES_ITSELF], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_process_is_gone_once_it_was_killed_and_not_before() -> None:
    process, name = worker()
    lived = not is_gone(name)

    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet buried

    assert lived
    assert is_gone(name)
    process.wait()
    assert is_gone(name)


def test_a_number_that_another_process_has_now_is_no_sign_of_life() -> None:
    number, _, rest = own_name().partition(".")
    started, _, place = rest.partition("@")

    assert is_gone(f"{number}.{int(started) - 1}@{place}")


@pytest.mark.parametrize("name", ["", "worker-3:71", OTHER_MACHINE])
def test_nobody_knows_of_other_machines(name: str) -> None:
    assert not is_gone(name)


@pytest.mark.django_db(transaction=True)
def test_a_run_whose_worker_was_killed_waits_for_no_lease(world: World) -> None:
    run, attempt = claimed_run(world)
    process, name = worker()
    Attempt.objects.filter(pk=attempt.pk).update(slot=name)
    before = reaping.reap(now=timezone.now())

    process.kill()
    process.wait()
    reaping.reap(now=timezone.now())

    run.refresh_from_db()
    attempt.refresh_from_db()
    assert before == 0
    assert (run.status, run.interruptions, attempt.outcome) == (RunStatus.QUEUED, 1, "lease_expired")


@pytest.mark.django_db(transaction=True)
def test_a_run_on_another_machine_keeps_its_worker_until_the_lease_ends(world: World) -> None:
    run, attempt = claimed_run(world)
    Attempt.objects.filter(pk=attempt.pk).update(slot=OTHER_MACHINE)

    early = reaping.reap(now=timezone.now())
    late = reaping.reap(now=attempt.leased_until + timedelta(seconds=1))

    assert (early, late) == (0, 1)
    assert Run.objects.get(pk=run.pk).status == RunStatus.QUEUED
