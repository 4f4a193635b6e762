"""What may be done with datasets and runs; the licence questions are asked of models_catalog.policies."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.contrib.auth.models import AnonymousUser

from finetuning import compute
from finetuning.engine.spec import Framework, Task
from finetuning.models import Dataset, Estimate, Run
from finetuning.models.datasets import DatasetStatus
from finetuning.models.runs import RunStatus
from marketplace.accounts.models import Namespace, User
from marketplace.decisions import ALLOW, Decision, all_of, deny, not_in_this_state
from models_catalog import ancestry
from models_catalog import policies as catalog
from models_catalog.models import Grant, LicenseTerms, Release
from models_catalog.models.lineage import Relation
from models_catalog.policies.law import decide
from models_catalog.terms import Right
from models_catalog.verdict import UNBOUND, Effective, Node, judge_use

MAX_WAITING_ESTIMATES = 3
Person = User | AnonymousUser


def may_change(user: Person, owner: Namespace) -> Decision:
    if Namespace.objects.writable_by(user).filter(pk=owner.pk).exists():
        return ALLOW
    return deny("not_a_writer", f"Only writers of {owner} do this.")


def may_use_dataset(user: Person, dataset: Dataset, release: Release) -> Decision:
    if dataset.status == DatasetStatus.CHECKING:
        return deny("dataset_not_ready", "This dataset is still being checked. Wait until it is ready.")
    if dataset.status == DatasetStatus.INVALID:
        return not_in_this_state(
            "dataset_invalid", "This dataset cannot be used: see its problems, fix them, upload it again."
        )
    targets = release.listing.targets
    if Task(dataset.task) not in targets:
        learns = " or ".join(target.replace("-", " ") for target in targets)
        theirs = dataset.task.replace("-", " ")
        return deny(
            "task_mismatch", f"This model can learn {learns}; the dataset is for {theirs}. Choose another of the two."
        )
    if release.listing.framework == Framework.KERAS and any(it.is_multi_label for it in dataset.versions.all()):
        return deny(
            "multi_label_unsupported",
            "This model names one class for each image, and the dataset has any number of labels. Choose a model of "
            "another library than Keras.",
        )
    return all_of(lambda: may_change(user, dataset.owner), lambda: may_train_on(dataset.name, dataset.terms))


def may_train_on(name: str, terms: LicenseTerms | None) -> Decision:
    """Does the license that their owner states of the data let models be trained on them?"""
    if terms is None:
        return ALLOW
    node = Node("data", f"the data “{name}”", terms.value, is_data=True)
    return decide(judge_use(node, UNBOUND, Right.USE, Right.FINE_TUNE))


def bounds_of(
    run: Run, *, user: Person | None = None, publisher: Namespace | None = None, grant: Grant | None = None
) -> Effective:
    """What the run's result may carry at most: by the model, under the license of the launch, and by the data. Another
    `publisher` than the run's owner is judged as itself, by its own license of the model."""
    version = run.dataset_version
    model = ancestry.Link(
        relation=Relation.FINETUNE,
        terms_id=run.terms_id,
        parent_id=run.release_id,
        grant_id=run.grant_id if publisher is None else (grant.pk if grant else None),
    )
    data = ancestry.Link(
        relation=Relation.TRAINED_ON,
        terms_id=version.terms_id,
        dataset_name=version.dataset.name,
        dataset_sha256=version.digest,
    )
    return ancestry.bounds([model, data], owner_id=publisher.pk if publisher else run.owner_id, user=user)


def may_share(run: Run, *, user: Person) -> Decision:
    """Does everything that the result was made of let it be shared, under the widest terms that it may have?"""
    bound = bounds_of(run, user=user)
    return catalog.may_offer(bound.limit, bound)


def has_quota(user: User, owner: Namespace, *, now: datetime) -> Decision:
    """May the user start one run more for the owner: by their active runs, and by the owner's hours this month, of
    which those count too that its other runs may still take?"""
    return all_of(lambda: _has_place(user), lambda: _has_hours(owner, now=now))


def _has_hours(owner: Namespace, *, now: datetime) -> Decision:
    if not (allowed := compute.hours_allowed(owner)):
        return ALLOW
    used, promised = compute.hours_used(owner, now=now), compute.hours_promised(owner, now=now)
    if used + promised < allowed:
        return ALLOW
    return _too_many_hours(
        owner, used, allowed, more=f", and its runs may take {promised:.1f} more" if promised else ""
    )


