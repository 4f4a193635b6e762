"""Run directories: blobs in, blobs out. A directory belongs to one verb of one subject."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from django.conf import settings

from finetuning.engine import spec as engine
from marketplace import storage
from models_catalog.models import Release


def directory(kind: str, pk: int, verb: engine.Verb) -> Path:
    return Path(settings.RUNS_DIR) / f"{kind}-{pk}" / verb.value


def prepare(path: Path, spec: engine.Spec, inputs: dict[str, str]) -> Path:
    """Lays out the run directory: the spec, and every input (path below `inputs/` -> sha256) as a link.

    A finished result of the same spec stays: a later attempt then finds it and does not work twice."""
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
    engine.write(spec, path)
    return path


def release_inputs(release: Release, folder: str = "release") -> dict[str, str]:
    return {f"{folder}/{file.path}": file.sha256 for file in release.artifacts.all()}


def weights_spec(release: Release, folder: str = "release") -> engine.WeightsSpec:
    return engine.WeightsSpec(
        task=engine.Task(release.listing.task),
        framework=engine.Framework(release.listing.framework),
        architecture=release.listing.architecture,
        directory=f"{engine.INPUTS_DIR}/{folder}",
    )


def collect(path: Path, result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Moves the outputs into storage after checking them against the digests of the result. Returns
    {path: {sha256, bytes}}. Raises ValueError where a file is not the one that the engine reported."""
    collected: dict[str, dict[str, Any]] = {}
    for name, entry in sorted(result.get("outputs", {}).items()):
        blob = storage.put_file(path / engine.OUTPUTS_DIR / name)
        if blob.sha256 != entry["sha256"]:
            raise ValueError(f"{name} changed after the engine had finished")
        collected[name] = {"sha256": blob.sha256, "bytes": blob.bytes}
    return collected


def discard(kind: str, pk: int) -> None:
    shutil.rmtree(Path(settings.RUNS_DIR) / f"{kind}-{pk}", ignore_errors=True)


def lay_out(release: Release) -> str:
    """Makes a release readable by the predictor and returns its directory's name, the revision."""
    name = release.sha
    target = Path(settings.SERVING_DIR) / name
    if not (target / "weights.json").exists():
        for file in release.artifacts.all():
            storage.link_into(file.sha256, target / file.path)
        document = {
            "task": release.listing.task,
            "framework": release.listing.framework,
            "architecture": release.listing.architecture,
        }
        (target / "weights.json").write_bytes(engine.canonical(document))
    return name
