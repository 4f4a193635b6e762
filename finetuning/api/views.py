"""Thin views of datasets, runs and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from django.http import Http404, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from finetuning import policies, selectors
from finetuning.api import serializers as shapes
from finetuning.models import Dataset, Estimate, Run
from finetuning.models.estimates import EstimateStatus
from finetuning.services import datasets, derivatives, estimates, playground, results, runs, searches, steering
from marketplace import downloads
from marketplace.accounts.services import people
from marketplace.api import RawBody, View, checked
from marketplace.errors import Invalid
from marketplace.inputs import JsonBody
from marketplace.preconditions import tag_of, tagged, unchanged
from marketplace.rest import require_within
from marketplace.throttling import FILES
from marketplace.uploads import services as uploads
from models_catalog.api.views import find_release, namespace_named


def find_dataset(request: Request, uid: str) -> Dataset:
    return get_object_or_404(selectors.datasets_of(request.user), uid=datasets.parse_uid(uid) or _absent())


def find_run(request: Request, uid: str) -> Run:
    return get_object_or_404(selectors.runs_of(request.user), uid=datasets.parse_uid(uid) or _absent())


def _absent() -> NoReturn:
    raise Http404


class DatasetCall(View):
    """Base of the calls about data sets, whose queries know what a token is limited to."""

    read_scope, write_scope = "datasets:read", "datasets:write"
    limits_itself = ("GET", "POST", "PATCH", "DELETE")


class RunCall(View):
    """Base of the calls about runs; a run is within a token's limits where its data set is."""

    read_scope, write_scope = "runs:read", "runs:write"
    limits_itself = ("GET", "POST")


class DatasetsView(DatasetCall):
    parser_classes = [MultiPartParser, JsonBody]

    @extend_schema(summary="Your datasets", responses=shapes.DatasetOutput(many=True))
    def get(self, request: Request) -> Response:
        return self.paginated(selectors.datasets_of(request.user), shapes.DatasetOutput)

    @extend_schema(
        summary="Upload a dataset",
        request={"multipart/form-data": shapes.DatasetInput, "application/json": shapes.DatasetInput},
        responses={201: shapes.DatasetOutput},
    )
    def post(self, request: Request) -> Response:
        fields = checked(shapes.DatasetInput(data=request.data))
        owner = (
            namespace_named(fields["owner"], field="owner") if "owner" in fields else people.namespace_of(request.user)
        )
        require_within(request, owner.name)
        source, filename = uploads.given(
            user=request.user, upload=fields.get("upload"), file=fields.get("file"), now=timezone.now()
        )
        dataset = datasets.receive(
            user=request.user,
            owner=owner,
            name=fields["name"],
            task=fields["task"],
            source=source,
            filename=filename,
            license=fields["license"],
        )
        return Response(shapes.DatasetOutput(dataset).data, status=201)


class DatasetView(DatasetCall):
    tagged = ("PATCH", "DELETE")

    @extend_schema(summary="A dataset, its state and its report", responses=shapes.DatasetOutput)
    def get(self, request: Request, uid: str) -> Response:
        return _told(find_dataset(request, uid))

    @extend_schema(
        summary="State the license of the data, from the next run on",
        request=shapes.DatasetEdit,
        responses=shapes.DatasetOutput,
    )
    def patch(self, request: Request, uid: str) -> Response:
        fields = checked(shapes.DatasetEdit(data=request.data))
        dataset = find_dataset(request, uid)
        with unchanged(request, lock=lambda: _locked(dataset), tag=tag_of):
            datasets.set_license(user=request.user, dataset=dataset, license=fields["license"])
        return _told(find_dataset(request, uid))

    @extend_schema(summary="Delete a dataset", responses={204: None})
    def delete(self, request: Request, uid: str) -> Response:
        dataset = find_dataset(request, uid)
        with unchanged(request, lock=lambda: _locked(dataset), tag=tag_of):
            datasets.delete(user=request.user, dataset=dataset, now=timezone.now())
        return Response(status=204)


def _told(dataset: Dataset) -> Response:
    return tagged(Response(shapes.DatasetOutput(dataset).data), tag_of(dataset))


def _locked(dataset: Dataset) -> Dataset | None:
    return Dataset.objects.select_for_update(no_key=True).filter(pk=dataset.pk).first()


class DatasetRecheck(DatasetCall):
    @extend_schema(
        summary="Check a dataset again after this server failed at it", request=None, responses=shapes.DatasetOutput
    )
    def post(self, request: Request, uid: str) -> Response:
        dataset = datasets.recheck(user=request.user, dataset=find_dataset(request, uid))
        return Response(shapes.DatasetOutput(dataset).data)


