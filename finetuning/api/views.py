"""Thin views of datasets, runs and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from django.http import Http404, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from finetuning import selectors
from finetuning.api import serializers as shapes
from finetuning.models import Dataset, Run
from finetuning.services import datasets, derivatives, playground, runs, steering
from marketplace import downloads
from marketplace.accounts.services import people
from marketplace.api import RawBody, View, checked
from marketplace.errors import Invalid
from marketplace.inputs import JsonBody
from models_catalog.api.views import find_release, namespace_named


def find_dataset(request: Request, uid: str) -> Dataset:
    return get_object_or_404(selectors.datasets_of(request.user), uid=datasets.parse_uid(uid) or _absent())


def find_run(request: Request, uid: str) -> Run:
    return get_object_or_404(selectors.runs_of(request.user), uid=datasets.parse_uid(uid) or _absent())


def _absent() -> NoReturn:
    raise Http404


class DatasetsView(View):
    read_scope, write_scope = "datasets:read", "datasets:write"
    parser_classes = [MultiPartParser]

    @extend_schema(summary="Your datasets", responses=shapes.DatasetOutput(many=True))
    def get(self, request: Request) -> Response:
        return self.paginated(selectors.datasets_of(request.user), shapes.DatasetOutput)

    @extend_schema(
        summary="Upload a dataset",
        request={"multipart/form-data": shapes.DatasetInput},
        responses={201: shapes.DatasetOutput},
    )
    def post(self, request: Request) -> Response:
        fields = checked(shapes.DatasetInput(data=request.data))
        owner = (
            namespace_named(fields["owner"], field="owner") if "owner" in fields else people.namespace_of(request.user)
        )
        upload = fields["file"]
        dataset = datasets.receive(
            user=request.user,
            owner=owner,
            name=fields["name"],
            task=fields["task"],
            stream=upload,
            filename=upload.name,
            license=fields["license"],
        )
        return Response(shapes.DatasetOutput(dataset).data, status=201)


class DatasetView(View):
    read_scope, write_scope = "datasets:read", "datasets:write"

    @extend_schema(summary="A dataset, its state and its report", responses=shapes.DatasetOutput)
    def get(self, request: Request, uid: str) -> Response:
        return Response(shapes.DatasetOutput(find_dataset(request, uid)).data)

    @extend_schema(
        summary="State the license of the data, from the next run on",
        request=shapes.DatasetEdit,
        responses=shapes.DatasetOutput,
    )
    def patch(self, request: Request, uid: str) -> Response:
        fields = checked(shapes.DatasetEdit(data=request.data))
        datasets.set_license(user=request.user, dataset=find_dataset(request, uid), license=fields["license"])
        return Response(shapes.DatasetOutput(find_dataset(request, uid)).data)

    @extend_schema(summary="Delete a dataset", responses={204: None})
    def delete(self, request: Request, uid: str) -> Response:
        datasets.delete(user=request.user, dataset=find_dataset(request, uid), now=timezone.now())
        return Response(status=204)


class DatasetRecheck(View):
    read_scope, write_scope = "datasets:read", "datasets:write"

    @extend_schema(
        summary="Check a dataset again after this server failed at it", request=None, responses=shapes.DatasetOutput
    )
    def post(self, request: Request, uid: str) -> Response:
        dataset = datasets.recheck(user=request.user, dataset=find_dataset(request, uid))
        return Response(shapes.DatasetOutput(dataset).data)


class RunsView(View):
    read_scope, write_scope = "runs:read", "runs:write"

    @extend_schema(summary="Your runs", responses=shapes.RunOutput(many=True))
    def get(self, request: Request) -> Response:
        return self.paginated(selectors.runs_of(request.user), shapes.RunOutput)

    @extend_schema(summary="Launch a fine-tune", request=shapes.RunInput, responses={201: shapes.RunOutput})
    def post(self, request: Request) -> Response:
        given = shapes.RunInput(data=request.data)
        fields = checked(given)
        namespace, _, name = fields["listing"].partition("/")
        run = runs.launch(
            user=request.user,
            release=find_release(request, namespace, name, fields.get("version", "")),
            dataset=find_dataset(request, str(fields["dataset"])),
            strategy=fields.get("strategy", ""),
            preset=fields.get("preset", ""),
            hyper=dict(fields.get("hyper", {})),
            search=given.wish(),
            budget_minutes=fields.get("budget_minutes"),
            now=timezone.now(),
        )
        return Response(shapes.RunOutput(run).data, status=201)


class RunView(View):
    read_scope, write_scope = "runs:read", "runs:write"

    @extend_schema(summary="A run with its evaluation", responses=shapes.RunOutput)
    def get(self, request: Request, uid: str) -> Response:
        return Response(shapes.RunOutput(find_run(request, uid)).data)


class RunEvents(View):
    read_scope, write_scope = "runs:read", "runs:write"

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


class RunCancel(View):
    read_scope, write_scope = "runs:read", "runs:write"

    @extend_schema(summary="Cancel a run", request=None, responses=shapes.RunOutput)
    def post(self, request: Request, uid: str) -> Response:
        run = steering.request_cancel(user=request.user, run=find_run(request, uid), now=timezone.now())
        return Response(shapes.RunOutput(run).data)


class RunPause(View):
    read_scope, write_scope = "runs:read", "runs:write"

    @extend_schema(summary="Pause a run at its next checkpoint", request=None, responses=shapes.RunOutput)
    def post(self, request: Request, uid: str) -> Response:
        run = steering.request_pause(user=request.user, run=find_run(request, uid), now=timezone.now())
        return Response(shapes.RunOutput(run).data)


class RunResume(View):
    read_scope, write_scope = "runs:read", "runs:write"

    @extend_schema(summary="Let a paused run go on from its checkpoint", request=None, responses=shapes.RunOutput)
    def post(self, request: Request, uid: str) -> Response:
        run = steering.resume(user=request.user, run=find_run(request, uid), now=timezone.now())
        return Response(shapes.RunOutput(run).data)


class RunReceipt(View):
    read_scope, write_scope = "runs:read", "runs:write"

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


class RunPublish(View):
    read_scope, write_scope = "runs:read", "runs:write"

    @extend_schema(
        summary="Publish the result as a derivative", request=shapes.PublishInput, responses={201: OpenApiTypes.OBJECT}
    )
    def post(self, request: Request, uid: str) -> Response:
        fields = checked(shapes.PublishInput(data=request.data))
        namespace = namespace_named(fields.pop("namespace"))
        release = derivatives.publish(
            user=request.user, run=find_run(request, uid), namespace=namespace, now=timezone.now(), **fields
        )
        return Response(
            {"listing": str(release.listing), "version": release.version, "status": release.status}, status=201
        )


class Predict(View):
    read_scope = write_scope = "predict"
    parser_classes = [MultiPartParser, JsonBody, RawBody]

    @extend_schema(
        summary="Ask a model that you may use: about an image (the body), or a text (JSON)",
        request={"application/octet-stream": OpenApiTypes.BINARY, "application/json": shapes.TextInput},
        parameters=[OpenApiParameter("top", int), OpenApiParameter("version", str)],
        responses=shapes.PredictionOutput,
    )
    def post(self, request: Request, namespace: str, name: str) -> Response:
        release = find_release(request, namespace, name, request.query_params.get("version", ""))
        top = playground.read_top(request.query_params.get("top"), release.listing.task)
        fields = request.data if isinstance(request.data, Mapping) else {}
        upload = request.FILES.get("file") or request.FILES.get("image") or request.data  # RawBody's stream
        given = playground.read_given(release, upload=upload, text=fields.get("text", fields.get("inputs")))
        return Response(playground.predict(user=request.user, release=release, given=given, top=top))
