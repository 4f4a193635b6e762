"""A release and everything that it comes from as a CycloneDX 1.6 ML-BOM.

The library writes and validates components, licenses, hashes and dependencies; of a machine-learning model's own
parts (`modelCard`, `data`), which it has no classes for, the JSON is written here.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.license import DisjunctiveLicense, License
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.spdx import is_supported_id

from models_catalog.models import LineageEdge, Release
from models_catalog.terms import Terms

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:model-marketplace:bom")
_RELATION = "marketplace:relation"


def bom(release: Release, *, ancestors: Iterable[Release], edges: Iterable[LineageEdge], at: datetime) -> bytes:
    """Returns the document; the same bytes for the same rows. `ancestors` that are not in the catalog any more are
    told by digest and license alone. `at` is when the release was published."""
    edges = list(edges)
    models = {release.pk: _model(release, named=True)}
    models |= {row.pk: _model(row, named=row.is_live) for row in ancestors}
    datasets = {edge.dataset_sha256: _dataset(edge) for edge in edges if edge.dataset_sha256}
    own = models[release.pk]
    document = Bom(
        serial_number=uuid.uuid5(_NAMESPACE, release.manifest_sha256),
        metadata=BomMetaData(
            component=own, timestamp=at, tools=ToolRepository(components=[_this_site()]), manufacturer=_vendor(release)
        ),
        components=[*(model for pk, model in models.items() if pk != release.pk), *datasets.values()],
        dependencies=_dependencies(edges, models, datasets),
    )
    written = json.loads(JsonV1Dot6(document).output_as_string())
    _add_cards(written, release, edges)
    return json.dumps(written, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _this_site() -> Component:
    return Component(name="model-marketplace", type=ComponentType.APPLICATION, bom_ref="tool:model-marketplace")


def _vendor(release: Release) -> OrganizationalEntity:
    return OrganizationalEntity(name=release.listing.namespace.name)


def _model(row: Release, *, named: bool) -> Component:
    digest = row.manifest_sha256
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"model:{digest}",
        group=row.listing.namespace.name if named else None,
        name=row.listing.name if named else "a private model",
        version=row.version if named else digest[:12],
        description=row.listing.title if named else None,
        licenses=[_license(row.terms.value)],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
        properties=[Property(name="marketplace:terms_hash", value=row.terms.terms_hash)],
        components=_files(row) if named else None,
    )


def _files(row: Release) -> list[Component]:
    return [
        Component(
            type=ComponentType.FILE,
            bom_ref=f"file:{row.manifest_sha256}:{file.path}",
            name=file.path,
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=file.sha256)],
        )
        for file in row.artifacts.all()
    ]


def _license(terms: Terms) -> License:
    """By SPDX identifier where the license has one, else by name; the texts lie beside this document."""
    known = is_supported_id(terms.spdx_id)
    return DisjunctiveLicense(id=terms.spdx_id) if known else DisjunctiveLicense(name=terms.name)


def _dataset(edge: LineageEdge) -> Component:
    return Component(
        type=ComponentType.DATA,
        bom_ref=f"dataset:{edge.dataset_sha256}",
        name=edge.dataset_name or "a private dataset",
        licenses=[_license(edge.terms.value)] if edge.terms else None,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=edge.dataset_sha256)],
    )


def _dependencies(
    edges: list[LineageEdge], models: dict[int, Component], datasets: dict[str, Component]
) -> list[Dependency]:
    needed: dict[int, list[Component]] = {pk: [] for pk in models}
    for edge in edges:
        parent = datasets[edge.dataset_sha256] if edge.parent_id is None else models[edge.parent_id]
        needed[edge.child_id].append(parent)
    return [
        Dependency(ref=models[pk].bom_ref, dependencies=[Dependency(ref=parent.bom_ref) for parent in parents])
        for pk, parents in needed.items()
    ]


def _add_cards(written: dict[str, Any], release: Release, edges: list[LineageEdge]) -> None:
    """Adds what the library has no classes for: the model card of the release, and that data are datasets."""
    trained_on = [edge.dataset_sha256 for edge in edges if edge.child_id == release.pk and edge.dataset_sha256]
    card = {
        "modelParameters": {
            "task": release.listing.task,
            "modelArchitecture": release.listing.architecture,
            "datasets": [{"ref": f"dataset:{digest}"} for digest in sorted(set(trained_on))],
        },
        "properties": [
            {"name": f"{_RELATION}:{edge.relation}", "value": edge.parent_manifest_sha256 or edge.dataset_sha256}
            for edge in edges
            if edge.child_id == release.pk
        ],
    }
    if figures := _figures(release.metrics.get("metrics", {})):
        card["quantitativeAnalysis"] = {"performanceMetrics": figures}
    written["metadata"]["component"]["modelCard"] = card
    for component in written.get("components", []):
        if component["type"] == ComponentType.DATA.value:
            component["data"] = [{"type": "dataset", "name": component["name"]}]


def _figures(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The headline figures of the evaluation, with their intervals where they have one."""
    found = []
    for name, entry in sorted(metrics.items()):
        value = entry.get("value") if isinstance(entry, dict) else entry
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        figure: dict[str, Any] = {"type": name, "value": f"{value:.6g}"}
        if isinstance(entry, dict) and {"low", "high"} <= entry.keys():
            bounds = {"lowerBound": f"{entry['low']:.6g}", "upperBound": f"{entry['high']:.6g}"}
            figure["confidenceInterval"] = bounds
        found.append(figure)
    return found
