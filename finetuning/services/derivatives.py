"""From a finished run to a release of the catalog, with its lineage, its terms and its numbers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.text import slugify

from finetuning import policies
from finetuning.engine import spec as engine
from finetuning.engine import titles
from finetuning.engine.headlines import headline, named
from finetuning.models import Run
from finetuning.services import derivative_terms, loading, results, searches
from finetuning.services.runs import receipt_of
from marketplace import storage
from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit
from marketplace.archives import Archive
from marketplace.decisions import require
from marketplace.errors import Conflict
from models_catalog import cards
from models_catalog import policies as license_policies
from models_catalog import selectors as catalog
from models_catalog.models import Grant, Listing, Release
from models_catalog.models.listings import ReleaseStatus
from models_catalog.services import licensing, lineage, obligations, publishing
from models_catalog.terms import Terms

_PUBLIC_PARTS = (
    "split",
    "items",
    "groups",
    "effective_items",
    "boxes",
    "labels",
    "palette",
    "metrics",
    "by_size",
    "per_class",
    "confusion",
    "errors",
    "baseline",
    "comparison",
    "without_leaked",
)
# What the hub's clients call a task where it is not what we call it.
_PIPELINES = {engine.Task.SEMANTIC_SEGMENTATION: "image-segmentation"}


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
    license: str = "",  # noqa: A002 - the field's word, as in the API
    price_minor: int = 0,
    currency: str = "",
) -> Release:
    """Creates the derivative and submits it to the verify job that every release passes; once accepted it is
    published. `license` is one of `derivative_terms.choices`.

    Raises Invalid (`unknown_license`), Denied (`not_the_owner`, `use_not_granted`, `price_not_allowed`,
    `price_below_floor`, ...) and Conflict (`not_publishable`, `name_taken`, `version_taken`, `already_published`).
    Locks the run, so that of two requests at once one makes the derivative."""
    require(policies.may_publish_derivative(user, run, now=now, namespace=namespace))
    # What an organisation publishes it publishes under its own license of the model, and lives and ends with that.
    grant = run.grant if namespace == run.owner else catalog.covering_grant(namespace, run.release, now=now)
    bound = policies.bounds_of(run, user=user, publisher=namespace, grant=grant)
    value = derivative_terms.offered(run, bound=bound, key=license, price_minor=price_minor, currency=currency)
    require(license_policies.may_offer(value, bound, name=name))
    title = title or name
    summary = summary or summary_of(run)
    files = files_of(run, card(run, title=title, summary=summary, terms=value))
    with transaction.atomic():
        if Run.objects.select_for_update(of=("self",)).get(pk=run.pk).derivative_id is not None:
            raise Conflict("already_published", "This run's result was published already.")
        listing = _listing(user=user, run=run, namespace=namespace, name=name, title=title, summary=summary)
        release = publishing.draft(user=user, listing=listing, version=version, terms=licensing.terms_row(value))
        for path, blob in files.items():
            publishing.attach_artifact(user=user, release=release, path=path, blob=blob)
        lineage.record_training(release=release, training=training_of(run, grant=grant))
        require(license_policies.may_price(release))
        # From here on the files are frozen: they are what the figures are of.
        Release.objects.filter(pk=release.pk).update(metrics=metrics_of(run))
        Run.objects.filter(pk=run.pk).update(derivative=release)
        audit.record("derivative.create", actor=user, namespace=namespace, subject=release)
        release.refresh_from_db()
        publishing.submit(user=user, release=release, publish_when_verified=True)
    release.refresh_from_db()
    return release


def release_rejected(*, release_id: int) -> bool:
    """Lets a run's result be published again where the verify job refused it; True where it did. May be called
    after every verification."""
    refused = Run.objects.filter(derivative=release_id, derivative__status=ReleaseStatus.REJECTED)
    with transaction.atomic():
        run = refused.select_for_update(of=("self",)).select_related("owner", "derivative__listing__namespace").first()
        if run is None:
            return False
        Run.objects.filter(pk=run.pk).update(derivative=None)
        audit.record("derivative.reject", actor=None, namespace=run.owner, subject=run.derivative)
    return True


def training_of(run: Run, *, grant: Grant | None) -> lineage.Training:
    return lineage.Training(
        parent=run.release,
        grant_id=grant.pk if grant else None,
        terms_id=run.terms_id,
        dataset_name=run.dataset_version.dataset.name,
        dataset_sha256=run.dataset_version.digest,
        dataset_terms_id=run.dataset_version.terms_id,
    )


def _listing(*, user: User, run: Run, namespace: Namespace, name: str, title: str, summary: str) -> Listing:
    """Returns a new listing, or the one that holds nothing but this run's refused results."""
    earlier = Listing.objects.filter(namespace=namespace, name__iexact=name).first()
    if earlier is not None and _is_refused(earlier, run):
        return publishing.edit_listing(user=user, listing=earlier, title=title, summary=summary)
    return publishing.create_listing(
        user=user,
        namespace=namespace,
        name=name,
        title=title,
        summary=summary,
        task=run.task.value,
        framework=run.release.listing.framework,
        architecture=run.release.listing.architecture,
    )


