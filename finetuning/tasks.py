"""What the queue calls: integers in, nothing out, claim first, safe to run twice. Wiring only."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import close_old_connections
from django.db.models import F
from django.utils import timezone
from structlog.contextvars import bound_contextvars

from finetuning import compute, failures
from finetuning.engine import spec as engine
from finetuning.engine.crash_points import Point, reach
from finetuning.engine.events import Event
from finetuning.models import Attempt, Dataset, DatasetVersion, Estimate, Run
from finetuning.models.attempts import DRAINED
from finetuning.models.datasets import DatasetStatus
from finetuning.runner import Ending, Outcome, Sandbox, Signal, run_engine
from finetuning.services import (
    datasets,
    estimates,
    kept_checkpoints,
    leases,
    runs,
    searches,
    steering,
    verifications,
    workspaces,
)
from finetuning.services.journals import Journal
from marketplace import signing, storage
from marketplace.errors import DomainError, Unavailable
from marketplace.queue_settings import CHECK_DEADLINE_SECONDS
from marketplace.supervision import drain
from models_catalog.models import Release
from models_catalog.models.listings import ReleaseStatus

logger = logging.getLogger(__name__)
Files = dict[str, dict[str, Any]]
_PAUSED_SECONDS = 60.0  # for the checkpoint of a run that is paused: its worker waits meanwhile
# What preparing and collecting meet: a blob that is gone, a full disk, a file that changed under our hands.
_DISK_FAULTS = (DomainError, OSError, ValueError)
_WORN_OUT = Outcome(Ending.FAILED, "app:no_progress", "The server was interrupted too often while it worked on this.")


def _ignore(_events: list[Event]) -> None:
    """Checks have no live page."""


def _run(
    verb: engine.Verb, path: Path, keeper: leases.Keeper, on_events: Callable[[list[Event]], None], seconds: float
) -> Outcome:
    outcome = run_engine(
        verb,
        path,
        on_events=on_events,
        heartbeat=keeper.signal,
        deadline_seconds=seconds,
        threads=settings.ENGINE_THREADS,
        stall_seconds=settings.RUN_STALL_SECONDS,
        drain_seconds=settings.DRAIN_SECONDS,
        sandbox=Sandbox(
            required=settings.SANDBOX == "required",
            memory_bytes=settings.ENGINE_MEMORY_BYTES,
            file_bytes=settings.ENGINE_FILE_BYTES,
        ),
        warm_seconds=settings.ENGINE_WARM_SECONDS,
    )
    close_old_connections()  # this thread has not asked for hours; its server may have been restarted meanwhile
    return outcome


def _told_of(outcome: Outcome) -> str:
    """What is kept of an attempt that ended for reasons of this server."""
    return DRAINED if outcome.ending is Ending.DRAINED else outcome.code


def _disk_fault(error: Exception) -> Outcome:
    logger.error("the run directory could not be used", exc_info=error)
    message = error.message if isinstance(error, DomainError) else "The server could not read or write its files."
    # What is away may come back; a file that is not what it was, or an order that says nothing, stays so.
    code = "app:disk" if isinstance(error, OSError | Unavailable) else failures.UNKNOWN
    return Outcome(Ending.FAILED, code, message)


def _check(
    verb: engine.Verb, path: Path, attempt: Attempt, keeper: leases.Keeper, spec: engine.Spec, inputs: dict[str, str]
) -> tuple[Outcome, Files]:
    """Runs a verb that belongs to no run; returns how it ended, and its outputs where it succeeded."""
    if leases.is_worn_out(attempt, failing=False):
        return _WORN_OUT, {}
    try:
        workspaces.prepare(path, spec, inputs)
        outcome = _run(verb, path, keeper, _ignore, CHECK_DEADLINE_SECONDS)
        succeeded = outcome.ending is Ending.SUCCEEDED
        return outcome, workspaces.collect(path, outcome.result) if succeeded else {}
    except _DISK_FAULTS as error:
        return _disk_fault(error), {}


def inspect_dataset(dataset_id: int) -> None:
    waiting = Dataset.objects.filter(status=DatasetStatus.CHECKING, deleted_at__isnull=True).select_related("owner")
    claimed = leases.acquire(waiting, dataset_id, now=timezone.now())
    if claimed is None:
        return
    dataset, attempt = claimed
    path = workspaces.directory("dataset", dataset.pk, engine.Verb.INSPECT)
    inputs = {"upload": dataset.upload_sha256}
    with leases.kept(attempt) as keeper:
        outcome, files = _check(engine.Verb.INSPECT, path, attempt, keeper, datasets.inspect_spec(dataset), inputs)
        if outcome.ending is Ending.SUCCEEDED:
            ended = datasets.record_inspection(attempt=attempt, dataset=dataset, result=outcome.result, files=files)
        elif outcome.ending is Ending.FAILED:
            ended = datasets.record_failure(
                attempt=attempt, dataset=dataset, code=outcome.code, message=outcome.message, items=outcome.items
            )
        else:
            leases.hand_back(attempt, outcome=_told_of(outcome))
            ended = False
    if ended:  # else the directory is somebody else's now
        workspaces.discard("dataset", dataset.pk)


def verify_release(release_id: int) -> None:
    waiting = Release.objects.filter(status=ReleaseStatus.VERIFYING).select_related("listing")
    claimed = leases.acquire(waiting.prefetch_related("artifacts"), release_id, now=timezone.now())
    if claimed is None:
        return
    release, attempt = claimed
    path = workspaces.directory("release", release.pk, engine.Verb.VERIFY)
    spec = engine.VerifySpec(weights=workspaces.weights_spec(release))
    workspaces.discard("release", release.pk)  # files may have changed since a rejection
    with leases.kept(attempt) as keeper:
        outcome, files = _check(engine.Verb.VERIFY, path, attempt, keeper, spec, workspaces.release_inputs(release))
        if outcome.ending is Ending.SUCCEEDED or outcome.code.startswith("user:"):
            golden = files.get(engine.GOLDEN_FILE)
            ended = verifications.record(
                attempt=attempt,
                release=release,
                result=outcome.result or _rejection(outcome),
                golden=storage.Blob(golden["sha256"], golden["bytes"]) if golden else None,
                exit_code=outcome.exit_code,
            )
        elif outcome.ending is Ending.FAILED:
            ended = verifications.record_failure(
                attempt=attempt, release=release, code=outcome.code, message=outcome.message
            )
        else:
            leases.hand_back(attempt, outcome=_told_of(outcome))
            ended = False
    if ended:
        workspaces.discard("release", release.pk)


def _rejection(outcome: Outcome) -> dict[str, Any]:
    problem = {"code": outcome.code, "message": outcome.message, "items": outcome.items}
    return {"status": "rejected", "problems": [problem]}


def fine_tune(run_id: int) -> None:
    claimed = runs.claim(run_id)
    if claimed is None:
        return
    run, attempt = claimed
    with bound_contextvars(run_id=str(run.uid), attempt=attempt.number):
        _fine_tune(run, attempt)
    reach(Point.MESSAGE_HANDLED)


def _fine_tune(run: Run, attempt: Attempt) -> None:
    journal = Journal(run, attempt)
    with leases.kept(attempt, chore=journal.flush) as keeper:
        try:
            ended = _train_and_evaluate(run, attempt, keeper, journal)
        except _DISK_FAULTS as error:
            ended = _settle(run, attempt, keeper, _disk_fault(error))
    if ended:
        workspaces.discard("run", run.pk)


def _train_and_evaluate(run: Run, attempt: Attempt, keeper: leases.Keeper, journal: Journal) -> bool:
    """Returns whether the run's directory is needed no more."""

    def work(verb: engine.Verb, path: Path) -> Outcome:
        left = compute.budget_left_seconds(run, now=timezone.now())
        limit = min(left, settings.RUN_DEADLINE_SECONDS)
        outcome = _run(verb, path, keeper, partial(journal.add, verb), limit)
        journal.flush()
        return _over_budget(run) if outcome.code == "app:deadline" and limit == left else outcome

    if run.search and not run.searched:  # else an earlier attempt has found the settings
        tried = work(engine.Verb.SEARCH, _prepare_search(run))
        if tried.ending is not Ending.SUCCEEDED:
            return _settle(run, attempt, keeper, tried)
        if not searches.adopt(run=run, attempt=attempt, result=tried.result):
            return False
    trained = work(engine.Verb.TRAIN, _prepare_training(run, keeper))
    if trained.ending is not Ending.SUCCEEDED:
        return _settle(run, attempt, keeper, trained)
    artifacts = workspaces.collect(workspaces.directory("run", run.pk, engine.Verb.TRAIN), trained.result)
    evaluated = work(engine.Verb.EVALUATE, _prepare_evaluation(run, artifacts))
    if evaluated.ending is not Ending.SUCCEEDED:
        return _settle(run, attempt, keeper, evaluated)
    judged = workspaces.collect(workspaces.directory("run", run.pk, engine.Verb.EVALUATE), evaluated.result)
    reach(Point.OUTPUTS_COLLECTED)
    exported, files = _export(run, artifacts, work) if run.hyper.get("export_onnx") else (None, {})
    if exported and exported.ending not in (Ending.SUCCEEDED, Ending.FAILED):
        return _settle(run, attempt, keeper, exported)
    return runs.finish(
        run=run,
        attempt=attempt,
        result={**trained.result, **({"export": _told(exported)} if exported else {})},
        evaluation=evaluated.result["evaluation"],
        artifacts={
            **artifacts,
            **{f"{runs.EVALUATION_FOLDER}/{name}": file for name, file in judged.items()},
            **{f"{runs.RELEASE_FOLDER}/{name}": file for name, file in files.items()},
        },
    )


