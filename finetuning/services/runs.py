"""The life of a run: launch, claim, record, finish; what its owner asks of it meanwhile is in `steering`. The row
is the truth; every write is a compare-and-swap or stands under the attempt's lease."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from finetuning import compute, policies
from finetuning.engine import spec as engine
from finetuning.engine.crash_points import Point, reach
from finetuning.failures import may_try_again
from finetuning.models import Attempt, Dataset, DatasetVersion, Estimate, Run
from finetuning.models.attempts import DRAINED
from finetuning.models.runs import NEXT_TRY, RunStatus
from finetuning.services import charges, leases, searches, steering, webhooks, workspaces
from marketplace import signing, storage
from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict, Invalid
from marketplace.queue import Job, enqueue
from models_catalog import selectors as catalog
from models_catalog.models import Release
from models_catalog.services import lineage, seats

RELEASE_FOLDER = "release"  # of a run's artifacts: the files of the tuned weights
EVALUATION_FOLDER = "evaluation"  # of a run's artifacts: the evaluation's outputs, its receipt among them
# A failure of the server is tried again after 10, 40, 160 s and then every five minutes; a failure of the input never is.
BACKOFF, LONGEST_BACKOFF = timedelta(seconds=10), timedelta(minutes=5)


def launch(
    *,
    user: User,
    release: Release,
    dataset: Dataset,
    hyper: dict[str, Any],
    now: datetime,
    strategy: str = "",
    preset: str = "",
    search: searches.Wish | None = None,
    budget_minutes: int | None = None,
) -> Run:
    """Queues a fine-tune of the release on the dataset's newest version, under the license that the dataset's
    owner holds; the run keeps it. What to learn is the dataset's task. With `search` the run first tries several
    settings, those given among them. The run is stopped at its budget of compute. It keeps the estimate that stands
    for it.

    Raises Denied (all that `may_launch` and `may_take` say), Invalid (as `settings_of` and `searches.plan`), Conflict
    (`duplicate_run`) where the very same run has not ended."""
    require(policies.may_launch(user, release, dataset, now=now))
    order = ordered(release, dataset, strategy=strategy, preset=preset, hyper=hyper)
    plan = (
        searches.plan(order.spec, search, strategy=strategy, preset=preset, hyper=hyper, budget_minutes=budget_minutes)
        if search
        else None
    )
    first = plan.order(plan.strategies[0], {}) if plan else order.spec
    digest = _digest(plan, release, order.version) if plan else order.digest
    estimate = Estimate.objects.standing(dataset.owner, digest, now=now).first()
    if estimate is not None:
        require(policies.may_take(estimate, budget_minutes=budget_minutes, now=now))
    try:
        with transaction.atomic():
            # Launches of one person count one after the other: SQLite's IMMEDIATE does it, PostgreSQL by this.
            User.objects.select_for_update(no_key=True).get(pk=user.pk)
            # So do those for one organization, whose hours they share.
            Namespace.objects.select_for_update(no_key=True).get(pk=dataset.owner_id)
            require(policies.has_quota(user, dataset.owner, now=now))
            seats.use(user=user, release=release, holder=dataset.owner, now=now)
            run = Run.objects.create(
                owner=dataset.owner,
                created_by=user,
                release=release,
                grant=catalog.covering_grant(dataset.owner, release, now=now),
                terms=release.terms,
                dataset_version=order.version,
                estimate=estimate,
                strategy=first.strategy.value,
                hyper=asdict(first.hyper),
                search=searches.asked(plan) if plan else {},
                spec_sha256=digest,
                budget_minutes=budget_minutes,
                poked_at=now,
            )
            charges.reserve(run, user=user, now=now)
            audit.record("run.launch", actor=user, namespace=run.owner, subject=run)
            enqueue(Job.FINE_TUNE, run.pk)
            reach(Point.LAUNCH_COMMITTING)
    except IntegrityError as error:
        running = Run.objects.open().get(owner=dataset.owner, spec_sha256=digest)
        raise Conflict(
            "duplicate_run", "The same fine-tune is queued, running or paused already.", extra={"run": str(running.uid)}
        ) from error
    return run


@dataclass(frozen=True, slots=True)
class Order:
    """A training as it was asked for; equal ones have one digest."""

    version: DatasetVersion
    spec: engine.TrainSpec
    digest: str


def ordered(release: Release, dataset: Dataset, *, strategy: str, preset: str, hyper: dict[str, Any]) -> Order:
    """Returns the training of the release on the dataset's newest version. Raises Conflict (`dataset_not_ready`),
    Invalid (as `settings_of`)."""
    version = dataset.versions.first()
    if version is None:
        raise Conflict("dataset_not_ready", "This dataset has no checked version yet.")
    chosen, values = settings_of(engine.Task(dataset.task), strategy=strategy, preset=preset, hyper=hyper)
    _check_loss(values, version)
    spec = train_spec(release, version, chosen, values)
    return Order(version, spec, _digest(spec, release, version))


def _digest(spec: engine.Spec, release: Release, version: DatasetVersion) -> str:
    identity = [engine.to_json(spec), release.manifest_sha256, version.digest]
    return hashlib.sha256(engine.canonical(identity)).hexdigest()


def settings_of(
    task: engine.Task, *, strategy: str, preset: str, hyper: dict[str, Any]
) -> tuple[engine.Strategy, engine.Hyper]:
    """Returns the strategy and every setting: the defaults of the task and strategy, over them the preset's, over
    them those that were given. Without strategy and preset: head only.

    Raises Invalid (`bad_preset`, `bad_strategy`, `bad_hyper`) with the field."""
    try:
        chosen = engine.preset_of(task, preset) if preset else None
    except engine.SpecError as error:
        raise Invalid("bad_preset", str(error), field="preset") from error
    strategy = strategy or (chosen.strategy.value if chosen else engine.Strategy.HEAD.value)
    if strategy not in engine.STRATEGIES[task]:
        names = ", ".join(engine.STRATEGIES[task])
        message = f"Choose a strategy for {task.replace('-', ' ')}: {names}."
        raise Invalid("bad_strategy", message, field="strategy")
    if chosen and strategy != chosen.strategy:
        message = f"The preset {preset} is of the strategy {chosen.strategy}. Leave out one of the two."
        raise Invalid("bad_strategy", message, field="strategy")
    given = {**(chosen.hyper if chosen else {}), **hyper}
    try:
        return engine.Strategy(strategy), engine.hyper_from(given, task=task, strategy=engine.Strategy(strategy))
    except engine.SpecError as error:
        raise Invalid("bad_hyper", str(error), field=error.field) from error


def _check_loss(hyper: engine.Hyper, version: DatasetVersion) -> None:
    """Raises Invalid (`bad_hyper`) for a loss that does not suit how the items are labelled."""
    try:
        engine.check_labels(hyper.loss, multi_label=version.is_multi_label)
    except engine.SpecError as error:
        raise Invalid("bad_hyper", str(error), field=error.field) from error


def train_spec(
    release: Release, version: DatasetVersion, strategy: engine.Strategy, hyper: engine.Hyper
) -> engine.TrainSpec:
    return engine.TrainSpec(
        weights=workspaces.weights_spec(release),
        task=engine.Task(version.dataset.task),
        strategy=strategy,
        hyper=hyper,
        labels=tuple(version.labels),
    )


def evaluate_spec(run: Run) -> engine.EvaluateSpec:
    """Returns what the evaluation of the run's tuned weights is asked to do; the key that signs its receipt is
    laid out with its inputs."""
    report = run.dataset_version.report
    return engine.EvaluateSpec(
        strategy=engine.Strategy(run.strategy),
        base=workspaces.weights_spec(run.release, "base"),
        tuned=workspaces.weights_spec(run.release, "train/release", task=run.task),
        labels=tuple(run.dataset_version.labels),
        leaked=tuple(sorted({int(pair["test"]) for pair in report.get("leakage", [])})),
        signing_key=f"{engine.INPUTS_DIR}/{signing.KEY_FILE}",
        selection=searches.selection_of(run),
        seed=int(run.hyper["seed"]),
    )


def export_spec(run: Run) -> engine.ExportSpec:
    """Returns what the export of the run's tuned weights is asked to do: the file names the terms that derive from
    those of the run, and the model it was made from."""
    return engine.ExportSpec(
        weights=workspaces.weights_spec(run.release, "release", task=run.task),
        license_note=run.terms.name,
        lineage=(f"{run.release.listing} {run.release.version}",),
        seed=int(run.hyper["seed"]),
    )


def receipt_of(run: Run) -> storage.Blob | None:
    """Returns the receipt of the run's evaluation; runs of earlier versions of this site have none."""
    file = run.artifacts.get(f"{EVALUATION_FOLDER}/{engine.RECEIPT_FILE}")
    return storage.Blob(file["sha256"], file["bytes"]) if file else None


