"""From a finished run to a release of the catalog, with its lineage, its terms and its numbers."""

from __future__ import annotations

import dataclasses
import uuid
from datetime import datetime
from typing import Any

from django.db import transaction

from finetuning import policies
from finetuning.engine import spec as engine
from finetuning.models import Run
from marketplace import storage
from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict
from models_catalog import cards
from models_catalog import policies as license_policies
from models_catalog import selectors as catalog
from models_catalog.derivation import derive
from models_catalog.models import LineageEdge, Release
from models_catalog.models.lineage import Relation
from models_catalog.services import licensing, publishing
from models_catalog.terms import Terms

_RELEASE_PREFIX = "release/"


def default_terms(run: Run, *, now: datetime) -> Terms:
    """Returns the widest terms that the result may carry: those of the grant it was trained under."""
    grant = catalog.covering_grant(run.owner, run.release, now=now)
    return derive(grant.terms.value if grant else run.release.terms.value)


def publish(
    *,
    user: User,
    run: Run,
    namespace: Namespace,
    name: str,
    now: datetime,
    title: str = "",
    summary: str = "",
    version: str = "1.0",
    price_minor: int = 0,
) -> Release:
    """Creates the derivative and submits it to the verify job that every release passes; once accepted it is
    published. Raises Denied (`not_publishable`, `use_not_granted`, `terms_too_wide`, ...) and Conflict
    (`name_taken`, `already_published`)."""
    require(policies.may_publish_derivative(user, run, now=now))
    grant = catalog.covering_grant(run.owner, run.release, now=now)
    parent_terms = grant.terms if grant else run.release.terms
    value = default_terms(run, now=now)
    if price_minor:
        value = dataclasses.replace(value, price_minor=price_minor)
    require(license_policies.may_carry(value, parent_terms.value))
    accuracy = run.evaluation["metrics"]["accuracy"]
    with transaction.atomic():
        if not Run.objects.filter(pk=run.pk, derivative__isnull=True).exists():
            raise Conflict("already_published", "This run's result was published already.")
        listing = publishing.create_listing(
            user=user,
            namespace=namespace,
            name=name,
            title=title or name,
            summary=summary or f"{run.release.listing} fine-tuned on {run.dataset_version.dataset.name}.",
            task=run.release.listing.task,
            framework=run.release.listing.framework,
            architecture=run.release.listing.architecture,
            accuracy=accuracy["value"],
            accuracy_metric="accuracy on its held-out test split",
            accuracy_source="Measured by this site",
        )
        release = publishing.draft(user=user, listing=listing, version=version, terms=licensing.terms_row(value))
        Release.objects.filter(pk=release.pk).update(metrics=metrics_of(run), publish_when_verified=True)
        _attach(user, run, release)
        _record_lineage(run, release, grant_id=grant.pk if grant else None, terms_id=parent_terms.pk)
        Run.objects.filter(pk=run.pk, derivative__isnull=True).update(derivative=release)
        audit.record("derivative.create", actor=user, namespace=namespace, subject=release)
        publishing.submit(user=user, release=release)
    release.refresh_from_db()
    return release


def metrics_of(run: Run) -> dict[str, Any]:
    """What the catalog shows of the evaluation; images and per-item results stay with the run."""
    evaluation = run.evaluation
    shown = ("split", "items", "metrics", "per_class", "confusion", "labels", "baseline", "comparison")
    return {
        **{key: evaluation[key] for key in shown if key in evaluation},
        "verdict": evaluation.get("verdict", ""),
        "verdict_code": evaluation.get("verdict_code", ""),
        "dataset_digest": run.dataset_version.digest,
        "evaluations_of_this_test_split": run.dataset_version.evaluations,
        "run": str(run.uid),
    }


def _attach(user: User, run: Run, release: Release) -> None:
    for path, entry in run.artifacts.items():
        if path.startswith(_RELEASE_PREFIX):
            blob = storage.Blob(entry["sha256"], entry["bytes"])
            publishing.attach_artifact(user=user, release=release, path=path.removeprefix(_RELEASE_PREFIX), blob=blob)
    texts = [(engine.CARD_FILE, card(run, release)), ("receipt.json", engine.canonical(receipt(run)).decode())]
    publishing.attach_texts(user=user, release=release, texts=texts)


def _record_lineage(run: Run, release: Release, *, grant_id: uuid.UUID | None, terms_id: int) -> None:
    LineageEdge.objects.create(
        child=release,
        parent=run.release,
        relation=Relation.FINETUNE,
        grant_id=grant_id,
        terms_id=terms_id,
        parent_manifest_sha256=run.release.manifest_sha256,
    )
    LineageEdge.objects.create(
        child=release,
        relation=Relation.TRAINED_ON,
        dataset_name=run.dataset_version.dataset.name,
        dataset_sha256=run.dataset_version.digest,
    )


def receipt(run: Run) -> dict[str, Any]:
    """Everything that is needed to do the run again and compare."""
    return {
        "run": str(run.uid),
        "spec_sha256": run.spec_sha256,
        "strategy": run.strategy,
        "hyper": run.hyper,
        "parent": {"release": str(run.release), "manifest_sha256": run.release.manifest_sha256},
        "dataset": {"name": run.dataset_version.dataset.name, "sha256": run.dataset_version.digest},
        "outputs": run.artifacts,
        "versions": run.result.get("versions", {}),
        "device": run.result.get("device", ""),
        "threads": run.result.get("threads"),
        "evaluation": metrics_of(run),
    }


def card(run: Run, release: Release) -> str:
    """Returns the model card, written from the run."""
    evaluation, terms = run.evaluation, release.terms.value
    accuracy, baseline = evaluation["metrics"]["accuracy"], evaluation["baseline"]
    parent = run.release
    front = {
        "license": terms.license_id,
        "license_name": terms.name,
        "library_name": parent.listing.framework,
        "pipeline_tag": parent.listing.task,
        "base_model": str(parent.listing),
        "base_model_relation": "finetune",
        "metrics": ["accuracy"],
    }
    body = f"""
# {release.listing.title}

{release.listing.summary}

## Evaluation

| Measured on {evaluation["items"]} held-out test images | Accuracy | 95% interval |
| --- | --- | --- |
| This model | {accuracy["value"]:.1%} | {accuracy["low"]:.1%} to {accuracy["high"]:.1%} |
| {baseline["title"]} | {baseline["accuracy"]["value"]:.1%} | {_interval(baseline["accuracy"])} |

{evaluation["verdict"]}

## How it was made

Fine-tuned from **{parent.listing}** {parent.version} with the strategy `{run.strategy}` on
{run.dataset_version.images} images in {len(run.dataset_version.labels)} classes. `receipt.json` has every setting
and digest.

## License

{terms.name}. {terms.attribution_text}
"""
    return cards.write(front, body)


def _interval(metric: dict[str, float]) -> str:
    return f"{metric['low']:.1%} to {metric['high']:.1%}"