def _export(run: Run, artifacts: Files, work: Callable[[engine.Verb, Path], Outcome]) -> tuple[Outcome, Files]:
    """Writes the tuned weights as ONNX; returns how that ended, and the file where there is one. The weights are
    trained and judged by now: what fails here is told and fails nothing else."""
    path = workspaces.directory("run", run.pk, engine.Verb.EXPORT)
    inside = f"{runs.RELEASE_FOLDER}/"
    inputs = {name: str(entry["sha256"]) for name, entry in artifacts.items() if name.startswith(inside)}
    inputs["test.pack"] = run.dataset_version.test_pack_sha256
    try:
        outcome = work(engine.Verb.EXPORT, workspaces.prepare(path, runs.export_spec(run), inputs))
        return outcome, workspaces.collect(path, outcome.result) if outcome.ending is Ending.SUCCEEDED else {}
    except _DISK_FAULTS as error:
        return _disk_fault(error), {}


def _told(exported: Outcome) -> dict[str, Any]:
    """What a run's result says of its export."""
    if exported.ending is Ending.FAILED:
        return {"status": "failed", "code": exported.code, "message": exported.message, "items": exported.items}
    return {name: exported.result[name] for name in ("status", "parity", "file", "opset", "seconds")}


def _over_budget(run: Run) -> Outcome:
    message = f"It was stopped at its budget of compute, {run.budget_minutes} min."
    return Outcome(Ending.FAILED, "user:budget_reached", message)


