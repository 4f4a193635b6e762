"""The example data sets that a visitor can download and upload again, one or more for each task.

They are files of the installation, not of a user: no row knows them, and building them again gives the same bytes.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from finetuning.engine import spec as engine
from finetuning.runner import Ending, Signal, run_engine
from marketplace import packages
from marketplace.errors import Unavailable
from models_catalog.models.listings import TASKS

_DEADLINE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Example:
    """`file` is the download's name; `items` counts images or texts; `credit` names sources and licenses."""

    name: str
    file: str
    task: str
    title: str
    items: int
    classes: int
    credit: str
    bytes: int

    @property
    def path(self) -> Path:
        return Path(settings.EXAMPLES_DIR) / self.file

    @property
    def task_title(self) -> str:
        return dict(TASKS)[self.task]

    @property
    def unit(self) -> str:
        return "texts" if self.task == engine.Task.TEXT_CLASSIFICATION else "images"


def available() -> list[Example]:
    """Returns the examples that were built here, in the order of the tasks."""
    try:
        document = json.loads((Path(settings.EXAMPLES_DIR) / engine.RESULT_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    sizes = document["outputs"]
    return [Example(**entry, bytes=sizes[entry["file"]]["bytes"]) for entry in document["examples"]]


def find(name: str) -> Example | None:
    return next((example for example in available() if example.name == name), None)


def build(*, snippets: Path | None = None) -> list[str]:
    """Builds the examples from the installed packages, and from `snippets`, the distribution
    `packages.RATED_SNIPPETS`, where it is given. Returns the names of those that lack their source. Raises
    Unavailable (`demo_failed`)."""
    target = Path(settings.EXAMPLES_DIR)
    spec = engine.ExamplesSpec()
    with tempfile.TemporaryDirectory(dir=settings.DATA_DIR, prefix="examples-") as name:
        run_dir = Path(name)
        _copy_catalogs(run_dir / spec.catalogs, spec.languages)
        if snippets is not None:
            shutil.copyfile(snippets, run_dir / spec.snippets)
        engine.write(spec, run_dir)
        outcome = run_engine(
            engine.Verb.EXAMPLES,
            run_dir,
            on_events=lambda _: None,
            heartbeat=lambda: Signal.CONTINUE,
            deadline_seconds=_DEADLINE_SECONDS,
        )
        if outcome.ending is not Ending.SUCCEEDED:
            raise Unavailable("demo_failed", f"The examples could not be built: {outcome.message} ({outcome.code})")
        outputs = run_dir / engine.OUTPUTS_DIR
        os.replace(run_dir / engine.RESULT_FILE, outputs / engine.RESULT_FILE)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(outputs, target)
    return [str(entry["name"]) for entry in outcome.result["missing"]]


def _copy_catalogs(target: Path, languages: tuple[str, ...]) -> None:
    """Lays out Django's compiled catalogues as `LANGUAGE/PART.mo`."""
    root = packages.folder_of("django")
    for language in languages:
        folder = target / language
        folder.mkdir(parents=True)
        for path in sorted(root.glob(f"**/locale/{language}/LC_MESSAGES/django.mo")):
            shutil.copyfile(path, folder / f"{path.parts[-5]}.mo")
