"""Shapes of the desks' API."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from marketplace.clients import Client


class FiguresOutput(serializers.Serializer[Any]):
    users = serializers.IntegerField(help_text="Different users")
    people = serializers.IntegerField(help_text="Of them, in a browser")
    libraries = serializers.IntegerField(help_text="Of them, through huggingface_hub, Transformers or timm")
    programs = serializers.IntegerField(help_text="Of them, through curl or another program")
    ci = serializers.IntegerField(help_text="Of them, from a build service")
    files = serializers.IntegerField(help_text="Files, each counted once a day, user and client")


class DayOutput(serializers.Serializer[Any]):
    day = serializers.DateField()
    figures = FiguresOutput()


class OfReleaseOutput(serializers.Serializer[Any]):
    listing = serializers.CharField()
    version = serializers.CharField()
    figures = FiguresOutput()


class OfClientOutput(serializers.Serializer[Any]):
    client = serializers.ChoiceField(choices=[client.value for client in Client])
    is_ci = serializers.BooleanField()
    users = serializers.IntegerField()
    files = serializers.IntegerField()


class StatisticsOutput(serializers.Serializer[Any]):
    since = serializers.DateField()
    until = serializers.DateField()
    total = FiguresOutput()
    days = DayOutput(many=True)
    releases = OfReleaseOutput(many=True)
    clients = OfClientOutput(many=True)


class DeskListingOutput(serializers.Serializer[Any]):
    id = serializers.CharField(source="__str__")
    latest_version = serializers.CharField(source="latest_release.version", default=None, allow_null=True)
    licenses = serializers.IntegerField()
    downloads = serializers.IntegerField()
    rating = serializers.FloatField(allow_null=True)
    review_count = serializers.IntegerField()


class DeskReleaseOutput(serializers.Serializer[Any]):
    listing = serializers.CharField()
    version = serializers.CharField()
    status = serializers.CharField()
    terms = serializers.CharField(source="terms.name")
    created_at = serializers.DateTimeField()
    published_at = serializers.DateTimeField(allow_null=True)


class DeskRequestOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    listing = serializers.CharField()
    requester = serializers.CharField(source="requester.name")
    reason = serializers.CharField()
    status = serializers.CharField()
    answer = serializers.CharField()
    created_at = serializers.DateTimeField()
    decided_at = serializers.DateTimeField(allow_null=True)


class DeskGrantOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    listing = serializers.CharField()
    licensee = serializers.CharField(source="licensee.name")
    terms = serializers.CharField(source="terms.name")
    accepted_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)


class DeskOrderOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    listing = serializers.CharField()
    buyer = serializers.CharField(source="buyer.name")
    amount_minor = serializers.IntegerField()
    currency = serializers.CharField()
    status = serializers.CharField()
    placed_at = serializers.DateTimeField()


class DeskRoyaltyOutput(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    at = serializers.DateTimeField(source="transaction.at")
    event = serializers.CharField(source="transaction.event")
    listing = serializers.CharField(help_text="Whose royalty it is")
    sold = serializers.CharField(source="transaction.order.listing", default=None, allow_null=True)
    is_in = serializers.BooleanField(help_text="Received, else given")
    amount_minor = serializers.IntegerField()
    currency = serializers.CharField(source="transaction.currency")


class DeskReviewOutput(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    listing = serializers.CharField()
    author = serializers.CharField(source="author.name")
    rating = serializers.IntegerField()
    text = serializers.CharField()
    answer = serializers.CharField()
    created_at = serializers.DateTimeField()


class DeskQuestionOutput(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    listing = serializers.CharField()
    asked_by = serializers.CharField(source="asked_by.username")
    text = serializers.CharField()
    is_answered = serializers.BooleanField(help_text="By the vendor")
    created_at = serializers.DateTimeField()