def _prepare_search(run: Run) -> Path:
    path = workspaces.directory("run", run.pk, engine.Verb.SEARCH)
    return workspaces.prepare(path, searches.spec_of(run, _training_spec(run)), _training_inputs(run))


def _prepare_training(run: Run, keeper: leases.Keeper) -> Path:
    path = workspaces.directory("run", run.pk, engine.Verb.TRAIN)
    prepared = workspaces.prepare(path, _training_spec(run), _training_inputs(run))
    kept_checkpoints.lay(prepared, run.checkpoints, goes_on=lambda: keeper.signal() is Signal.CONTINUE)
    return prepared


def _training_spec(run: Run) -> engine.TrainSpec:
    strategy = engine.Strategy(run.strategy)
    hyper = engine.hyper_from(run.hyper, task=run.task, strategy=strategy)
    return runs.train_spec(run.release, run.dataset_version, strategy, hyper)


def _training_inputs(run: Run) -> dict[str, str]:
    return _inputs_of_training(run.release, run.dataset_version)


def _inputs_of_training(release: Release, version: DatasetVersion) -> dict[str, str]:
    """The test items are not among them: neither a search nor a training nor its rehearsal is given any."""
    return {**workspaces.release_inputs(release), "train.pack": version.train_pack_sha256}


def _prepare_evaluation(run: Run, artifacts: Files) -> Path:
    inputs = {
        **workspaces.release_inputs(run.release, "base"),
        **{f"train/{name}": str(entry["sha256"]) for name, entry in artifacts.items()},
        "test.pack": run.dataset_version.test_pack_sha256,
    }
    path = workspaces.directory("run", run.pk, engine.Verb.EVALUATE)
    prepared = workspaces.prepare(path, runs.evaluate_spec(run), inputs)
    signing.lay_key(prepared / engine.INPUTS_DIR)
    return prepared


