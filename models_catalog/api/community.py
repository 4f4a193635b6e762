"""Answers to reviews, questions, reports and takedowns over the API."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.api import View, checked
from marketplace.errors import Invalid
from models_catalog.api import community_shapes as shapes
from models_catalog.api.views import find_listing
from models_catalog.desks import moderation as desk
from models_catalog.desks.reviews import questions_of, reviews_of
from models_catalog.models.moderation import ReportStatus, Subject, TakedownStatus
from models_catalog.services import moderation, questions, reviews


def _subject(request: Request, fields: dict[str, Any]) -> Subject:
    found = desk.find_subject(request.user, fields.pop("kind"), fields.pop("subject"))
    if found is None:
        raise Http404
    return found


class ReviewAnswerView(View):
    write_scope = "reviews:write"

    @extend_schema(summary="Answer a review of your listing", request=shapes.WordsInput, responses=shapes.ReviewOutput)
    def put(self, request: Request, namespace: str, name: str, pk: int) -> Response:
        listing = find_listing(request, namespace, name)
        review = get_object_or_404(reviews_of(listing), pk=pk)
        text = checked(shapes.WordsInput(data=request.data))["text"]
        reviews.answer(user=request.user, review=review, text=text, now=timezone.now())
        return Response(shapes.ReviewOutput(reviews_of(listing).get(pk=pk)).data)


class QuestionsView(View):
    write_scope = "reviews:write"
    public_read = True

    @extend_schema(summary="Questions about a listing, with their answers", responses=shapes.QuestionOutput(many=True))
    def get(self, request: Request, namespace: str, name: str) -> Response:
        return self.paginated(questions_of(find_listing(request, namespace, name)).order_by(), shapes.QuestionOutput)

    @extend_schema(summary="Ask a question", request=shapes.WordsInput, responses={201: shapes.QuestionOutput})
    def post(self, request: Request, namespace: str, name: str) -> Response:
        listing = find_listing(request, namespace, name)
        text = checked(shapes.WordsInput(data=request.data))["text"]
        row = questions.ask(user=request.user, listing=listing, text=text, now=timezone.now())
        return Response(shapes.QuestionOutput(questions_of(listing).get(pk=row.pk)).data, status=201)


class AnswersView(View):
    write_scope = "reviews:write"

    @extend_schema(summary="Answer a question", request=shapes.WordsInput, responses={201: shapes.AnswerOutput})
    def post(self, request: Request, namespace: str, name: str, pk: int) -> Response:
        question = get_object_or_404(questions_of(find_listing(request, namespace, name)), pk=pk)
        text = checked(shapes.WordsInput(data=request.data))["text"]
        row = questions.answer(user=request.user, question=question, text=text, now=timezone.now())
        return Response(shapes.AnswerOutput(row).data, status=201)


class ReportsView(View):
    read_scope, write_scope = "reviews:read", "reviews:write"
    filters = ("status",)

    @extend_schema(
        summary="Your reports; for the staff everybody's",
        parameters=[OpenApiParameter("status", str, enum=ReportStatus.values)],
        responses=shapes.ReportOutput(many=True),
    )
    def get(self, request: Request) -> Response:
        rows = _with_status(request, desk.reports(request.user), ReportStatus.values)
        return self.paginated(rows.order_by(), shapes.ReportOutput)

    @extend_schema(
        summary="Report something to the staff", request=shapes.ReportInput, responses={201: shapes.ReportOutput}
    )
    def post(self, request: Request) -> Response:
        fields = checked(shapes.ReportInput(data=request.data))
        subject = _subject(request, fields)
        row = moderation.report(user=request.user, subject=subject, now=timezone.now(), **fields)
        return Response(shapes.ReportOutput(row).data, status=201)


class ReportDismissView(View):
    write_scope = "moderation:write"

    @extend_schema(summary="Dismiss a report (staff)", request=shapes.DecisionInput, responses=shapes.ReportOutput)
    def post(self, request: Request, uid: uuid.UUID) -> Response:
        row = get_object_or_404(desk.reports(request.user), uid=uid)
        fields = checked(shapes.DecisionInput(data=request.data))
        moderation.dismiss(actor=request.user, report=row, now=timezone.now(), **fields)
        return Response(shapes.ReportOutput(desk.reports(request.user).get(pk=row.pk)).data)


class TakedownsView(View):
    read_scope, write_scope = "reviews:read", "moderation:write"
    filters = ("status",)

    @extend_schema(
        summary="Takedowns of what is yours; for the staff all",
        parameters=[OpenApiParameter("status", str, enum=TakedownStatus.values)],
        responses=shapes.TakedownOutput(many=True),
    )
    def get(self, request: Request) -> Response:
        rows = _with_status(request, desk.takedowns(request.user), TakedownStatus.values)
        return self.paginated(rows.order_by(), shapes.TakedownOutput)

    @extend_schema(
        summary="Take something down, with the reports about it (staff)",
        request=shapes.TakedownInput,
        responses={201: shapes.TakedownOutput},
    )
    def post(self, request: Request) -> Response:
        fields = checked(shapes.TakedownInput(data=request.data))
        subject = _subject(request, fields)
        row = moderation.take_down(actor=request.user, subject=subject, now=timezone.now(), **fields)
        return Response(shapes.TakedownOutput(row).data, status=201)


class AppealView(View):
    write_scope = "reviews:write"

    @extend_schema(
        summary="Appeal against a takedown, once", request=shapes.WordsInput, responses=shapes.TakedownOutput
    )
    def post(self, request: Request, uid: uuid.UUID) -> Response:
        row = get_object_or_404(desk.takedowns(request.user), uid=uid)
        text = checked(shapes.WordsInput(data=request.data))["text"]
        moderation.appeal(user=request.user, takedown=row, text=text, now=timezone.now())
        return Response(shapes.TakedownOutput(desk.takedowns(request.user).get(pk=row.pk)).data)


class TakedownDecideView(View):
    write_scope = "moderation:write"

    @extend_schema(
        summary="Lift a takedown, or reject the appeal (staff)",
        request=shapes.AppealDecisionInput,
        responses=shapes.TakedownOutput,
    )
    def post(self, request: Request, uid: uuid.UUID) -> Response:
        row = get_object_or_404(desk.takedowns(request.user), uid=uid)
        fields = checked(shapes.AppealDecisionInput(data=request.data))
        decide = moderation.lift if fields.pop("outcome") == "lift" else moderation.confirm
        decide(actor=request.user, takedown=row, now=timezone.now(), **fields)
        return Response(shapes.TakedownOutput(desk.takedowns(request.user).get(pk=row.pk)).data)


def _with_status(request: Request, rows: Any, known: list[str]) -> Any:
    status = request.query_params.get("status", "")
    if status and status not in known:
        raise Invalid("bad_filter", f"status is one of {', '.join(known)}.", field="status")
    return rows.filter(status=status) if status else rows