class RunsView(RunCall):
    @extend_schema(summary="Your runs", responses=shapes.RunOutput(many=True))
    def get(self, request: Request) -> Response:
        return self.paginated(selectors.runs_of(request.user), shapes.RunOutput)

    @extend_schema(summary="Launch a fine-tune", request=shapes.RunInput, responses={201: shapes.RunOutput})
    def post(self, request: Request) -> Response:
        fields = checked(shapes.RunInput(data=request.data))
        run = runs.launch(
            user=request.user,
            **_wanted(request, fields),
            search=shapes.wish_in(fields),
            budget_minutes=fields.get("budget_minutes"),
            now=timezone.now(),
        )
        return Response(shapes.RunOutput(run).data, status=201)


def _wanted(request: Request, fields: dict[str, Any]) -> dict[str, Any]:
    """Returns which fine-tune is meant, as launches and estimates take it."""
    namespace, _, name = fields["listing"].partition("/")
    require_within(request, namespace, name)
    return {
        "release": find_release(request, namespace, name, fields.get("version", "")),
        "dataset": find_dataset(request, str(fields["dataset"])),
        "strategy": fields.get("strategy", ""),
        "preset": fields.get("preset", ""),
        "hyper": dict(fields.get("hyper", {})),
    }


class EstimatesView(RunCall):
    @extend_schema(
        summary="What a fine-tune will take: time, price, memory",
        request=shapes.EstimateInput,
        responses={200: shapes.JudgedEstimateOutput, 202: shapes.JudgedEstimateOutput},
    )
    def post(self, request: Request) -> Response:
        fields = checked(shapes.EstimateInput(data=request.data))
        budget = fields.get("budget_minutes")
        search = shapes.wish_in(fields)
        extent = searches.extent_of(search, budget_minutes=budget)
        row = estimates.ask(
            user=request.user,
            **_wanted(request, fields),
            search=search,
            budget_minutes=budget,
            now=timezone.now(),
        )
        return _judged(row, budget, extent, status=202 if row.status == EstimateStatus.WAITING else 200)


class EstimateView(RunCall):
    @extend_schema(
        summary="An estimate as it stands",
        parameters=[shapes.EstimateQuery],
        responses=shapes.JudgedEstimateOutput,
    )
    def get(self, request: Request, uid: str) -> Response:
        rows = Estimate.objects.visible_to(request.user).select_related("owner")
        row = get_object_or_404(rows, uid=datasets.parse_uid(uid) or _absent())
        fields = checked(shapes.EstimateQuery(data=request.query_params))
        if ("trials" in fields) != ("minutes" in fields):
            raise Invalid("bad_search", "`trials` and `minutes` of a search are given together.", field="trials")
        extent = searches.Extent(fields["trials"], fields["minutes"]) if "trials" in fields else None
        return _judged(row, fields.get("budget_minutes"), extent, status=200)


def _judged(row: Estimate, budget_minutes: int | None, extent: searches.Extent | None, *, status: int) -> Response:
    """Answers with the estimate, a search before it counted in, and what it passes: the budget, the month's hours, the
    server's limit."""
    now = timezone.now()
    row = estimates.with_search(row, extent)
    row.limits = policies.limits_of(row, row.low_seconds, budget_minutes=budget_minutes, now=now)
    row.warnings = policies.doubts_of(row, budget_minutes=budget_minutes, now=now)
    return Response(shapes.JudgedEstimateOutput(row).data, status=status)


class RunView(RunCall):
    @extend_schema(summary="A run with its evaluation", responses=shapes.RunOutput)
    def get(self, request: Request, uid: str) -> Response:
        return Response(shapes.RunOutput(find_run(request, uid)).data)


class RunEvents(RunCall):
    @extend_schema(
        summary="What happened since a cursor",
        parameters=[OpenApiParameter("after", int, description="The cursor of the last answer")],
        responses=shapes.EventsOutput,
    )
    def get(self, request: Request, uid: str) -> Response:
        cursor = selectors.read_cursor(request.query_params.get("after", "0"))
        if cursor is None:
            raise Invalid("bad_cursor", "`after` is the cursor of an earlier answer, a whole number.", field="after")
        return Response(selectors.run_progress(find_run(request, uid), after=cursor))