def _settle(run: Run, attempt: Attempt, keeper: leases.Keeper, outcome: Outcome) -> bool:
    """Writes an end that is no success; returns whether the run's directory is needed no more."""
    if outcome.ending is Ending.CANCELED:
        return steering.cancel(run=run, attempt=attempt)
    if outcome.ending is Ending.PAUSED:
        steering.pause(run=run, attempt=attempt, kept=_kept(run, keeper, seconds=_PAUSED_SECONDS, stopping=False))
    elif outcome.ending is Ending.FAILED:
        runs.fail(
            run=run,
            attempt=attempt,
            code=outcome.code,
            message=outcome.message,
            items=outcome.items,
            exit_code=outcome.exit_code,
        )
    else:
        is_drained = outcome.ending is Ending.DRAINED  # then the slot is about to end, and still has to say so
        kept = _kept(run, keeper, seconds=drain.SPARE_SECONDS / 2, stopping=True) if is_drained else {}
        runs.hand_back(run=run, attempt=attempt, outcome=_told_of(outcome), exit_code=outcome.exit_code, kept=kept)
    return False


def _kept(run: Run, keeper: leases.Keeper, *, seconds: float, stopping: bool) -> kept_checkpoints.Kept:
    """What other machines can go on from: stored within so long, until this slot is told to stop, and as long as the run
    is this worker's and not canceled."""
    until = time.monotonic() + seconds

    def goes_on() -> bool:
        is_wanted = keeper.signal() not in (Signal.CANCEL, Signal.LOST)
        return is_wanted and time.monotonic() < until and (stopping or not drain.is_asked())

    kept = kept_checkpoints.keep(workspaces.directory("run", run.pk, engine.Verb.TRAIN), goes_on=goes_on)
    close_old_connections()  # as after an engine
    return kept_checkpoints.merged(run.checkpoints, kept)


def estimate(estimate_id: int) -> None:
    waiting = Estimate.objects.waiting().select_related(
        "release__listing__namespace", "dataset_version__dataset", "owner"
    )
    claimed = leases.acquire(waiting, estimate_id, now=timezone.now())
    if claimed is None:
        return
    row, attempt = claimed
    path = workspaces.directory("estimate", row.pk, engine.Verb.ESTIMATE)
    inputs = _inputs_of_training(row.release, row.dataset_version)
    beside = estimates.runs_in_hand()
    with leases.kept(attempt) as keeper:
        outcome, _ = _check(engine.Verb.ESTIMATE, path, attempt, keeper, estimates.spec_of(row), inputs)
        if outcome.ending is Ending.SUCCEEDED:
            ended = estimates.record(attempt=attempt, estimate=row, result=outcome.result, beside=beside)
        elif outcome.ending is Ending.FAILED:
            ended = estimates.record_failure(attempt=attempt, estimate=row, code=outcome.code, message=outcome.message)
        else:
            leases.hand_back(attempt, outcome=_told_of(outcome))
            ended = False
    if ended:
        workspaces.discard("estimate", row.pk)


def fetch_weights(release_id: int) -> None:
    """Fetches the weights of a remote release, checks their digest, converts and verifies them."""
    remote = Release.objects.exclude(remote_url="").filter(listing__latest_release=F("pk")).select_related("listing")
    claimed = leases.acquire(remote, release_id, now=timezone.now())
    if claimed is None:
        return
    release, attempt = claimed
    spec = engine.ConvertSpec(
        task=engine.Task(release.listing.task),
        framework=engine.Framework(release.listing.framework),
        architecture=release.listing.architecture,
        url=release.remote_url,
        source_sha256_prefix=release.remote_sha256_prefix,
        preprocessing=engine.build(engine.Preprocessing, release.preprocessing) if release.preprocessing else None,
        labels=tuple(release.labels),
    )
    path = workspaces.directory("release", release.pk, engine.Verb.CONVERT)
    with leases.kept(attempt) as keeper:
        outcome, files = _check(engine.Verb.CONVERT, path, attempt, keeper, spec, {})
        if outcome.ending not in (Ending.SUCCEEDED, Ending.FAILED):
            leases.hand_back(attempt, outcome=_told_of(outcome))
            return
        ended = verifications.record_fetch(
            attempt=attempt,
            release=release,
            outcome=outcome.code or outcome.ending.value,
            result=outcome.result,
            files=files,
            problem=outcome.message,
        )
    if ended:
        workspaces.discard("release", release.pk)
