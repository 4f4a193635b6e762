"""Shapes of reviews, questions, reports and takedowns."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from rest_framework import serializers

from marketplace.inputs import Input
from models_catalog.models import CitedEvaluation, Report, Takedown
from models_catalog.models.moderation import SUBJECTS, ReportReason, kind_of, subject_of


class CitedEvaluationOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField(source="uid")
    release = serializers.CharField()
    metric = serializers.CharField()
    value = serializers.FloatField()
    low = serializers.FloatField()
    high = serializers.FloatField()
    baseline = serializers.FloatField(allow_null=True)
    items = serializers.IntegerField()
    receipt_sha256 = serializers.CharField()
    url = serializers.SerializerMethodField()

    def get_url(self, row: CitedEvaluation) -> str:
        return reverse("cited_evaluation", args=[row.uid])


class ReviewOutput(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    author = serializers.CharField(source="author.name")
    rating = serializers.IntegerField()
    text = serializers.CharField()
    evaluation = CitedEvaluationOutput(allow_null=True)
    created_at = serializers.DateTimeField()
    edited_at = serializers.DateTimeField(allow_null=True)
    answer = serializers.CharField(help_text="The vendor's")
    answered_at = serializers.DateTimeField(allow_null=True)


class AnswerOutput(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    written_by = serializers.CharField(source="written_by.username")
    is_vendors = serializers.BooleanField()
    text = serializers.CharField()
    created_at = serializers.DateTimeField()


class QuestionOutput(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    asked_by = serializers.CharField(source="asked_by.username")
    text = serializers.CharField()
    created_at = serializers.DateTimeField()
    answers = AnswerOutput(many=True, source="answers_shown")


class WordsInput(Input):
    text = serializers.CharField(max_length=4000)


class ReportInput(Input):
    kind = serializers.ChoiceField(choices=SUBJECTS)
    subject = serializers.CharField(
        max_length=240, help_text="namespace/name, namespace/name@version, or the number of the post"
    )
    reason = serializers.ChoiceField(choices=ReportReason.values)
    text = serializers.CharField(max_length=4000)


class TakedownInput(Input):
    kind = serializers.ChoiceField(choices=SUBJECTS)
    subject = serializers.CharField(max_length=240)
    reason = serializers.CharField(max_length=300)
    legal_basis = serializers.CharField(max_length=300)


class DecisionInput(Input):
    decision = serializers.CharField(max_length=500)


class AppealDecisionInput(DecisionInput):
    outcome = serializers.ChoiceField(choices=["lift", "confirm"])


class _AboutOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField(source="uid")
    kind = serializers.SerializerMethodField()
    subject = serializers.SerializerMethodField()
    status = serializers.CharField()
    reason = serializers.CharField()
    decision = serializers.CharField()
    decided_at = serializers.DateTimeField(allow_null=True)

    def get_kind(self, row: Report | Takedown) -> str:
        return kind_of(subject_of(row))

    def get_subject(self, row: Report | Takedown) -> str:
        return str(subject_of(row))


class ReportOutput(_AboutOutput):
    text = serializers.CharField()
    created_at = serializers.DateTimeField()


class TakedownOutput(_AboutOutput):
    owner = serializers.CharField(source="owner.name")
    legal_basis = serializers.CharField()
    taken_down_at = serializers.DateTimeField()
    appeal = serializers.CharField()
    appealed_at = serializers.DateTimeField(allow_null=True)
