"""The verify job's outcome, written together with the end of its attempt: both or neither."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from finetuning.models import Attempt
from finetuning.services import derivatives, leases
from marketplace import storage
from marketplace.webhooks.events import EventType
from models_catalog.models import Release
from models_catalog.models.listings import ReleaseStatus
from models_catalog.services import publishing, webhooks


def record(
    *, attempt: Attempt, release: Release, result: dict[str, Any], golden: storage.Blob | None, exit_code: int | None
) -> bool:
    """Takes over the result under the attempt's lease; False where the lease or the state was lost. A run whose
    derivative was refused can be published again."""
    with transaction.atomic():
        if not leases.close(attempt, outcome=str(result["status"]), exit_code=exit_code):
            return False
        if not publishing.record_verification(release_id=release.pk, result=result, golden=golden):
            return False
        derivatives.release_rejected(release_id=release.pk)
    return True


def record_failure(*, attempt: Attempt, release: Release, code: str, message: str) -> bool:
    """The server failed at the verification. The reaper has it tried again, up to three times; then the release
    is a draft again that says so, for its vendor to submit once more."""
    with transaction.atomic():
        if not leases.is_worn_out(attempt, failing=True):
            return leases.close(attempt, outcome=code)
        if not leases.close(attempt, outcome=f"gave up: {code}"):
            return False
        sentence = "The verification failed through no fault of these files: this server could not finish it."
        problem = {"code": "check_failed", "message": f"{sentence} Submit them again. ({message})", "items": []}
        # Nobody sees the state between the two: a release becomes a draft by way of a refusal.
        ended = Release.objects.transition(release.pk, to=ReleaseStatus.REJECTED) and Release.objects.transition(
            release.pk, to=ReleaseStatus.DRAFT, report={"problems": [problem]}
        )
        if ended:
            webhooks.of_release(EventType.RELEASE_REJECTED, release, now=timezone.now())
        return ended


def record_fetch(
    *,
    attempt: Attempt,
    release: Release,
    outcome: str,
    result: dict[str, Any],
    files: dict[str, dict[str, Any]],
    problem: str,
) -> bool:
    """Takes over fetched weights under the attempt's lease, or the reason why there are none."""
    with transaction.atomic():
        if not leases.close(attempt, outcome=outcome):
            return False
        publishing.record_fetch(release_id=release.pk, result=result, files=files, problem=problem)
    return True
