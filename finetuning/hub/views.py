"""What Hub clients read of data sets. Each is its owner's: for everybody else there is none of the name."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpResponse, HttpResponseBase
from rest_framework.parsers import FormParser
from rest_framework.request import Request

from finetuning import policies
from finetuning.hub import documents
from finetuning.hub.repositories import (
    MAIN,
    DataRepository,
    at_version,
    dataset_of,
    history,
    readable,
    repository,
)
from finetuning.models import Dataset
from finetuning.models.datasets import DatasetStatus
from marketplace import downloads
from marketplace.decisions import require
from marketplace.inputs import JsonBody
from marketplace.throttling import FILES
from models_catalog.hub import trees
from models_catalog.hub.base import HubView, answer
from models_catalog.hub.listings import HubPages
from models_catalog.hub.repos import Refused
from models_catalog.hub.trees import split_revision
from models_catalog.kinds import HUB_TASKS

MAX_WORDS = 120  # characters of a search, as many as a name has
_TASKS = {hub: own for own, hub in HUB_TASKS.items()}


class DataView(HubView):
    read_scope, write_scope = "datasets:read", "datasets:write"
    limits_itself = ("GET", "HEAD", "POST")  # by `Dataset.objects.visible_to`


class Datasets(DataView):
    def get(self, request: Request) -> HttpResponse:
        pages = HubPages()
        pages.ordering = ("-created_at", "-id")
        rows: list[Dataset] = list(pages.paginate_queryset(_chosen(request), request, view=self) or [])
        asked = request.query_params
        card = asked.get("full") in trees.TRUE or "expand" in asked
        following = pages.get_next_link()
        headers = {"Link": f'<{following}>; rel="next"'} if following else {}
        newest = (at_version(row, row.versions.all()[0]) for row in rows)
        return answer([documents.dataset(found, card=card) for found in newest], **headers)


def _chosen(request: Request) -> QuerySet[Dataset]:
    """Returns what the query asks for, of what has a version. A tag that no data set here has finds none."""
    asked, rows = request.query_params, readable(request).filter(status=DatasetStatus.VALID)
    for words in asked.getlist("search"):
        rows = rows.filter(name__icontains=words[:MAX_WORDS])
    if author := asked.get("author", "")[:MAX_WORDS]:
        rows = rows.filter(owner__name__iexact=author)
    if asked.get("gated") in trees.TRUE:
        return rows.none()
    for tag in (one.strip() for tags in asked.getlist("filter") for one in tags.split(",")):
        kind, _, value = tag[:MAX_WORDS].partition(":")
        if kind == "task_categories":
            rows = rows.filter(task=_TASKS.get(value, value))
        elif kind == "license":
            own = Q(terms__license_id__iexact=value)
            rows = rows.filter(own | Q(terms__isnull=True) if value == "other" else own)
        elif kind:
            return rows.none()
    return rows


class Info(DataView):
    def get(self, request: Request, namespace: str, name: str, revision: str = MAIN) -> HttpResponse:
        found = repository(request, namespace, name, revision)
        document = documents.dataset(found)
        blobs = request.query_params.get("blobs") in trees.TRUE
        document["siblings"] = trees.siblings(found.files, blobs=blobs)
        document["usedStorage"] = sum(file.bytes for file in found.files)
        return answer(document)


class Tree(DataView):
    def get(self, request: Request, namespace: str, name: str, rest: str) -> HttpResponse:
        revision, path = split_revision(rest)
        found = repository(request, namespace, name, revision)
        return trees.tree(request, path, files=found.files, revision=found.revision)


class Paths(DataView):
    """Files by name. It changes nothing."""

    parser_classes = [FormParser, JsonBody]
    changes_nothing = True

    def post(self, request: Request, namespace: str, name: str, rest: str) -> HttpResponse:
        found = repository(request, namespace, name, split_revision(rest)[0])
        return trees.paths(request, files=found.files, revision=found.revision)


class References(DataView):
    def get(self, request: Request, namespace: str, name: str) -> HttpResponse:
        return answer(documents.references(history(dataset_of(request, namespace, name))))


class Commits(DataView):
    """The versions from the one that is asked for on, newest first."""

    def get(self, request: Request, namespace: str, name: str, rest: str) -> HttpResponse:
        found = repository(request, namespace, name, rest)
        every = history(found.dataset)
        return answer([documents.commit(one) for one in every if one.version.number <= found.version.number])


class AuthCheck(DataView):
    def get(self, request: Request, namespace: str, name: str, right: str = "") -> HttpResponse:
        dataset = dataset_of(request, namespace, name)
        if right:
            require(policies.may_change(request.user, dataset.owner))
        return answer({})

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("right"):
            self.read_scope = self.write_scope  # a GET that asks about writing
        super().initial(request, *args, **kwargs)


class Resolve(DataView):
    """A file, or a range of it."""

    rate_bucket = FILES

    def get(self, request: Request, namespace: str, name: str, rest: str) -> HttpResponseBase:
        revision, path = split_revision(rest)
        found = repository(request, namespace, name, revision)
        return _served(request, found, path)


def _served(request: Request, found: DataRepository, path: str) -> HttpResponseBase:
    file = found.file(path)
    plain = request._request  # noqa: SLF001 - DRF's own way to Django's request
    if file.text is None:
        response = downloads.blob_response(plain, sha256=file.sha256, size=file.bytes, filename=file.path)
    else:
        kind = "text/plain; charset=utf-8"
        response = downloads.bytes_response(plain, content=file.text.encode(), filename=file.path, content_type=kind)
    return trees.linked(response, file=file, sha=found.revision.sha)


class Unwritten(Refused):
    """What changes a repository: a data set is one upload, which is checked whole."""

    read_scope, write_scope = "datasets:read", "datasets:write"
    limits_itself = ("GET", "POST", "PUT", "DELETE")  # it does nothing
    message = (
        "A data set is one upload of this site, which its check accepts or refuses whole: send the archive to POST "
        "/api/v1/datasets/ or on the page of your data sets, and delete it there."
    )
