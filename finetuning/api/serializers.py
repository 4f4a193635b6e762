"""Shapes of the API of datasets and runs; the hyper-parameters' fields come from the engine's spec."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import Any, get_type_hints

from django.conf import settings
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from finetuning import compute, forecasts
from finetuning.compute import MAX_BUDGET_MINUTES
from finetuning.engine.spec import MAX_TRIALS, PRESETS, Hyper, SearchMode, Strategy
from finetuning.models import Dataset, Estimate, Run
from finetuning.models.estimates import EstimateMethod, EstimateStatus
from finetuning.services import searches
from finetuning.services.datasets import LICENSE_KEYS, OWN, license_key
from finetuning.services.searches import DEFAULT_MINUTES, DEFAULT_TRIALS
from marketplace.inputs import Input
from models_catalog.models.listings import TASKS
from models_catalog.presets import CURRENCIES, OFFER_KEYS

STRATEGY_NAMES = [item.value for item in Strategy]
PRESET_NAMES = sorted({preset.name for presets in PRESETS.values() for preset in presets})
SEARCH_CHOICES = [searches.NONE, *(mode.value for mode in SearchMode)]
SEARCHED_SETTINGS = [entry.name for entry in dataclasses.fields(Hyper) if entry.metadata["searched"] is not None]


def hyper_serializer() -> type[serializers.Serializer[Any]]:
    """Returns a serializer with one optional field for each entry of Hyper."""
    hints = get_type_hints(Hyper)
    fields = {entry.name: _field(entry, hints[entry.name]) for entry in dataclasses.fields(Hyper)}
    return type("HyperInput", (Input,), fields)


def _field(entry: dataclasses.Field[Any], kind: type[Any]) -> serializers.Field[Any, Any, Any, Any]:
    shared: dict[str, Any] = {"required": False, "help_text": entry.metadata["help_text"]}
    if issubclass(kind, StrEnum):
        return serializers.ChoiceField(choices=[item.value for item in kind], **shared)
    if kind is bool:
        return serializers.BooleanField(**shared)
    low, high = entry.metadata["minimum"], entry.metadata["maximum"]
    number = serializers.IntegerField if kind is int else serializers.FloatField
    return number(min_value=low, max_value=high, **shared)


HyperInput = hyper_serializer()


class ProblemOutput(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()
    items = serializers.ListField(child=serializers.CharField())


class DatasetInput(Input):
    name = serializers.CharField(max_length=120)
    task = serializers.ChoiceField(choices=TASKS)
    file = serializers.FileField(required=False)
    upload = serializers.UUIDField(required=False, help_text="An upload in pieces that is whole, in the place of file")
    owner = serializers.CharField(max_length=96, required=False)
    license = serializers.ChoiceField(
        choices=LICENSE_KEYS, required=False, default=OWN, help_text="Of the data: it binds what is trained on them"
    )


class DatasetEdit(Input):
    license = serializers.ChoiceField(choices=LICENSE_KEYS)


class DatasetOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField(source="uid")
    owner = serializers.CharField(source="owner.name")
    name = serializers.CharField()
    task = serializers.CharField()
    status = serializers.ChoiceField(choices=["checking", "valid", "invalid"])
    problems = ProblemOutput(many=True)
    bytes = serializers.IntegerField(source="upload_bytes")
    sha256 = serializers.CharField(source="upload_sha256")
    license = serializers.SerializerMethodField(help_text="Of the data, as their owner states it")
    report = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    def get_license(self, dataset: Dataset) -> str:
        return license_key(dataset)

    @extend_schema_field(serializers.DictField(allow_null=True))
    def get_report(self, dataset: Dataset) -> dict[str, Any] | None:
        versions = list(dataset.versions.all())
        return versions[0].report if versions else None


class SearchInput(Input):
    mode = serializers.ChoiceField(
        choices=SEARCH_CHOICES, help_text="search: the settings of the run's strategy; race: several strategies"
    )
    trials = serializers.IntegerField(
        min_value=1, max_value=MAX_TRIALS, required=False, help_text=f"Default: {DEFAULT_TRIALS}"
    )
    minutes = serializers.IntegerField(
        min_value=1, required=False, help_text=f"The budget of the trials. Default: {DEFAULT_MINUTES}"
    )
    strategies = serializers.ListField(
        child=serializers.ChoiceField(choices=STRATEGY_NAMES),
        required=False,
        help_text="Those of a race, which has no `strategy` and no `preset`",
    )
    space = serializers.ListField(
        child=serializers.ChoiceField(choices=SEARCHED_SETTINGS),
        required=False,
        help_text="The settings to vary. Default: learning rate and weight decay, unless `hyper` gives them",
    )


def wish_in(fields: dict[str, Any]) -> searches.Wish | None:
    """Returns the search that a checked call asks for."""
    asked = dict(fields.get("search", {}))
    mode = asked.pop("mode", searches.NONE)
    if mode == searches.NONE:
        return None
    lists = {name: tuple(asked.pop(name)) for name in ("strategies", "space") if name in asked}
    return searches.Wish(mode=SearchMode(mode), **lists, **asked)


class RunInput(Input):
    listing = serializers.RegexField(r"^[^/\s]+/[^/\s]+$", help_text="namespace/name")
    version = serializers.CharField(max_length=40, required=False, help_text="Default: the newest release")
    dataset = serializers.UUIDField()
    strategy = serializers.ChoiceField(
        choices=STRATEGY_NAMES, required=False, help_text="Default: the preset's, else head"
    )
    preset = serializers.ChoiceField(
        choices=PRESET_NAMES,
        required=False,
        help_text="A strategy and settings for the dataset's task; `hyper` goes over them",
    )
    hyper = HyperInput(required=False, help_text="Defaults: those of the dataset's task and the strategy")
    search = SearchInput(required=False, help_text="Try several settings first, on the validation items")
    budget_minutes = serializers.IntegerField(
        min_value=1,
        max_value=MAX_BUDGET_MINUTES,
        required=False,
        help_text="Of compute: the run is stopped there, and nothing is charged",
    )


class EstimateInput(Input):
    listing = serializers.RegexField(r"^[^/\s]+/[^/\s]+$", help_text="namespace/name")
    version = serializers.CharField(max_length=40, required=False, help_text="Default: the newest release")
    dataset = serializers.UUIDField()
    strategy = serializers.ChoiceField(choices=STRATEGY_NAMES, required=False)
    preset = serializers.ChoiceField(choices=PRESET_NAMES, required=False)
    hyper = HyperInput(required=False)
    budget_minutes = serializers.IntegerField(
        min_value=1, max_value=MAX_BUDGET_MINUTES, required=False, help_text="To compare with: see `limits`"
    )
    search = SearchInput(required=False, help_text="Of one strategy: its trials are counted in")


class EstimateQuery(Input):
    """`trials` and `minutes` of a search that goes before, both or none."""

    budget_minutes = serializers.IntegerField(min_value=1, max_value=MAX_BUDGET_MINUTES, required=False)
    trials = serializers.IntegerField(min_value=1, max_value=MAX_TRIALS, required=False)
    minutes = serializers.IntegerField(min_value=1, max_value=MAX_BUDGET_MINUTES, required=False)


class LimitOutput(serializers.Serializer[Any]):
    code = serializers.CharField()
    detail = serializers.CharField(source="why")


class EstimateOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField(source="uid")
    status = serializers.ChoiceField(choices=EstimateStatus.choices)
    method = serializers.ChoiceField(choices=EstimateMethod.choices, allow_blank=True)
    seconds = serializers.FloatField(allow_null=True, help_text="Of compute, from the claim of the run to its end")
    low_seconds = serializers.FloatField(allow_null=True)
    high_seconds = serializers.FloatField(allow_null=True)
    coverage = serializers.FloatField(
        allow_null=True, help_text="The probability that the range holds the run; null where it is a margin only"
    )
    past_runs = serializers.IntegerField(help_text="That the range was made from")
    derivation = serializers.SerializerMethodField(help_text="Where the range comes from, in words")
    peak_memory_bytes = serializers.IntegerField(allow_null=True)
    price_minor = serializers.SerializerMethodField(help_text="[low, middle, high]; charged only if the run succeeds")
    currency = serializers.SerializerMethodField()
    hardware = serializers.CharField(allow_blank=True)
    measured = serializers.DictField(help_text="What the rehearsal measured (docs/engine.md, estimate)")
    failure = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    def get_derivation(self, estimate: Estimate) -> str:
        return forecasts.derivation(estimate) if estimate.is_ready else ""

    @extend_schema_field(serializers.ListField(child=serializers.IntegerField()))
    def get_price_minor(self, estimate: Estimate) -> list[int]:
        told = (estimate.low_seconds, estimate.seconds, estimate.high_seconds)
        return [compute.charge_minor(seconds) for seconds in told if seconds is not None]

    def get_currency(self, _estimate: Estimate) -> str:
        return settings.COMPUTE_CURRENCY if settings.COMPUTE_PRICE_MINOR_PER_HOUR else ""

    @extend_schema_field(serializers.DictField(allow_null=True))
    def get_failure(self, estimate: Estimate) -> dict[str, str] | None:
        return {"code": estimate.failure_code, "message": estimate.failure_message} if estimate.failure_code else None


class JudgedEstimateOutput(EstimateOutput):
    limits = LimitOutput(many=True, help_text="For which a launch is refused: even the low end passes them")
    warnings = LimitOutput(many=True, help_text="Which the high end passes")


class RunOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField(source="uid")
    owner = serializers.CharField(source="owner.name")
    status = serializers.ChoiceField(
        choices=["queued", "starting", "running", "paused", "succeeded", "failed", "canceled"]
    )
    asked_to = serializers.CharField(help_text="`cancel` or `pause` while the engine has not stopped yet, else empty")
    listing = serializers.CharField(source="release.listing.__str__")
    version = serializers.CharField(source="release.version")
    dataset = serializers.UUIDField(source="dataset_version.dataset.uid")
    task = serializers.CharField(help_text="What it learns: the dataset's task")
    strategy = serializers.CharField()
    hyper = serializers.DictField(help_text="After a search: the winner's")
    search = serializers.SerializerMethodField(
        help_text="What was asked to be tried first, and from its end its trials"
    )
    progress = serializers.DictField()
    estimate = EstimateOutput(allow_null=True, help_text="What it was said to take when it was launched")
    budget_minutes = serializers.IntegerField(allow_null=True)
    charge_minor = serializers.IntegerField(help_text="The price of the compute that led to the result")
    charge_currency = serializers.CharField(allow_blank=True)
    failure = serializers.SerializerMethodField()
    evaluation = serializers.SerializerMethodField()
    derivative = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)

    @extend_schema_field(serializers.DictField(allow_null=True))
    def get_failure(self, run: Run) -> dict[str, str] | None:
        if not run.failure_code:
            return None
        return {"code": run.failure_code, "message": run.failure_message, "advice": run.advice}

    @extend_schema_field(serializers.DictField(allow_null=True))
    def get_search(self, run: Run) -> dict[str, Any] | None:
        return {**run.search, "result": run.searched or None} if run.search else None

    @extend_schema_field(serializers.DictField(allow_null=True))
    def get_evaluation(self, run: Run) -> dict[str, Any] | None:
        return run.evaluation or None

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_derivative(self, run: Run) -> str | None:
        return str(run.derivative.listing) if run.derivative else None


class PublishInput(Input):
    namespace = serializers.CharField(max_length=96)
    name = serializers.CharField(max_length=96)
    version = serializers.CharField(max_length=40, required=False, default="1.0")
    title = serializers.CharField(max_length=120, required=False, allow_blank=True, default="")
    summary = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")
    license = serializers.ChoiceField(choices=OFFER_KEYS, required=False, default="")
    price_minor = serializers.IntegerField(min_value=0, max_value=10**9, required=False, default=0)
    currency = serializers.ChoiceField(choices=CURRENCIES, required=False, default="")


class EventsOutput(serializers.Serializer[Any]):
    status = serializers.CharField()
    status_title = serializers.CharField()
    stage = serializers.CharField(allow_blank=True)
    progress = serializers.DictField()
    elapsed_seconds = serializers.FloatField()
    remaining_seconds = serializers.FloatField(allow_null=True)
    points = serializers.ListField(child=serializers.DictField())
    trials = serializers.ListField(
        child=serializers.DictField(), help_text="Of a search, new or changed: the newest row of a `trial` holds"
    )
    log = serializers.ListField(child=serializers.DictField())
    cursor = serializers.IntegerField()
    terminal = serializers.BooleanField()


class TextInput(Input):
    text = serializers.CharField()


class PredictionOutput(serializers.Serializer[Any]):
    predictions = serializers.ListField(
        child=serializers.DictField(),
        required=False,
        help_text="Classes, of multi-label models each with its `threshold` and `is_found`; or boxes in pixels of the upright image",
    )
    width = serializers.IntegerField(required=False, help_text="Of the upright image; with boxes")
    height = serializers.IntegerField(required=False)
    threshold = serializers.FloatField(required=False, help_text="The confidence from which a box counts as found")
    mask = serializers.DictField(required=False, help_text="A palette PNG in base64; the pixel is the class")
    classes = serializers.ListField(child=serializers.DictField(), required=False, help_text="The mask's legend")
    milliseconds = serializers.FloatField()
    warm = serializers.BooleanField()