def may_begin(run: Run, *, now: datetime) -> Decision:
    """Has the run's owner hours left, now that its turn has come? Of those that wait too each is asked at its own."""
    allowed = compute.hours_allowed(run.owner)
    if not allowed or (used := compute.hours_used(run.owner, now=now)) < allowed:
        return ALLOW
    return _too_many_hours(run.owner, used, allowed)


def _too_many_hours(owner: Namespace, used: float, allowed: int, *, more: str = "") -> Decision:
    text = f"{owner} has used {used:.1f} of its {allowed} hours of compute this month{more}."
    return deny("compute_quota_exceeded", f"{text} Wait for the next one, or ask the operator for more.")


def _has_place(user: User) -> Decision:
    active = Run.objects.active().filter(created_by=user).count()
    if active < settings.MAX_ACTIVE_RUNS:
        return ALLOW
    return deny("quota_exceeded", f"You have {active} runs queued or running, which is the limit. Wait or cancel one.")


def may_launch(user: User, release: Release, dataset: Dataset, *, now: datetime) -> Decision:
    """May the user start this run? It will belong to the dataset's owner, who must be licensed."""
    return all_of(
        lambda: catalog.can_be_tuned(release),
        lambda: catalog.may_fine_tune(user, release, now=now, holder=dataset.owner),
        lambda: may_use_dataset(user, dataset, release),
        lambda: has_quota(user, dataset.owner, now=now),
    )


def may_estimate(user: User, release: Release, dataset: Dataset, *, now: datetime) -> Decision:
    """May the user ask what such a run would take? Whoever may not launch it has no use for the answer; a quota that
    is used up says nothing about that."""
    return all_of(
        lambda: catalog.can_be_tuned(release),
        lambda: catalog.may_fine_tune(user, release, now=now, holder=dataset.owner),
        lambda: may_use_dataset(user, dataset, release),
    )


def has_estimate_left(user: User) -> Decision:
    """May the user ask for one rehearsal more? They cost nothing, so nobody has many at once."""
    if Estimate.objects.waiting().filter(created_by=user).count() < MAX_WAITING_ESTIMATES:
        return ALLOW
    return deny("too_many_estimates", f"{MAX_WAITING_ESTIMATES} estimates of yours are measured. Wait for one of them.")


def may_take(estimate: Estimate, *, budget_minutes: int | None, now: datetime) -> Decision:
    """May a run be launched that takes what the estimate says? Not where even the shortest time that it allows is
    more than there is; it would be stopped on the way."""
    return next(iter(limits_of(estimate, estimate.low_seconds, budget_minutes=budget_minutes, now=now)), ALLOW)


def doubts_of(estimate: Estimate, *, budget_minutes: int | None, now: datetime) -> list[Decision]:
    """Returns the limits that the longest time which the estimate allows would pass."""
    return limits_of(estimate, estimate.high_seconds, budget_minutes=budget_minutes, now=now)


def limits_of(
    estimate: Estimate, seconds: float | None, *, budget_minutes: int | None, now: datetime
) -> list[Decision]:
    """Returns a refusal for each limit that so many seconds of compute pass."""
    if seconds is None:
        return []
    minutes, found = seconds / 60, []
    if budget_minutes is not None and minutes > budget_minutes:
        text = f"It takes {minutes:.0f} min by the estimate, and its budget is {budget_minutes} min."
        found.append(deny("estimate_over_budget", f"{text} Raise the budget, or choose fewer epochs."))
    allowed = compute.hours_allowed(estimate.owner)
    if allowed and (left := allowed - compute.hours_used(estimate.owner, now=now)) * 60 < minutes:
        text = f"It takes {minutes:.0f} min by the estimate, and {estimate.owner} has {max(0.0, 60 * left):.0f} min of"
        found.append(deny("estimate_over_quota", f"{text} compute left this month. Choose fewer epochs, or wait."))
    if seconds > settings.RUN_DEADLINE_SECONDS:
        text = f"It takes {minutes:.0f} min by the estimate, and this server ends each part of a run after"
        found.append(
            deny(
                "estimate_over_deadline",
                f"{text} {settings.RUN_DEADLINE_SECONDS / 60:.0f} min. Choose fewer epochs, smaller images or head only.",
            )
        )
    return found