def claim(run_id: int) -> tuple[Run, Attempt] | None:
    """Takes a queued run, or returns None: a stale or doubled message, or a lost race. The licence is asked
    again here, because it may have ended while the run waited, and of a run that nobody has worked on yet the hours:
    what was begun goes on."""
    now = timezone.now()
    queued = Run.objects.filter(status=RunStatus.QUEUED).select_related(
        "release__listing__namespace",
        "release__terms",
        "dataset_version__dataset__owner",
        "dataset_version__terms",
        "created_by",
        "owner",
    )
    with transaction.atomic():
        claimed = leases.acquire(queued, run_id, now=now)
        if claimed is None:
            return None
        waited = claimed[0].progress.get("stage") == NEXT_TRY  # why it did is told no more
        told: dict[str, Any] = {"progress": {}} if waited else {}
        if not Run.objects.transition(run_id, to=RunStatus.STARTING, started_at=now, **told):
            transaction.set_rollback(True)
            return None
        reach(Point.CLAIM_COMMITTING)
    reach(Point.CLAIM_COMMITTED)
    run, attempt = claimed
    run.refresh_from_db(fields=["status", "started_at", "cancel_requested_at"])
    decision = policies.may_go_on(run, now=now)
    if not decision.allowed:
        fail(run=run, attempt=attempt, code="user:not_allowed_any_more", message=decision.why)
        return None
    if attempt.number == 1 and not (hours := policies.may_begin(run, now=now)).allowed:
        fail(run=run, attempt=attempt, code="user:compute_quota_exceeded", message=hours.why)
        return None
    return run, attempt


