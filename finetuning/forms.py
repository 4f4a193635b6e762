"""Forms of datasets and runs; the fine-tune form's fields are generated from the engine's spec."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, get_type_hints

from django import forms

from finetuning.compute import MAX_BUDGET_MINUTES
from finetuning.engine import titles
from finetuning.engine.spec import LOSSES, STRATEGIES, Hyper, Loss, Strategy, Task, defaults_for
from finetuning.models import Dataset, Run
from finetuning.models.datasets import DatasetStatus
from finetuning.selectors import datasets_of
from finetuning.services.datasets import LICENSES, OWN
from marketplace.accounts.models import Namespace, User
from models_catalog.forms import in_minor_units
from models_catalog.models.listings import TASKS
from models_catalog.models.reviews import HIGHEST, LOWEST
from models_catalog.presets import CURRENCIES


@dataclass(frozen=True, slots=True)
class Upload:
    """What an upload for a task looks like: in one sentence, by the endings of its files, and what to do about others."""

    help: str
    accept: str
    refusal: str


_ZIP = "A dataset of images is one .zip file: put the folders and files into a zip first."
UPLOADS: dict[Task, Upload] = {
    Task.IMAGE_CLASSIFICATION: Upload(
        "One class for each image: a zip with one folder a class, or images and a CSV of their classes; or CIFAR's "
        "tar.gz as it is downloaded. Or any number of labels for each: images and a CSV with a column labels.",
        ".zip,.gz",
        "A dataset of images is one .zip file, or CIFAR's .tar.gz: put the folders and files into a zip first.",
    ),
    Task.OBJECT_DETECTION: Upload(
        "Boxes around objects: a zip of images with COCO JSON, Pascal VOC XML or YOLO text files, or Hugging Face's "
        "metadata.jsonl with objects.",
        ".zip",
        _ZIP,
    ),
    Task.SEMANTIC_SEGMENTATION: Upload(
        "A class for each pixel: a zip of images and PNG masks of the same names, or COCO polygons.",
        ".zip",
        _ZIP,
    ),
    Task.TEXT_CLASSIFICATION: Upload(
        "One class for each text: a CSV, TSV or JSON Lines file with the columns text and label, bare or in a zip. Or any "
        "number of labels for each: a column labels.",
        ".csv,.tsv,.jsonl,.ndjson,.zip",
        "A dataset of texts is a .csv, .tsv or .jsonl file, or a .zip with such files.",
    ),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """A hyper-parameter's field, the strategies that read it, and each one's default as JSON, as the page's
    script compares them."""

    field: forms.BoundField
    strategies: str
    defaults: str
    note: str
    is_advanced: bool


DATA_LICENSES = [(key, terms.name) for key, terms in LICENSES.items()]


class DataLicenseForm(forms.Form):
    license = forms.ChoiceField(choices=DATA_LICENSES, label="License of the data")


class DatasetForm(forms.Form):
    name = forms.CharField(max_length=120, widget=forms.TextInput(attrs={"data-name-from-file": True}))
    task = forms.ChoiceField(
        choices=TASKS,
        widget=forms.RadioSelect,
        initial=Task.IMAGE_CLASSIFICATION.value,
    )
    license = forms.ChoiceField(
        choices=DATA_LICENSES,
        initial=OWN,
        required=False,
        label="License of the data",
        help_text="It binds what is trained on them: a model of non-commercial data cannot be sold.",
    )
    file = forms.FileField(label="Dataset file", required=False)
    upload = forms.UUIDField(required=False, widget=forms.HiddenInput)  # of a file that came in pieces before

    def task_cards(self) -> list[tuple[Any, Upload]]:
        """Returns (radio button, what its task takes)."""
        return [(radio, UPLOADS[Task(radio.data["value"])]) for radio in self["task"]]


class RunForm(forms.Form):
    """One field for each entry of Hyper that the task reads under any of its strategies, beside the dataset and
    the strategy. The settings are filled in for one strategy, `filled_for`: those that still have its default
    count as untouched, and take the default of the strategy that is chosen in the end."""

    task = forms.CharField(widget=forms.HiddenInput)
    filled_for = forms.ChoiceField(choices=[(item.value, item.value) for item in Strategy], widget=forms.HiddenInput)
    dataset = forms.ModelChoiceField(Dataset.objects.none(), to_field_name="uid", empty_label=None)
    strategy = forms.ChoiceField(widget=forms.RadioSelect)
    budget_minutes = forms.IntegerField(
        min_value=1,
        max_value=MAX_BUDGET_MINUTES,
        required=False,
        label="Budget, minutes of compute",
        help_text="The run is stopped when it would use more. Nothing is charged then.",
    )

    def __init__(self, posted: Any, *, user: User, task: Task, initial: dict[str, Any]) -> None:
        strategies = STRATEGIES[task]
        wanted = initial.get("strategy")
        strategy = Strategy(wanted) if wanted in strategies else strategies[0]
        self._defaults = {item: defaults_for(task, item) for item in strategies}
        filled = {**self._filling(strategy), **initial}
        filled |= {"task": task.value, "strategy": strategy.value, "filled_for": strategy.value}
        super().__init__(posted, initial=filled)
        self.fields["dataset"].queryset = ready_datasets(user, task)  # type: ignore[attr-defined]  # ModelChoiceField's
        choices = [(item.value, titles.STRATEGIES[item]) for item in strategies]
        self.fields["strategy"].choices = choices  # type: ignore[attr-defined]  # ChoiceField's
        self._entries = [entry for entry in dataclasses.fields(Hyper) if self._readers(entry.name)]
        hints = get_type_hints(Hyper)
        for entry in self._entries:
            self.fields[entry.name] = _field(entry, hints[entry.name], task)

    @property
    def hyper(self) -> dict[str, Any]:
        """Returns what was chosen, without what was left at a default."""
        untouched = self._filling(Strategy(self.cleaned_data["filled_for"]))
        given = {name: self.cleaned_data[name] for name in untouched}
        return {name: value for name, value in given.items() if value is not None and value != untouched[name]}

    def _filling(self, strategy: Strategy) -> dict[str, Any]:
        """Returns what the settings show untouched: the strategy's defaults; of what it does not read, those of
        the first strategy that does."""
        filling: dict[str, Any] = {}
        for defaults in (self._defaults.get(strategy, {}), *self._defaults.values()):
            filling = {**defaults, **filling}
        return filling

    def _readers(self, name: str) -> list[Strategy]:
        return [strategy for strategy, defaults in self._defaults.items() if name in defaults]

    def strategy_cards(self) -> list[tuple[Any, str]]:
        """Returns (radio button, what the strategy does)."""
        return [(radio, titles.SENTENCES[Strategy(radio.data["value"])]) for radio in self["strategy"]]

    def settings(self) -> list[Setting]:
        return [self._setting(entry) for entry in self._entries]

    def advanced_settings(self) -> list[Setting]:
        return [setting for setting in self.settings() if setting.is_advanced]

    def plain_settings(self) -> list[Setting]:
        return [setting for setting in self.settings() if not setting.is_advanced]

    def _setting(self, entry: dataclasses.Field[Any]) -> Setting:
        readers = self._readers(entry.name)
        names = ", ".join(titles.STRATEGIES[item] for item in readers)
        note = "" if len(readers) == len(self._defaults) else f"Read by: {names}."
        defaults = {item.value: self._defaults[item][entry.name] for item in readers}
        return Setting(self[entry.name], " ".join(readers), json.dumps(defaults), note, entry.metadata["advanced"])


def ready_datasets(user: User, task: Task) -> Any:
    """Returns the datasets of the task that can be trained on."""
    return datasets_of(user).filter(status=DatasetStatus.VALID, task=task)


def _field(entry: dataclasses.Field[Any], kind: type[Any], task: Task) -> forms.Field:
    meta = entry.metadata
    shared: dict[str, Any] = {"label": meta["label"], "help_text": meta["help_text"]}
    if issubclass(kind, StrEnum):
        members = LOSSES[task] if kind is Loss else tuple(kind)
        return forms.ChoiceField(choices=[(item.value, titles.title_of(item)) for item in members], **shared)
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
    license = forms.ChoiceField(
        required=False, help_text="What the licenses of the model and of the data allow; none is widened."
    )
    price = forms.DecimalField(
        min_value=0,
        max_value=10_000_000,
        decimal_places=2,
        required=False,
        help_text="Empty for free. Selling needs the parent's consent to it.",
    )
    currency = forms.ChoiceField(
        choices=[(code, code) for code in CURRENCIES],
        required=False,
        help_text="Where a parent is due a least amount of each sale, its currency: nothing is converted here.",
    )

    def __init__(self, *args: Any, user: User, licenses: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["license"].choices = licenses  # type: ignore[attr-defined]  # ChoiceField's
        self.fields["namespace"].queryset = Namespace.objects.writable_by(user)  # type: ignore[attr-defined]  # ModelChoiceField's

    def clean(self) -> dict[str, Any]:
        return in_minor_units(self, dict(super().clean() or {}), "price")


class ReviewForm(forms.Form):
    rating = forms.TypedChoiceField(
        choices=[(number, f"{number} of {HIGHEST}") for number in range(HIGHEST, LOWEST - 1, -1)],
        coerce=int,
        widget=forms.RadioSelect,
        label="Rating",
    )
    text = forms.CharField(widget=forms.Textarea(attrs={"rows": 6}), max_length=4000, label="What should others know?")
    run = forms.ChoiceField(
        required=False,
        label="Measured on your data",
        help_text="Shown are its headline figure, the number of test items and digests: neither data nor classes.",
    )

    def __init__(self, *args: Any, runs: Iterable[Run], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", "Cite no measurement"), *((str(run.uid), _run_in_words(run)) for run in runs)]
        self.fields["run"].choices = choices  # type: ignore[attr-defined]  # ChoiceField's


def _run_in_words(run: Run) -> str:
    measured = run.headline
    figure = f"{measured.title} {100 * measured.value:.1f}% on {run.evaluation['items']} test items" if measured else ""
    return f"{run}, {run.dataset_version.dataset}: {figure}"
