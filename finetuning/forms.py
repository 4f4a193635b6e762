"""Forms of datasets and runs; the fine-tune form's fields are generated from the engine's spec."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, get_type_hints

from django import forms

from finetuning.engine.spec import Hyper, Strategy, Task
from finetuning.models import Dataset
from finetuning.models.datasets import DatasetStatus
from finetuning.selectors import datasets_of
from marketplace.accounts.models import Namespace, User
from models_catalog.models.listings import TASKS

# What a strategy is called and what it does, in one sentence.
STRATEGIES: dict[str, tuple[str, str]] = {
    Strategy.HEAD.value: (
        "Head only",
        "Fits a new last layer on the network as it is: quick, and hard to get wrong with few images.",
    ),
    Strategy.FULL.value: (
        "Full (LP-FT)",
        "Starts from the head-only solution, then tunes every layer: slow, and worth it for unusual images.",
    ),
}


def strategy_title(value: str) -> str:
    return STRATEGIES.get(value, (value.capitalize(), ""))[0]


@dataclass(frozen=True, slots=True)
class Upload:
    """What an upload for a task looks like: in one sentence, by the endings of its files, and what to do about others."""

    help: str
    accept: str
    refusal: str


_ZIP = "A dataset of images is one .zip file: put the folders and files into a zip first."
UPLOADS: dict[Task, Upload] = {
    Task.IMAGE_CLASSIFICATION: Upload(
        "One class for each image: a zip with one folder a class, or images and a CSV of their classes.",
        ".zip",
        _ZIP,
    ),
    Task.OBJECT_DETECTION: Upload(
        "Boxes around objects: a zip of images with COCO JSON, Pascal VOC XML or YOLO text files.",
        ".zip",
        _ZIP,
    ),
    Task.SEMANTIC_SEGMENTATION: Upload(
        "A class for each pixel: a zip of images and PNG masks of the same names, or COCO polygons.",
        ".zip",
        _ZIP,
    ),
    Task.TEXT_CLASSIFICATION: Upload(
        "One class for each text: a CSV, TSV or JSON Lines file with the columns text and label, bare or in a zip.",
        ".csv,.tsv,.jsonl,.ndjson,.zip",
        "A dataset of texts is a .csv, .tsv or .jsonl file, or a .zip with such files.",
    ),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """A hyper-parameter's field, and the strategies that read it, as the page's script compares them."""

    field: forms.BoundField
    strategies: str
    note: str
    is_advanced: bool


class DatasetForm(forms.Form):
    name = forms.CharField(max_length=120, widget=forms.TextInput(attrs={"data-name-from-file": True}))
    task = forms.ChoiceField(
        choices=TASKS,
        widget=forms.RadioSelect,
        initial=Task.IMAGE_CLASSIFICATION.value,
    )
    file = forms.FileField(label="Dataset file")

    def task_cards(self) -> list[tuple[Any, Upload]]:
        """Returns (radio button, what its task takes)."""
        return [(radio, UPLOADS[Task(radio.data["value"])]) for radio in self["task"]]


class RunForm(forms.Form):
    """One field for each entry of Hyper, beside the dataset and the strategy."""

    dataset = forms.ModelChoiceField(Dataset.objects.none(), to_field_name="uid", empty_label=None)
    strategy = forms.ChoiceField(
        choices=[(item.value, strategy_title(item.value)) for item in Strategy],
        widget=forms.RadioSelect,
        initial=Strategy.HEAD.value,
    )

    def __init__(self, *args: Any, user: User, task: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        ready = datasets_of(user).filter(status=DatasetStatus.VALID, task=task)
        self.fields["dataset"].queryset = ready  # type: ignore[attr-defined]  # ModelChoiceField's
        hints = get_type_hints(Hyper)
        for entry in dataclasses.fields(Hyper):
            self.fields[entry.name] = _field(entry, hints[entry.name])

    @property
    def hyper(self) -> dict[str, Any]:
        names = {entry.name for entry in dataclasses.fields(Hyper)}
        return {name: value for name, value in self.cleaned_data.items() if name in names and value is not None}

    def strategy_cards(self) -> list[tuple[Any, str]]:
        """Returns (radio button, what the strategy does)."""
        return [(radio, STRATEGIES.get(radio.data["value"], ("", ""))[1]) for radio in self["strategy"]]

    def settings(self) -> list[Setting]:
        return [self._setting(entry) for entry in dataclasses.fields(Hyper)]

    def advanced_settings(self) -> list[Setting]:
        return [setting for setting in self.settings() if setting.is_advanced]

    def plain_settings(self) -> list[Setting]:
        return [setting for setting in self.settings() if not setting.is_advanced]

    def _setting(self, entry: dataclasses.Field[Any]) -> Setting:
        readers = entry.metadata["strategies"]
        titles = ", ".join(strategy_title(item.value) for item in readers)
        note = "" if len(readers) == len(Strategy) else f"Read by: {titles}."
        return Setting(self[entry.name], " ".join(readers), note, entry.metadata["advanced"])


def _field(entry: dataclasses.Field[Any], kind: type[Any]) -> forms.Field:
    meta = entry.metadata
    shared: dict[str, Any] = {"label": meta["label"], "help_text": meta["help_text"], "initial": entry.default}
    if issubclass(kind, StrEnum):
        return forms.ChoiceField(choices=[(item.value, item.value.capitalize()) for item in kind], **shared)
    if kind is bool:
        return forms.BooleanField(required=False, **shared)
    number = forms.IntegerField if kind is int else forms.FloatField
    widget = forms.NumberInput(attrs={} if kind is int else {"step": "any"})
    return number(min_value=meta["minimum"], max_value=meta["maximum"], required=False, widget=widget, **shared)


class PublishForm(forms.Form):
    namespace = forms.ModelChoiceField(Namespace.objects.none(), to_field_name="name", label="Publish as")
    name = forms.CharField(max_length=96, help_text="Letters, digits, '-', '_' and '.'.")
    title = forms.CharField(max_length=120, required=False)
    summary = forms.CharField(max_length=300, required=False)
    version = forms.CharField(max_length=40, initial="1.0")
    price = forms.DecimalField(
        min_value=0,
        max_value=10_000_000,
        decimal_places=2,
        required=False,
        help_text="In euros; empty for free. Selling needs the parent's consent to it.",
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["namespace"].queryset = Namespace.objects.writable_by(user)  # type: ignore[attr-defined]  # ModelChoiceField's

    @property
    def fields_for_service(self) -> dict[str, Any]:
        values = dict(self.cleaned_data)
        price = values.pop("price") or 0
        return {**values, "price_minor": int(price * 100)}