def finish(
    *,
    run: Run,
    attempt: Attempt,
    result: dict[str, Any],
    evaluation: dict[str, Any],
    artifacts: dict[str, dict[str, Any]],
) -> bool:
    """Writes the outcome under the lease; False where it was lost, and then nothing is written."""
    now = timezone.now()
    with transaction.atomic():
        if not leases.close(attempt, outcome="succeeded", exit_code=0):
            return False
        charged = compute.charge_minor(compute.worked_seconds(run, now=now))
        done = Run.objects.transition(
            run.pk,
            to=RunStatus.SUCCEEDED,
            finished_at=now,
            result=result,
            evaluation=evaluation,
            artifacts=artifacts,
            progress={},
            charge_minor=charged,
            charge_currency=settings.COMPUTE_CURRENCY if settings.COMPUTE_PRICE_MINOR_PER_HOUR else "",
        )
        if done:
            if weights := artifacts.get(f"release/{engine.weights_file(run.release.listing.framework)}"):
                lineage.record_weights(sha256=weights["sha256"], parent=run.release)
            version = DatasetVersion.objects.select_for_update().get(pk=run.dataset_version_id)
            version.evaluations += 1
            version.save(update_fields=["evaluations"])
            charges.settle(run, amount_minor=charged)
            webhooks.of_run(run, ended=RunStatus.SUCCEEDED, now=now)
        reach(Point.FINISH_COMMITTING)
    reach(Point.FINISH_COMMITTED)
    return done


def fail(
    *, run: Run, attempt: Attempt, code: str, message: str, items: list[str] | None = None, exit_code: int | None = None
) -> None:
    """Ends the attempt; what may end otherwise is tried again (`finetuning.failures`), unless its owner has asked for
    something else meanwhile."""
    now = timezone.now()
    text = message + (f" ({'; '.join(items)})" if items else "")
    run.refresh_from_db(fields=["failures"])  # a checkpoint since the claim has forgotten those before it
    failures = run.failures + 1
    recent = run.attempts.filter(number__lt=attempt.number).order_by("-number").values_list("outcome", flat=True)
    # By their reason: a bucket that was away takes no try from an engine that is killed.
    tries = 1 + list(recent[: run.failures]).count(code)
    with transaction.atomic():
        if not leases.close(attempt, outcome=code, exit_code=exit_code):
            return
        if may_try_again(code, tries=tries):
            if steering.grant_wish(run, now=now):
                return
            # poked_at in the future: the reaper rings again once the pause is over.
            pause = min(BACKOFF * 4 ** (tries - 1), LONGEST_BACKOFF) - leases.POKE_AFTER
            told = {"stage": NEXT_TRY, "title": f"{message} It is tried again."}
            Run.objects.transition(run.pk, to=RunStatus.QUEUED, failures=failures, poked_at=now + pause, progress=told)
            reach(Point.FAIL_COMMITTING)
            return
        failed = Run.objects.transition(
            run.pk,
            to=RunStatus.FAILED,
            finished_at=now,
            failures=failures,
            failure_code=code,
            failure_message=text,
        )
        if failed:
            charges.settle(run)
            webhooks.of_run(run, ended=RunStatus.FAILED, now=now, code=code)


def hand_back(
    *,
    run: Run,
    attempt: Attempt,
    outcome: str,
    exit_code: int | None = None,
    kept: dict[str, str] | None = None,
) -> None:
    """Gives the run back to the queue: its directory is still held by an engine that is about to end, the lease could
    not be renewed in time, or this slot was told to stop (DRAINED), and then whoever works next takes it at once, from the
    checkpoints that were `kept`. What its owner has asked for happens instead."""
    now = timezone.now()
    with transaction.atomic():
        if not leases.close(attempt, outcome=outcome, exit_code=exit_code):
            return
        if kept:
            Run.objects.filter(pk=run.pk).update(checkpoints=kept)
        if steering.grant_wish(run, now=now):
            return
        queued = Run.objects.transition(run.pk, to=RunStatus.QUEUED, poked_at=now)
        if queued and outcome == DRAINED:
            leases.ring(attempt)
        reach(Point.HAND_BACK_COMMITTING)