class RunCancel(RunCall):
    @extend_schema(summary="Cancel a run", request=None, responses=shapes.RunOutput)
    def post(self, request: Request, uid: str) -> Response:
        run = steering.request_cancel(user=request.user, run=find_run(request, uid), now=timezone.now())
        return Response(shapes.RunOutput(run).data)


class RunPause(RunCall):
    @extend_schema(summary="Pause a run at its next checkpoint", request=None, responses=shapes.RunOutput)
    def post(self, request: Request, uid: str) -> Response:
        run = steering.request_pause(user=request.user, run=find_run(request, uid), now=timezone.now())
        return Response(shapes.RunOutput(run).data)


class RunResume(RunCall):
    @extend_schema(summary="Let a paused run go on from its checkpoint", request=None, responses=shapes.RunOutput)
    def post(self, request: Request, uid: str) -> Response:
        run = steering.resume(user=request.user, run=find_run(request, uid), now=timezone.now())
        return Response(shapes.RunOutput(run).data)


class RunReceipt(RunCall):
    @extend_schema(
        summary="The signed receipt of a run's evaluation", responses={(200, "application/json"): OpenApiTypes.OBJECT}
    )
    def get(self, request: Request, uid: str) -> HttpResponseBase:
        run = find_run(request, uid)
        receipt = runs.receipt_of(run) or _absent()
        return downloads.blob_response(
            request,
            sha256=receipt.sha256,
            size=receipt.bytes,
            filename=f"{run.uid}-receipt.json",
            content_type="application/json",
        )


class RunPublish(RunCall):
    @extend_schema(
        summary="Publish the result as a derivative", request=shapes.PublishInput, responses={201: OpenApiTypes.OBJECT}
    )
    def post(self, request: Request, uid: str) -> Response:
        fields = checked(shapes.PublishInput(data=request.data))
        namespace = namespace_named(fields.pop("namespace"))
        require_within(request, namespace.name, fields["name"])
        release = derivatives.publish(
            user=request.user, run=find_run(request, uid), namespace=namespace, now=timezone.now(), **fields
        )
        return Response(
            {"listing": str(release.listing), "version": release.version, "status": release.status}, status=201
        )


# What a model is asked: an image or a text, and for how many answers.
_GIVEN = {"application/octet-stream": OpenApiTypes.BINARY, "application/json": shapes.TextInput}
_TOP = OpenApiParameter("top", int)


class Predict(View):
    read_scope = write_scope = "predict"
    parser_classes = [MultiPartParser, JsonBody, RawBody]

    @extend_schema(
        summary="Ask a model that you may use: about an image (the body), or a text (JSON)",
        request=_GIVEN,
        parameters=[_TOP, OpenApiParameter("version", str)],
        responses=shapes.PredictionOutput,
    )
    def post(self, request: Request, namespace: str, name: str) -> Response:
        release = find_release(request, namespace, name, request.query_params.get("version", ""))
        given, top = _asked(request, release.listing.task)
        return Response(playground.predict(user=request.user, release=release, given=given, top=top))


def _asked(request: Request, task: str) -> tuple[bytes | str, int | None]:
    """Returns the image or text of a prediction, and how many answers are wanted."""
    top = playground.read_top(request.query_params.get("top"), task)
    fields = request.data if isinstance(request.data, Mapping) else {}
    upload = request.FILES.get("file") or request.FILES.get("image") or request.data  # RawBody's stream
    return playground.read_given(task, upload=upload, text=fields.get("text", fields.get("inputs"))), top


class RunPredict(RunCall):
    read_scope = write_scope = "predict"
    parser_classes = [MultiPartParser, JsonBody, RawBody]

    @extend_schema(
        summary="Ask what a run has made, published or not: about an image (the body), or a text (JSON)",
        request=_GIVEN,
        parameters=[_TOP],
        responses=shapes.PredictionOutput,
    )
    def post(self, request: Request, uid: str) -> Response:
        run = find_run(request, uid)
        given, top = _asked(request, run.task)
        return Response(playground.predict_with_result(user=request.user, run=run, given=given, top=top))


class RunResult(RunCall):
    rate_bucket = FILES

    @extend_schema(
        summary="What a run has made, as one zip with all that the model's license asks for",
        responses={(200, "application/zip"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, uid: str) -> HttpResponseBase:
        run = find_run(request, uid)
        results.open_to(request.user, run, now=timezone.now())
        return downloads.archive_response(
            request._request,  # noqa: SLF001 - DRF's own way to Django's request
            archive=derivatives.archive_of(run),
            filename=derivatives.zip_name(run),
        )
