"""What the queue calls: integers in, nothing out, claim first, safe to run twice. Wiring only."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from finetuning.engine import spec as engine
from finetuning.engine.events import Event
from finetuning.models import Attempt, Dataset, Run
from finetuning.models.datasets import DatasetStatus
from finetuning.runner import Ending, Outcome, run_engine
from finetuning.services import datasets, leases, runs, workspaces
from marketplace import storage
from models_catalog.models import Release
from models_catalog.models.listings import ReleaseStatus
from models_catalog.services import publishing

CHECK_DEADLINE_SECONDS = 1500.0


def _run(verb: engine.Verb, path: Path, attempt: Attempt, run: Run | None = None) -> Outcome:
    def on_events(events: list[Event]) -> None:
        if run is not None:
            runs.record_events(run=run, attempt=attempt, verb=verb, events=events)

    return run_engine(
        verb,
        path,
        on_events=on_events,
        heartbeat=partial(leases.renew, attempt),
        deadline_seconds=settings.RUN_DEADLINE_SECONDS if run else CHECK_DEADLINE_SECONDS,
        threads=settings.ENGINE_THREADS,
    )


def inspect_dataset(dataset_id: int) -> None:
    dataset = Dataset.objects.filter(pk=dataset_id, status=DatasetStatus.CHECKING).first()
    attempt = leases.acquire(dataset, now=timezone.now()) if dataset else None
    if dataset is None or attempt is None:
        return
    path = workspaces.directory("dataset", dataset.pk, engine.Verb.INSPECT)
    workspaces.prepare(path, datasets.inspect_spec(dataset), {"upload": dataset.upload_sha256})
    outcome = _run(engine.Verb.INSPECT, path, attempt)
    if outcome.ending is Ending.SUCCEEDED:
        files = workspaces.collect(path, outcome.result)
        datasets.record_inspection(attempt=attempt, dataset=dataset, result=outcome.result, files=files)
    elif outcome.ending is Ending.FAILED:
        datasets.record_failure(
            attempt=attempt, dataset=dataset, code=outcome.code, message=outcome.message, items=outcome.items
        )
    else:
        leases.close(attempt, outcome=outcome.code)
        return
    workspaces.discard("dataset", dataset.pk)


def verify_release(release_id: int) -> None:
    release = (
        Release.objects.select_related("listing")
        .prefetch_related("artifacts")
        .filter(pk=release_id, status=ReleaseStatus.VERIFYING)
        .first()
    )
    attempt = leases.acquire(release, now=timezone.now()) if release else None
    if release is None or attempt is None:
        return
    path = workspaces.directory("release", release.pk, engine.Verb.VERIFY)
    workspaces.discard("release", release.pk)  # files may have changed since a rejection
    workspaces.prepare(
        path, engine.VerifySpec(weights=workspaces.weights_spec(release)), workspaces.release_inputs(release)
    )
    outcome = _run(engine.Verb.VERIFY, path, attempt)
    if outcome.ending in (Ending.SUCCEEDED, Ending.FAILED):
        result = outcome.result or {
            "status": "rejected",
            "problems": [{"code": outcome.code, "message": outcome.message, "items": outcome.items}],
        }
        files = workspaces.collect(path, result)
        golden = files.get(engine.GOLDEN_FILE)
        blob = storage.Blob(golden["sha256"], golden["bytes"]) if golden else None
        if leases.close(attempt, outcome=str(result["status"]), exit_code=outcome.exit_code):
            publishing.record_verification(release_id=release.pk, result=result, golden=blob)
        workspaces.discard("release", release.pk)
    else:
        leases.close(attempt, outcome=outcome.code)


def fine_tune(run_id: int) -> None:
    claimed = runs.claim(run_id)
    if claimed is None:
        return
    run, attempt = claimed
    trained = _run(engine.Verb.TRAIN, _prepare_training(run), attempt, run)
    if trained.ending is not Ending.SUCCEEDED:
        _settle(run, attempt, trained)
        return
    train_dir = workspaces.directory("run", run.pk, engine.Verb.TRAIN)
    artifacts = workspaces.collect(train_dir, trained.result)
    evaluated = _run(engine.Verb.EVALUATE, _prepare_evaluation(run, artifacts), attempt, run)
    if evaluated.ending is not Ending.SUCCEEDED:
        _settle(run, attempt, evaluated)
        return
    evaluation = evaluated.result["evaluation"]
    if runs.finish(run=run, attempt=attempt, result=trained.result, evaluation=evaluation, artifacts=artifacts):
        workspaces.discard("run", run.pk)


def _prepare_training(run: Run) -> Path:
    hyper = engine.hyper_from(run.hyper)
    spec = runs.train_spec(run.release, run.dataset_version, engine.Strategy(run.strategy), hyper)
    inputs = {**workspaces.release_inputs(run.release), "train.pack": run.dataset_version.train_pack_sha256}
    return workspaces.prepare(workspaces.directory("run", run.pk, engine.Verb.TRAIN), spec, inputs)


def _prepare_evaluation(run: Run, artifacts: dict[str, dict[str, object]]) -> Path:
    spec = engine.EvaluateSpec(
        strategy=engine.Strategy(run.strategy),
        base=workspaces.weights_spec(run.release, "base"),
        tuned=workspaces.weights_spec(run.release, "train/release"),
        labels=tuple(run.dataset_version.labels),
        seed=engine.hyper_from(run.hyper).seed,
    )
    inputs = {
        **workspaces.release_inputs(run.release, "base"),
        **{f"train/{name}": str(entry["sha256"]) for name, entry in artifacts.items()},
        "test.pack": run.dataset_version.test_pack_sha256,
    }
    return workspaces.prepare(workspaces.directory("run", run.pk, engine.Verb.EVALUATE), spec, inputs)


def _settle(run: Run, attempt: Attempt, outcome: Outcome) -> None:
    if outcome.ending is Ending.CANCELED:
        runs.cancel(run=run, attempt=attempt)
        workspaces.discard("run", run.pk)
    elif outcome.ending is Ending.BUSY:
        runs.hand_back(run=run, attempt=attempt)
    elif outcome.ending is Ending.FAILED:
        runs.fail(
            run=run,
            attempt=attempt,
            code=outcome.code,
            message=outcome.message,
            items=outcome.items,
            exit_code=outcome.exit_code,
        )


def fetch_weights(release_id: int) -> None:
    """Fetches the weights of a remote release, checks their digest, converts and verifies them."""
    release = Release.objects.select_related("listing").exclude(remote_url="").filter(pk=release_id).first()
    attempt = leases.acquire(release, now=timezone.now()) if release else None
    if release is None or attempt is None:
        return
    spec = engine.ConvertSpec(
        task=engine.Task(release.listing.task),
        framework=engine.Framework(release.listing.framework),
        architecture=release.listing.architecture,
        url=release.remote_url,
        source_sha256_prefix=release.remote_sha256_prefix,
        preprocessing=engine.build(engine.Preprocessing, release.preprocessing) if release.preprocessing else None,
        labels=tuple(release.labels),
    )
    path = workspaces.prepare(workspaces.directory("release", release.pk, engine.Verb.CONVERT), spec, {})
    outcome = _run(engine.Verb.CONVERT, path, attempt)
    files = workspaces.collect(path, outcome.result) if outcome.ending is Ending.SUCCEEDED else {}
    if leases.close(attempt, outcome=outcome.code or outcome.ending.value, exit_code=outcome.exit_code):
        publishing.record_fetch(release_id=release.pk, result=outcome.result, files=files, problem=outcome.message)
    workspaces.discard("release", release.pk)