def may_see_estimates(user: Person) -> Decision:
    """Who sees how good the estimates of all runs were."""
    if user.is_authenticated and user.is_staff:
        return ALLOW
    return deny("staff_only", "Only the site's staff see this.")


def _has_not_ended(run: Run) -> Decision:
    return not_in_this_state("already_finished", "This run has ended already.") if run.is_terminal else ALLOW


def may_cancel(user: Person, run: Run) -> Decision:
    return all_of(lambda: _has_not_ended(run), lambda: may_change(user, run.owner))


def may_pause(user: Person, run: Run) -> Decision:
    return all_of(lambda: _has_not_ended(run), lambda: _can_pause(run), lambda: may_change(user, run.owner))


def _can_pause(run: Run) -> Decision:
    if run.is_paused:
        return not_in_this_state("already_paused", "This run is paused already.")
    if run.asked_to == "cancel":
        return not_in_this_state("being_canceled", "This run is being canceled. Launch it again instead.")
    return ALLOW


def may_resume(user: User, run: Run, *, now: datetime) -> Decision:
    """May the user let a paused run go on? What it needs may have gone while it waited."""
    return all_of(
        lambda: _has_not_ended(run),
        lambda: _is_paused(run),
        lambda: may_change(user, run.owner),
        lambda: may_go_on(run, now=now),
        lambda: has_quota(user, run.owner, now=now),
    )


def _is_paused(run: Run) -> Decision:
    if run.is_paused:
        return ALLOW
    status = run.get_status_display().lower()
    return not_in_this_state("not_paused", f"This run is {status}, not paused: there is nothing to resume.")


def may_go_on(run: Run, *, now: datetime) -> Decision:
    """Does what the run was launched with still stand: its data, and the licenses of model and data? Once claimed,
    a run goes on to its end whatever ends meanwhile: the result is its owner's, and publishing it asks anew
    (docs/architecture.md, "Grants")."""
    dataset, user = run.dataset_version.dataset, run.created_by
    if dataset.deleted_at is not None:
        return not_in_this_state("dataset_gone", "The dataset was deleted. Upload it again and launch a new run.")
    if user is None:
        return ALLOW
    return all_of(
        lambda: catalog.may_fine_tune(user, run.release, now=now, holder=run.owner),
        lambda: may_train_on(dataset.name, run.dataset_version.terms),
    )


def may_use_result(user: Person, run: Run, *, now: datetime) -> Decision:
    """May the user predict with what the run has made, and take its files along?"""
    if run.status != RunStatus.SUCCEEDED or not run.artifacts:
        return not_in_this_state("no_result", "Only a run that has succeeded has a result to use.")
    return catalog.may_use_derivative(user, run.release, now=now, holder=run.owner)


def may_publish_derivative(user: Person, run: Run, *, now: datetime, namespace: Namespace | None = None) -> Decision:
    """May the user publish the run's result in the namespace, by default that of its owner?"""
    if run.status != RunStatus.SUCCEEDED or not run.evaluation:
        return not_in_this_state("not_publishable", "Only a finished run with its evaluation can be published.")
    if run.derivative_id:
        return not_in_this_state("already_published", "This run's result was published already.")
    return all_of(
        lambda: may_change(user, run.owner),
        lambda: catalog.may_share_derivative(user, run.release, now=now, holder=run.owner),
        lambda: may_publish_in(user, run, namespace or run.owner, now=now),
        lambda: may_share(run, user=user),
    )


def may_publish_in(user: Person, run: Run, namespace: Namespace, *, now: datetime) -> Decision:
    """A result stays with its owner; only one's own may go to an organisation, and to one that is licensed
    itself. What was made under an organisation's license never leaves it."""
    if namespace == run.owner:
        return ALLOW
    is_own = run.owner.user_id is not None and run.owner.user_id == user.pk
    if not is_own or namespace.organization_id is None:
        return deny("not_the_owner", f"This result belongs to {run.owner}: publish it there.")
    return catalog.may_share_derivative(user, run.release, now=now, holder=namespace)
