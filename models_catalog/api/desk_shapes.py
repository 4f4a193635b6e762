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
