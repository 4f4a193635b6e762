"""Git LFS as Hub clients without Xet speak it: a batch gives signed addresses, to which the bytes are sent whole or in
parts. Nothing is told to be here that the sender has not sent for this repository."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone
from rest_framework.request import Request

from marketplace import storage
from marketplace.inputs import JsonBody
from models_catalog.hub import passes
from models_catalog.hub.base import ErrorCode, HubError, HubView, answer
from models_catalog.hub.passes import LFS, Pass
from models_catalog.hub.writing import HubWrite, writer, written
from models_catalog.models import Listing
from models_catalog.services import parts, sent_files

MAX_OBJECTS = 256


class LfsBody(JsonBody):
    media_type = "application/vnd.git-lfs+json"


class Batch(HubWrite):
    parser_classes = [LfsBody, JsonBody]

    def post(self, request: Request, namespace: str, name: str) -> HttpResponse:
        listing = written(request, namespace, name)
        sent = request.data if isinstance(request.data, dict) else {}
        if sent.get("operation") != "upload":
            raise HubError(501, ErrorCode.NONE, "Large files are downloaded at their own address, not by LFS.")
        transfers, objects = sent.get("transfers") or ["basic"], sent.get("objects")
        if not isinstance(objects, list) or len(objects) > MAX_OBJECTS or not isinstance(transfers, list):
            raise HubError(400, ErrorCode.NONE, f"Send `objects`, at most {MAX_OBJECTS}.")
        asked = [_object(row) for row in objects]
        is_multipart = "multipart" in transfers and any(size > settings.LFS_PART_BYTES for _, size in asked)
        told = [_told(request, listing, oid, size, in_parts=is_multipart) for oid, size in asked]
        to_come = sum(row["size"] for row in told if "actions" in row)
        storage.require_room(to_come)
        sent_files.require_left(to_come, user=writer(request), now=timezone.now())
        return answer({"transfer": "multipart" if is_multipart else "basic", "objects": told})


def _object(row: Any) -> tuple[str, int]:
    oid, size = (row.get("oid"), row.get("size")) if isinstance(row, dict) else (None, None)
    if not isinstance(oid, str) or not storage.is_digest(oid) or not isinstance(size, int) or size < 1:
        raise HubError(400, ErrorCode.NONE, "Each object has the SHA-256 and the size of a file.")
    return oid, size


def _told(request: Request, listing: Listing, oid: str, size: int, *, in_parts: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
    if size > settings.MAX_ARTIFACT_BYTES:
        text = f"A file has at most {settings.MAX_ARTIFACT_BYTES / 2**20:,.0f} MiB."
        return {**told, "error": {"code": 413, "message": text}}
    now, user = timezone.now(), writer(request)
    here = sent_files.find(user=user, listing=listing, sha256=oid, now=now)
    if here is not None and here.bytes == size:
        return told  # without actions: the client goes on to the commit
    leave = Pass(LFS, user.pk, listing.pk, oid, size=size)
    has_parts = in_parts and size > settings.LFS_PART_BYTES
    if has_parts:
        leave = replace(leave, part_bytes=settings.LFS_PART_BYTES)
    token = passes.issue(leave, now=now)
    upload = {"href": _address(request, "hub_lfs_object", token)}
    if has_parts:
        numbers = range(1, math.ceil(size / leave.part_bytes) + 1)
        header = {str(number): _address(request, "hub_lfs_part", token, number) for number in numbers}
        upload = {**upload, "header": {"chunk_size": str(leave.part_bytes), **header}}  # type: ignore[dict-item]  # JSON
    verify = {"href": request.build_absolute_uri(f"/{listing}.git/info/lfs/objects/verify")}
    return {**told, "actions": {"upload": upload, "verify": verify}}


def _address(request: Request, name: str, *parts_of_it: Any) -> str:
    return request.build_absolute_uri(reverse(name, args=parts_of_it))


class Granted(HubView):
    """Base of the addresses that are their own leave: the clients send no token to them."""

    public_read = False
    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []
    throttle_classes: list[Any] = []  # `passes.holder` counts


class Object(Granted):
    def put(self, request: Request, token: str) -> HttpResponse:
        """Takes the whole file."""
        leave = passes.read(token, kind=LFS, now=timezone.now())
        sent_files.require_left(leave.size, user=passes.holder(leave)[0], now=timezone.now())
        _take(leave, request._request)  # noqa: SLF001 - as a stream
        return HttpResponse()

    def post(self, request: Request, token: str) -> HttpResponse:
        """Joins the parts."""
        leave = passes.read(token, kind=LFS, now=timezone.now())
        user, listing = passes.holder(leave)
        place = _place(leave)
        paths = [place / str(number) for number in range(1, _count(leave) + 1)]
        if all(path.is_file() for path in paths) and paths:
            _take(leave, parts.Joined(paths))
            parts.drop(place)
        elif sent_files.find(user=user, listing=listing, sha256=leave.subject, now=timezone.now()) is None:
            raise HubError(400, ErrorCode.NONE, "Some parts have not arrived. Send them all, then complete the upload.")
        return answer({})


class Part(Granted):
    def put(self, request: Request, token: str, number: int) -> HttpResponse:
        leave = passes.read(token, kind=LFS, now=timezone.now())
        user, _ = passes.holder(leave)
        if not 1 <= number <= _count(leave):
            raise HubError(400, ErrorCode.NONE, "This upload has no part of this number.")
        size = min(leave.part_bytes, leave.size - (number - 1) * leave.part_bytes)
        stream = request._request  # noqa: SLF001 - as a stream
        sent_files.require_left(size, user=user, now=timezone.now())
        tag = parts.keep(stream, _place(leave) / str(number), max_bytes=size, exact=True)
        return HttpResponse(headers={"ETag": f'"{tag}"'})


def _place(leave: Pass) -> Path:
    """The same for each pass of this object: who begins again goes on in the same place and fills no other."""
    key = f"{leave.listing}:{leave.subject}:{leave.size}:{leave.part_bytes}"
    return parts.folder(key, user=leave.user)


def _count(leave: Pass) -> int:
    return math.ceil(leave.size / leave.part_bytes) if leave.part_bytes else 0


def _take(leave: Pass, stream: storage.Readable) -> None:
    """Stores what was promised and nothing else, and remembers who sent it. Raises HubError (400)."""
    user, listing = passes.holder(leave)
    blob = storage.put(stream, max_bytes=leave.size, expected_sha256=leave.subject)
    if blob.bytes != leave.size:
        raise HubError(400, ErrorCode.NONE, f"{leave.size} bytes were announced, and {blob.bytes} came.")
    sent_files.record(user=user, listing=listing, blob=blob, now=timezone.now())


class Verify(HubWrite):
    parser_classes = [LfsBody, JsonBody]

    def post(self, request: Request, namespace: str, name: str) -> HttpResponse:
        listing = written(request, namespace, name)
        oid, size = _object(request.data)
        found = sent_files.find(user=writer(request), listing=listing, sha256=oid, now=timezone.now())
        if found is None or found.bytes != size:
            raise HubError(404, ErrorCode.ENTRY, "This object has not arrived whole. Upload it again.")
        return answer({})
