"""Run directories: blobs in, blobs out. A directory belongs to one verb of one subject.
And serving directories: the files of a published release, or of a run's result, as the predictor reads them."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings

from finetuning.engine import plain_files
from finetuning.engine import spec as engine
from finetuning.engine.crash_points import Point, reach
from marketplace import storage
from marketplace.errors import Conflict
from models_catalog.models import Artifact, Listing, Release
from models_catalog.models.listings import ReleaseStatus

WEIGHTS_DOCUMENT = "weights.json"  # what `serve` is told of a release; written last
_NAME_DIGITS = 40  # hexadecimal, as a revision has: what `serve` takes for a name
LAYING_OUT = ".laying-out-"  # prefix of a serving directory that is not whole yet
# What models carry beside config and weights: tokenizers, and how images are prepared.
_READ_BY_NAME = frozenset(
    {
        engine.CONFIG_FILE,
        engine.KERAS_FILE,
        engine.POOLING_FILE,
        engine.LENGTH_FILE,
        *engine.TOKENIZER_FILES,
        "merges.txt",
        "preprocessor_config.json",
        "sentencepiece.bpe.model",
        "spiece.model",
        "vocab.json",
    }
)


def directory(kind: str, pk: int, verb: engine.Verb) -> Path:
    return Path(settings.RUNS_DIR) / f"{kind}-{pk}" / verb.value


def prepare(path: Path, spec: engine.Spec, inputs: dict[str, str]) -> Path:
    """Lays out the run directory: the spec, and every input (path below `inputs/` -> sha256) as a link.

    A finished result of the same spec stays: a later attempt then finds it and does not work twice. Where an earlier
    engine left anything but files and folders, none of it stays."""
    if path.exists() and not plain_files.are_plain(path):
        shutil.rmtree(path)
    if (path / engine.SPEC_FILE).exists():
        try:
            same = engine.read(path) == spec
        except engine.SpecError:
            same = False
        if not same:
            shutil.rmtree(path)
    path.mkdir(parents=True, exist_ok=True)
    for name, sha256 in inputs.items():
        target = path / engine.INPUTS_DIR / name
        if not target.exists():
            storage.link_into(sha256, target)
    reach(Point.INPUTS_LINKED)
    engine.write(spec, path)
    return path


def is_read(path: str) -> bool:
    """Whether the engine reads this file of a release. What a vendor adds beside it, in folders or under names
    of ours, never reaches a directory of ours."""
    return path in _READ_BY_NAME or ("/" not in path and path.endswith(".safetensors"))


def _files_of(release: Release) -> list[Artifact]:
    return [file for file in release.artifacts.all() if is_read(file.path)]


def release_inputs(release: Release, folder: str = "release") -> dict[str, str]:
    return {f"{folder}/{file.path}": file.sha256 for file in _files_of(release)}


def weights_spec(release: Release, folder: str = "release", *, task: engine.Task | None = None) -> engine.WeightsSpec:
    """Describes the release's weights; with `task`, those that were tuned from them to do it."""
    return engine.WeightsSpec(
        task=task or engine.Task(release.listing.task),
        framework=engine.Framework(release.listing.framework),
        architecture=release.listing.architecture,
        directory=f"{engine.INPUTS_DIR}/{folder}",
    )


def collect(path: Path, result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Moves the outputs into storage after checking them against the digests of the result. Returns
    {path: {sha256, bytes}}. Raises ValueError where a file is not the one that the engine reported, or no file."""
    collected: dict[str, dict[str, Any]] = {}
    for name, entry in sorted(result.get("outputs", {}).items()):
        with plain_files.reading(path / engine.OUTPUTS_DIR, name) as file:
            blob = storage.put_own(storage.pieces(file))
        if blob.sha256 != entry["sha256"]:
            raise ValueError(f"{name} changed after the engine had finished")
        collected[name] = {"sha256": blob.sha256, "bytes": blob.bytes}
    return collected


def discard(kind: str, pk: int) -> None:
    shutil.rmtree(Path(settings.RUNS_DIR) / f"{kind}-{pk}", ignore_errors=True)


def lay_out(release: Release) -> str:
    """Makes a published release readable by the predictor and returns its directory's name, the revision.
    Raises Conflict (`not_published`): only a manifest names files that never change."""
    if release.status not in (ReleaseStatus.PUBLISHED, ReleaseStatus.YANKED) or not release.sha:
        raise Conflict("not_published", "Only a published release can be tried. Publish it first.")
    files = {file.path: file.sha256 for file in _files_of(release)}
    return _lay_out(release.sha, files, _described(release.listing, release.listing.task))


def lay_out_tuned(base: Release, files: dict[str, str], *, task: engine.Task) -> str:
    """The same for weights that were tuned from a release and belong to none yet: {path: sha256}, whose directory has
    the digest of them all as its name."""
    read = {path: sha256 for path, sha256 in files.items() if is_read(path)}
    document = _described(base.listing, task.value)
    name = hashlib.sha256(engine.canonical({"files": read, **document})).hexdigest()[:_NAME_DIGITS]
    return _lay_out(name, read, document)


def _described(listing: Listing, task: str) -> dict[str, Any]:
    return {"task": task, "framework": listing.framework, "architecture": listing.architecture}


def _lay_out(name: str, files: dict[str, str], document: dict[str, Any]) -> str:
    """The directory appears whole under its name, whoever else does the same at the same time."""
    target = Path(settings.SERVING_DIR) / name
    try:
        os.utime(target)  # the sweep takes what nobody has used for a day
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=LAYING_OUT))
        try:
            draft.chmod(0o755)
            _fill(draft, files, document)
            draft.rename(target)
        except OSError:
            if not target.is_dir():  # else another request was faster, and its copy is the same
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return name


def _fill(directory: Path, files: dict[str, str], document: dict[str, Any]) -> None:
    for path, sha256 in files.items():
        storage.link_into(sha256, directory / path)
    with (directory / WEIGHTS_DOCUMENT).open("wb") as last:
        last.write(engine.canonical(document))
        last.flush()
        os.fsync(last.fileno())
