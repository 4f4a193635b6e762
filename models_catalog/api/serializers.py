"""Shapes of the catalog's API: input and output apart, no model serializers."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from marketplace.inputs import Input
from models_catalog.models import LicenseTerms, Release
from models_catalog.models.incidents import IncidentKind
from models_catalog.models.lineage import Relation
from models_catalog.models.listings import FRAMEWORKS, TASKS
from models_catalog.presets import CURRENCIES, OFFER_KEYS
from models_catalog.services.offers import START

# What a vendor says of a draft; data are told by the runs that were trained on them.
DECLARED = [choice for choice in Relation.choices if choice[0] != Relation.TRAINED_ON]


class TermsOutput(serializers.Serializer[Any]):
    """Every clause; the license text, which can be long, by its digest."""

    terms_hash = serializers.CharField()
    name = serializers.CharField()
    license_id = serializers.CharField()
    kind = serializers.CharField()
    price_minor = serializers.IntegerField()
    currency = serializers.CharField()
    manual_approval = serializers.BooleanField()
    text_sha256 = serializers.CharField(source="value.text_sha256")
    document = serializers.SerializerMethodField()

    @extend_schema_field(serializers.DictField())
    def get_document(self, terms: LicenseTerms) -> dict[str, Any]:
        return {name: value for name, value in terms.document.items() if name != "text"}


class TermsWithText(TermsOutput):
    @extend_schema_field(serializers.DictField())
    def get_document(self, terms: LicenseTerms) -> dict[str, Any]:
        return dict(terms.document)


class ArtifactOutput(serializers.Serializer[Any]):
    path = serializers.CharField()
    sha256 = serializers.CharField()
    bytes = serializers.IntegerField()


class ParentOutput(serializers.Serializer[Any]):
    """Of edges that `shown_to` the reader: a parent that they may not see is there by its digest alone."""

    relation = serializers.CharField()
    release = serializers.SerializerMethodField()
    is_private_model = serializers.SerializerMethodField()
    manifest_sha256 = serializers.CharField(source="parent_manifest_sha256")
    dataset = serializers.CharField(source="dataset_name")
    dataset_sha256 = serializers.CharField()

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_release(self, edge: Any) -> str | None:
        return str(edge.parent) if edge.is_parent_shown else None

    def get_is_private_model(self, edge: Any) -> bool:
        return edge.parent_id is not None and not edge.is_parent_shown


class CauseOutput(serializers.Serializer[Any]):
    """Of incidents that are `shown_to` the reader: a cause that they may not see is there by its digest alone."""

    id = serializers.IntegerField()
    kind = serializers.ChoiceField(choices=IncidentKind.choices)
    reason = serializers.CharField()
    release = serializers.SerializerMethodField()
    manifest_sha256 = serializers.CharField(source="release.manifest_sha256")
    opened_at = serializers.DateTimeField()
    resolved_at = serializers.DateTimeField(allow_null=True)

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_release(self, incident: Any) -> str | None:
        return str(incident.release) if incident.is_cause_shown else None


class FlagOutput(serializers.Serializer[Any]):
    """What happened to an ancestor and is not resolved."""

    def to_representation(self, instance: Any) -> dict[str, Any]:
        instance.incident.is_cause_shown = instance.is_cause_shown
        return dict(CauseOutput(instance.incident).data)


class AffectedOutput(serializers.Serializer[Any]):
    release = serializers.CharField(source="__str__")
    status = serializers.CharField()
    manifest_sha256 = serializers.CharField()
    is_mine = serializers.BooleanField(help_text="You offer it")
    is_licensed = serializers.BooleanField(help_text="You license it")


class ParentInput(Input):
    listing = serializers.RegexField(r"^[^/\s]+/[^/\s]+$", help_text="The parent, namespace/name")
    version = serializers.CharField(max_length=40, required=False, default="", help_text="Default: the newest release")
    relation = serializers.ChoiceField(choices=DECLARED)


class ReleaseOutput(serializers.Serializer[Any]):
    version = serializers.CharField()
    status = serializers.CharField()
    sha = serializers.CharField()
    manifest_sha256 = serializers.CharField()
    parameters = serializers.IntegerField(allow_null=True)
    gflops = serializers.FloatField(allow_null=True)
    input_size = serializers.IntegerField(allow_null=True)
    preprocessing = serializers.DictField()
    labels = serializers.ListField(child=serializers.CharField())
    report = serializers.DictField()
    metrics = serializers.DictField()
    notes = serializers.CharField()
    yanked_reason = serializers.CharField()
    quarantine_reason = serializers.CharField()
    on_this_server = serializers.SerializerMethodField()
    published_at = serializers.DateTimeField(allow_null=True)
    terms = TermsWithText()
    artifacts = ArtifactOutput(many=True, source="artifacts.all")
    parents = ParentOutput(many=True, source="parent_edges.all")
    flags = serializers.SerializerMethodField()

    @extend_schema_field(CauseOutput(many=True))
    def get_flags(self, release: Release) -> Any:
        return FlagOutput(release.flags.all(), many=True).data

    def get_on_this_server(self, release: Release) -> bool:
        return not release.is_remote


class ListingOutput(serializers.Serializer[Any]):
    id = serializers.CharField(source="__str__")
    namespace = serializers.CharField(source="namespace.name")
    name = serializers.CharField()
    title = serializers.CharField()
    summary = serializers.CharField()
    task = serializers.ChoiceField(choices=TASKS)
    framework = serializers.ChoiceField(choices=FRAMEWORKS)
    architecture = serializers.CharField()
    accuracy = serializers.FloatField(allow_null=True)
    accuracy_metric = serializers.CharField()
    accuracy_source = serializers.CharField()
    measured_here = serializers.BooleanField(
        source="latest_release.is_measured", default=False, help_text="The accuracy is what this site measured"
    )
    latest_version = serializers.CharField(source="latest_release.version", default=None, allow_null=True)
    parameters = serializers.IntegerField(source="latest_release.parameters", default=None, allow_null=True)
    gflops = serializers.FloatField(source="latest_release.gflops", default=None, allow_null=True)
    terms = TermsOutput(source="latest_release.terms", default=None, allow_null=True)
    rating = serializers.FloatField(allow_null=True, help_text="The mean of its reviews, 1 to 5")
    review_count = serializers.IntegerField()
    created_at = serializers.DateTimeField()


class ReasonOutput(serializers.Serializer[Any]):
    parent = serializers.CharField(help_text="Whose clause it is")  # type: ignore[assignment]  # DRF takes it out
    clause = serializers.CharField()
    right = serializers.CharField()
    words = serializers.CharField()
    fix = serializers.CharField()


class ExcludedOutput(serializers.Serializer[Any]):
    listing = serializers.CharField()
    reasons = ReasonOutput(many=True)


class DecisionOutput(serializers.Serializer[Any]):
    allowed = serializers.BooleanField()
    code = serializers.CharField()
    why = serializers.CharField()
    reasons = ReasonOutput(many=True)


class ListingDetailOutput(ListingOutput):
    release = ReleaseOutput(allow_null=True)
    actions = serializers.DictField(child=DecisionOutput())
    versions = serializers.ListField(child=serializers.CharField())


class ListingInput(Input):
    namespace = serializers.CharField(max_length=96)
    name = serializers.CharField(max_length=96)
    title = serializers.CharField(max_length=120)
    summary = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")
    task = serializers.ChoiceField(choices=TASKS)
    framework = serializers.ChoiceField(choices=FRAMEWORKS)
    architecture = serializers.CharField(max_length=100)
    accuracy = serializers.FloatField(min_value=0, max_value=1, required=False, allow_null=True, default=None)
    accuracy_metric = serializers.CharField(max_length=80, required=False, allow_blank=True, default="")
    accuracy_source = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")


class ListingEdit(Input):
    title = serializers.CharField(max_length=120, required=False)
    summary = serializers.CharField(max_length=300, required=False, allow_blank=True)
    accuracy = serializers.FloatField(min_value=0, max_value=1, required=False, allow_null=True)
    accuracy_metric = serializers.CharField(max_length=80, required=False, allow_blank=True)
    accuracy_source = serializers.CharField(max_length=300, required=False, allow_blank=True)


class ReleaseInput(Input):
    version = serializers.CharField(max_length=40)
    license = serializers.ChoiceField(
        choices=OFFER_KEYS, required=False, default=START, help_text="What the terms are, or start from"
    )
    terms = serializers.DictField(required=False, default=dict, help_text="Clauses over those of `license`")
    price_minor = serializers.IntegerField(min_value=0, max_value=10**9, required=False, default=0)
    currency = serializers.ChoiceField(choices=CURRENCIES, required=False, default="EUR")
    notes = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")


class TermsInput(Input):
    start = serializers.ChoiceField(choices=OFFER_KEYS, required=False, default=START)
    terms = serializers.DictField(required=False, default=dict, help_text="Clauses over those of `start`")


class PlainWordsOutput(serializers.Serializer[Any]):
    may = serializers.ListField(child=serializers.CharField())
    may_ask = serializers.ListField(child=serializers.CharField())
    must = serializers.ListField(child=serializers.CharField())
    may_not = serializers.ListField(child=serializers.CharField())
    deal = serializers.ListField(child=serializers.CharField())


class OfferOutput(serializers.Serializer[Any]):
    """Terms as values, before a release has them; `document` holds every clause with its text."""

    start = serializers.CharField()
    terms_hash = serializers.CharField()
    document = serializers.DictField()
    plain = PlainWordsOutput()


class YankInput(Input):
    reason = serializers.CharField(max_length=300)


class QuarantineInput(Input):
    reason = serializers.CharField(max_length=300)