def _is_refused(listing: Listing, run: Run) -> bool:
    releases = list(listing.releases.all())
    return bool(releases) and all(
        release.status == ReleaseStatus.REJECTED and release.metrics.get("run") == str(run.uid) for release in releases
    )


def summary_of(run: Run) -> str:
    return f"{run.release.listing} fine-tuned on {run.dataset_version.dataset.name}."


def archive_of(run: Run) -> Archive:
    """Returns the result as a release of it would have it, under the license of the launch, with all that the model
    asks for beside it, as one zip. Writes blobs."""
    text = card(run, title=name_of(run), summary=summary_of(run), terms=run.terms.value)
    return obligations.beside(files_of(run, text), run.release, at=run.finished_at or run.created_at)


def zip_name(run: Run) -> str:
    return f"{slugify(name_of(run))}.zip"


def name_of(run: Run) -> str:
    return f"{run.release.listing.name} on {run.dataset_version.dataset.name}"


def metrics_of(run: Run) -> dict[str, Any]:
    """What the catalog shows of the evaluation; images and per-item results stay with the run."""
    evaluation = run.evaluation
    return {
        **{key: evaluation[key] for key in _PUBLIC_PARTS if key in evaluation},
        "verdict": evaluation.get("verdict", ""),
        "verdict_code": evaluation.get("verdict_code", ""),
        "dataset_digest": run.dataset_version.digest,
        "evaluations_of_this_test_split": run.dataset_version.evaluations,
        "run": str(run.uid),
    }


def files_of(run: Run, text: str) -> dict[str, storage.Blob]:
    """Returns the files of a release of the run's result by path, its card `text` and its receipt among them. Writes
    blobs, so call it before the transaction."""
    signed = receipt_of(run)
    return {
        **results.files_of(run),
        **({engine.SIGNED_RECEIPT_FILE: signed} if signed else {}),
        engine.CARD_FILE: storage.put_bytes(text.encode()),
        engine.RECEIPT_FILE: storage.put_bytes(engine.canonical(receipt(run))),
    }


def receipt(run: Run) -> dict[str, Any]:
    """Everything that is needed to do the run again and compare."""
    return {
        "run": str(run.uid),
        "spec_sha256": run.spec_sha256,
        "strategy": run.strategy,
        "hyper": run.hyper,
        "search": {**run.search, "result": run.searched} if run.searched else None,
        "parent": {"release": str(run.release), "manifest_sha256": run.release.manifest_sha256},
        "dataset": {"name": run.dataset_version.dataset.name, "sha256": run.dataset_version.digest},
        "outputs": run.artifacts,
        "versions": run.result.get("versions", {}),
        "device": run.result.get("device", ""),
        "threads": run.result.get("threads"),
        "evaluation": metrics_of(run),
    }


def card(run: Run, *, title: str, summary: str, terms: Terms) -> str:
    """Returns the model card, written from the run."""
    evaluation, parent, noun = run.evaluation, run.release, f"{titles.ITEMS[run.task]}s"
    rows = [("This model", evaluation["metrics"]), (evaluation["baseline"]["title"], evaluation["baseline"])]
    measured = [(title, found) for title, figures in rows if (found := headline(run.task, figures))]
    key, name = named(run.task, evaluation["metrics"])
    table = "\n".join(
        f"| {title} | {found.value:.1%} | {found.low:.1%} to {found.high:.1%} |" for title, found in measured
    )
    front = {
        "license": terms.license_id,
        "license_name": terms.name,
        "library_name": parent.listing.framework,
        "pipeline_tag": _PIPELINES.get(run.task, run.task.value),
        "base_model": str(parent.listing),
        "base_model_relation": "finetune",
        "metrics": [key],
    }
    body = f"""
# {title}

{summary}

## Evaluation

| Measured on {evaluation["items"]} held-out test {noun} | {name} | 95% interval |
| --- | --- | --- |
{table}

{evaluation["verdict"]}

## How it was made

Fine-tuned from **{parent.listing}** {parent.version} with the strategy `{run.strategy}` on
{run.dataset_version.images} {noun} in {len(run.dataset_version.labels)} classes. {_search_sentence(run)}`receipt.json` has
every setting and digest.

{loading.section(run)}{_onnx_section(run)}## License

{terms.name}. {terms.attribution_text}
"""
    return cards.write(front, body)


def _search_sentence(run: Run) -> str:
    """Returns what the card says of how the settings were chosen, or nothing where they were given."""
    selection = searches.selection_of(run)
    if selection is None:
        return ""
    return f"The settings are the best of {selection.trials} trials on {selection.validation_items} validation items. "


def _onnx_section(run: Run) -> str:
    """Returns what the card says of the ONNX file, or nothing where there is none."""
    if engine.ONNX_FILE not in results.files_of(run):
        return ""
    export = run.result["export"]
    parity = export["parity"]
    differences = ", ".join(f"{name} {value:.2g}" for name, value in parity["max_abs_difference"].items())
    return f"""## ONNX

`{engine.ONNX_FILE}` (opset {export["opset"]}) has preprocessing, labels and license inside. On {parity["items"]} test
items it agrees with the weights in {parity["agreement"]:.2%} of {parity["compared"]:,} {parity["unit"]}; largest
differences: {differences}.

"""
