"""tus 1.0.0 (https://tus.io/protocols/resumable-upload): core, creation, expiration, checksum, termination."""

from __future__ import annotations

import base64
import binascii
import uuid
from typing import Any

from django.http import Http404
from django.urls import reverse
from django.utils import timezone
from django.utils.http import http_date
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace import storage
from marketplace.api import RawBody, View
from marketplace.errors import Conflict, DomainError, Invalid
from marketplace.uploads import services
from marketplace.uploads.models import Upload

VERSION = "1.0.0"
EXTENSIONS = "creation,expiration,checksum,termination"
ALGORITHM = "sha256"
_DIGITS = 15  # of a number of bytes: more than any disk has
_DIGEST_BYTES = 32


class UploadOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField(source="uid")
    filename = serializers.CharField()
    length = serializers.IntegerField(help_text="Bytes of the whole file")
    offset = serializers.IntegerField(help_text="Bytes that are here; the next piece begins there")
    sha256 = serializers.CharField(help_text="Of the whole file, once it is here")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(help_text="Moves on with each piece")


class OffsetBody(RawBody):
    media_type = "application/offset+octet-stream"


class UnknownVersion(DomainError):
    """The client speaks another version of tus than this server."""

    status = 412


def _header(name: str, text: str, *, required: bool = True) -> OpenApiParameter:
    return OpenApiParameter(name, str, OpenApiParameter.HEADER, required=required, description=text)


_TUS = OpenApiParameter("Tus-Resumable", str, OpenApiParameter.HEADER, required=True, enum=[VERSION])


class _TusView(View):
    """Both headers of tus stand on every answer, refusals too."""

    # Files of a release, or of a dataset.
    read_scope = ("models:write", "datasets:write")
    write_scope = ("models:write", "datasets:write")

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        speaks = request.method in ("HEAD", "POST", "PATCH", "DELETE") and hasattr(self, request.method.lower())
        if speaks and request.headers.get("Tus-Resumable", "") != VERSION:
            raise UnknownVersion("tus_version", f"Send the header Tus-Resumable: {VERSION}.")

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Response:
        answer: Response = super().finalize_response(request, response, *args, **kwargs)
        answer["Tus-Resumable"] = answer["Tus-Version"] = VERSION
        answer["Cache-Control"] = "no-store"
        return answer

    @extend_schema(exclude=True)
    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        return Response(
            status=204,
            headers={
                "Tus-Extension": EXTENSIONS,
                "Tus-Max-Size": str(services.max_bytes()),
                "Tus-Checksum-Algorithm": ALGORITHM,
            },
        )


class UploadsView(_TusView):
    limits_itself = ("POST",)  # bytes alone: what they become is limited where it is made

    @extend_schema(summary="Your uploads in pieces", responses=UploadOutput(many=True))
    def get(self, request: Request) -> Response:
        rows = Upload.objects.filter(user=request.user, expires_at__gt=timezone.now())
        return self.paginated(rows, UploadOutput)

    @extend_schema(
        summary="Begin an upload in pieces",
        request=None,
        parameters=[
            _TUS,
            _header("Upload-Length", "Bytes of the whole file"),
            _header("Upload-Metadata", "filename BASE64,sha256 BASE64 of 64 hexadecimal digits", required=False),
        ],
        responses={201: None},
    )
    def post(self, request: Request) -> Response:
        told = _metadata(request.headers.get("Upload-Metadata", ""))
        if (sha256 := told.get("sha256", "").lower()) and not storage.is_digest(sha256):
            raise Invalid("bad_metadata", "Upload-Metadata: sha256 is 64 hexadecimal digits, in base64.")
        row = services.begin(
            user=request.user,
            length=_number(request, "Upload-Length"),
            filename=told.get("filename", "")[:255],
            sha256=sha256,
            now=timezone.now(),
        )
        location = request.build_absolute_uri(reverse("api_upload", args=[row.uid]))
        return Response(status=201, headers={"Location": location, **_place(row)})


class UploadView(_TusView):
    parser_classes = [OffsetBody]
    limits_itself = ("GET", "HEAD", "PATCH", "DELETE")  # as above; only who began it knows its id

    @extend_schema(summary="An upload in pieces: how far it is", responses=UploadOutput)
    def get(self, request: Request, uid: uuid.UUID) -> Response:
        return Response(UploadOutput(_found(request, uid)).data)

    @extend_schema(exclude=True)
    def head(self, request: Request, uid: uuid.UUID) -> Response:
        row = _found(request, uid)
        return Response(headers={"Upload-Length": str(row.length), **_place(row)})

    @extend_schema(
        summary="Send the next piece",
        request={OffsetBody.media_type: OpenApiTypes.BINARY},
        parameters=[
            _TUS,
            _header("Upload-Offset", "Where the piece begins, in bytes"),
            _header("Upload-Checksum", "sha256 and the piece's digest in base64", required=False),
        ],
        responses={204: None},
    )
    def patch(self, request: Request, uid: uuid.UUID) -> Response:
        row, offset = _found(request, uid), _number(request, "Upload-Offset")
        digest = _checksum(request.headers.get("Upload-Checksum", ""))
        try:
            row = services.append(upload=row, stream=request.data, offset=offset, digest=digest, now=timezone.now())
        except Conflict as error:
            if "offset" in error.extra:
                self.headers["Upload-Offset"] = str(error.extra["offset"])
            raise
        except services.NoSuchUpload as error:  # dropped by another request since it was found
            raise Http404 from error
        return Response(status=204, headers=_place(row))

    @extend_schema(summary="Drop an upload", parameters=[_TUS], responses={204: None})
    def delete(self, request: Request, uid: uuid.UUID) -> Response:
        services.drop(_found(request, uid), now=timezone.now())
        return Response(status=204)


def _found(request: Request, uid: uuid.UUID) -> Upload:
    try:
        return services.find(user=request.user, uid=uid, now=timezone.now())
    except services.NoSuchUpload as error:  # named in a body it is a wrong value; here it is the address
        raise Http404 from error


def _place(row: Upload) -> dict[str, str]:
    return {"Upload-Offset": str(row.offset), "Upload-Expires": http_date(row.expires_at.timestamp())}


def _number(request: Request, header: str) -> int:
    text = request.headers.get(header, "")
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
        raise Invalid("bad_header", f"Send the header {header} with a number of bytes.")
    return int(text)


def _metadata(header: str) -> dict[str, str]:
    """Reads `key base64,key base64`; keys without a value count as empty."""
    told = {}
    for pair in header.split(","):
        key, _, value = pair.strip().partition(" ")
        try:
            told[key] = base64.b64decode(value, validate=True).decode("utf-8").replace("\0", "")
        except (binascii.Error, UnicodeDecodeError) as error:
            text = f"Upload-Metadata: the value of {key[:40]} is not UTF-8 in base64."
            raise Invalid("bad_metadata", text) from error
    return told


def _checksum(header: str) -> bytes | None:
    if not header:
        return None
    algorithm, _, value = header.partition(" ")
    try:
        digest = base64.b64decode(value, validate=True)
    except binascii.Error:
        digest = b""
    if algorithm != ALGORITHM or len(digest) != _DIGEST_BYTES:
        raise Invalid("bad_checksum", "Upload-Checksum is `sha256 ` and the piece's SHA-256 in base64.")
    return digest
