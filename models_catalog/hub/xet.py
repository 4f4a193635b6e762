"""The write side of Xet, by which clients with hf-xet send large files: chunks, then the list of files made of them.

Each upload has a session, hence an address, of its own: the clients remember by address what they have sent, and nobody's
chunks are ever found again by another. Nothing of it is offered on reads."""

from __future__ import annotations

import re
import secrets
from typing import Any

from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone
from rest_framework.authentication import get_authorization_header
from rest_framework.request import Request

from marketplace.accounts.models import User
from models_catalog.hub import passes
from models_catalog.hub.base import ErrorCode, HubError, HubView, answer
from models_catalog.hub.passes import XET, Pass
from models_catalog.hub.writing import HubWrite, writer, written
from models_catalog.models import Listing
from models_catalog.services import sent_files, xet

_HASH = re.compile(r"[0-9a-f]{64}")


class WriteToken(HubWrite):
    def get(self, request: Request, namespace: str, name: str, revision: str) -> HttpResponse:
        listing = written(request, namespace, name)
        session, now = secrets.token_hex(16), timezone.now()
        sent_files.require_left(1, user=writer(request), now=now)
        token = passes.issue(Pass(XET, writer(request).pk, listing.pk, session), now=now)
        address = request.build_absolute_uri(reverse("hub_xet", args=(session,)))
        expires = int((now + passes.LIFETIME).timestamp())
        headers = {"X_Xet_Cas_Url": address, "X_Xet_Access_Token": token, "X_Xet_Token_Expiration": str(expires)}
        return answer({"casUrl": address, "accessToken": token, "exp": expires}, **headers)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.read_scope = self.write_scope  # a GET that leads to writing
        super().initial(request, *args, **kwargs)


class Session(HubView):
    """Base of a session's addresses; its token was given with it, and is no token of the API."""

    public_read = False
    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []
    throttle_classes: list[Any] = []  # `passes.holder` counts

    def holder(self, request: Request, session: str) -> tuple[User, Listing]:
        """Returns who sends, and for which listing. Raises HubError (401, 403), Denied (`not_the_vendor`)."""
        scheme, _, token = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            raise HubError(401, ErrorCode.NONE, "Send the session's accessToken.")
        leave = passes.read(token.strip(), kind=XET, now=timezone.now())
        if leave.subject != session:
            raise HubError(403, ErrorCode.NONE, "This token is of another upload.")
        return passes.holder(leave)


class Nothing(Session):
    """What is asked before sending: whether a chunk is known. It never is, and other versions are not spoken."""

    def get(self, request: Request, session: str, rest: str = "") -> HttpResponse:
        raise HubError(404, ErrorCode.NONE, "Not found.")

    post = put = get


class Xorb(Session):
    def post(self, request: Request, session: str, name: str) -> HttpResponse:
        user, _ = self.holder(request, session)
        if not _HASH.fullmatch(name):
            raise HubError(400, ErrorCode.NONE, "A xorb is named by its hash.")
        stream = request._request  # noqa: SLF001 - as a stream
        is_new = xet.keep_xorb(user=user, session=session, name=name, stream=stream, now=timezone.now())
        return answer({"was_inserted": is_new})


class Shard(Session):
    def post(self, request: Request, session: str) -> HttpResponse:
        user, listing = self.holder(request, session)
        stream = request._request  # noqa: SLF001 - as a stream
        xet.rebuild(user=user, listing=listing, session=session, stream=stream, now=timezone.now())
        return answer({"result": 1})
