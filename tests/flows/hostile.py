"""What a hostile or careless client sends: bytes built by hand, and HTTP without a library's good manners."""

from __future__ import annotations

import http.client
import io
import json
import re
import struct
import threading
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from html import unescape
from typing import Any

import numpy as np
from archives_factory import Member, class_folders, encoded, picture, raw_zip, zip_of
from live_stack import Stack, multipart
from PIL import Image

PASSWORD = "marketplace-demo"
LAUGHING = "\N{FACE WITH TEARS OF JOY}"
CHINESE = "\u732b"
RIGHT_TO_LEFT = "\N{RIGHT-TO-LEFT OVERRIDE}"
SYMLINK = 0o120777 << 16
DEVICE = 0o020666 << 16
FIFO = 0o010644 << 16
ENCRYPTED = 1


# HTTP


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        return self.headers.get("content-type", "").split(";")[0]

    @property
    def json(self) -> Any:
        assert self.kind.endswith("json"), (self.status, self.kind, self.body[:300])
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The page without its tags, with single spaces."""
        visible = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", self.body.decode(), flags=re.DOTALL)
        return " ".join(unescape(visible).split())


def ask(
    stack: Stack,
    method: str,
    path: str,
    *,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    """One request as it is: no redirects, no retries, and the answer whatever it is."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=120)
    sent = {"Authorization": f"Bearer {token}"} if token is not None else {}
    try:
        connection.request(method, path, body=body, headers={**sent, **(headers or {})})
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)


@dataclass(frozen=True, slots=True)
class Api:
    """The API as one person with one token sees it."""

    stack: Stack
    token: str

    def ask(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        body: bytes | None = None,
        kind: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        if document is not None:
            body, kind = json.dumps(document).encode(), kind or "application/json"
        sent = {"Content-Type": kind} if kind else {}
        url = "/api/v1/" + path
        return ask(self.stack, method, url, token=self.token, headers={**sent, **(headers or {})}, body=body)

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status == 200, (path, answer)
        return answer.json

    def upload(self, name: str, content: bytes, *, filename: str = "upload.zip", **fields: str) -> Answer:
        form = {"name": name, "task": "image-classification", **fields}
        body, kind = multipart(form, filename, content)
        return self.ask("POST", "datasets/", body=body, kind=kind)

    def everything(self, path: str) -> list[Any]:
        """All results of a list, page after page."""
        results, place = [], f"/api/v1/{path}"
        while place:
            answer = ask(self.stack, "GET", place, token=self.token)
            assert answer.status == 200, (place, answer)
            results += answer.json["results"]
            rest = urllib.parse.urlsplit(answer.json["next"] or "")
            place = f"{rest.path}?{rest.query}" if rest.path else ""
        return results


class Browser:
    """Pages as a signed-in person gets them, with cookies and forms but without scripts."""

    def __init__(self, stack: Stack, username: str | None = None) -> None:
        self._stack, self._cookies = stack, dict[str, str]()
        if username:
            answer = self.post("/account/login/", {"login": username, "password": PASSWORD})
            assert answer.status == 302, answer

    def _ask(self, method: str, path: str, **options: Any) -> Answer:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        headers = {"Cookie": cookies, "Referer": self._stack.url + path, **options.pop("headers", {})}
        connection = http.client.HTTPConnection("127.0.0.1", self._stack.port, timeout=120)
        try:
            connection.request(method, path, headers=headers, **options)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        for cookie in response.headers.get_all("Set-Cookie") or []:
            name, _, value = cookie.strip().partition(";")[0].partition("=")
            self._cookies[name] = value
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)

    def get(self, path: str) -> Answer:
        return self._ask("GET", path)

    def post(self, path: str, fields: Mapping[str, str], *, file: tuple[str, bytes] | None = None) -> Answer:
        """Fetches the form first, as its page holds the token against forged requests."""
        form = {**fields, **self.protection(self.get(path))}
        return self.send(path, form, file=file)

    @staticmethod
    def protection(page: Answer) -> dict[str, str]:
        """The hidden field of the page's form against forged requests. Empty when the page has no form."""
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.body.decode())
        return {"csrfmiddlewaretoken": found.group(1)} if found else {}

    def send(self, path: str, form: Mapping[str, str], *, file: tuple[str, bytes] | None = None) -> Answer:
        """Sends the form as it is."""
        if file is None:
            body, kind = urllib.parse.urlencode(form).encode(), "application/x-www-form-urlencoded"
        else:
            body, kind = multipart(dict(form), *file)
        return self._ask("POST", path, body=body, headers={"Content-Type": kind})


# What a good refusal looks like

_LEAKS = re.compile(
    r"Traceback|\bFile \"|\.py\b|/tmp/|/home/|/usr/|/var/|/proc/|site-packages|0x[0-9a-f]{6,}"
    r"|\b[A-Z]\w+(Error|Exception)\b|<class |\bNone\b|\[Errno"
)
_CODE = re.compile(r"[a-z][a-z0-9_]{2,39}")


def faults_of_sentence(text: str) -> list[str]:
    """What keeps a message from being a sentence that a user can act on. Empty when it is one."""
    found = []
    if not text.endswith((".", "?")):
        found.append("does not end with a period")
    if len(text.split()) < 3:
        found.append("is too short to say what to do")
    if len(text) > 600:
        found.append("is too long to read")
    if any(ord(character) < 32 or character in RIGHT_TO_LEFT for character in text):
        found.append("holds control characters")
    if leak := _LEAKS.search(text):
        found.append(f"shows internals: {leak.group()}")
    return [f"{text[:200]!r} {fault}" for fault in found]


def assert_sentence(text: str) -> None:
    assert not faults_of_sentence(text)


def assert_code(code: str) -> None:
    assert _CODE.fullmatch(code), f"{code!r} is not a stable code"


def assert_refused(answer: Answer, statuses: int | set[int], *, codes: set[str] | None = None) -> dict[str, Any]:
    """The shape of every refusal: RFC 9457, a status, a stable code, sentences, and no internals."""
    wanted = {statuses} if isinstance(statuses, int) else statuses
    assert answer.status in wanted, (answer.status, answer.kind, answer.body[:400])
    assert answer.kind == "application/problem+json", (answer.status, answer.kind, answer.body[:200])
    problem = answer.json
    assert problem["status"] == answer.status
    assert problem["type"]
    assert problem["title"]
    assert_code(problem["code"])
    assert codes is None or problem["code"] in codes, problem
    faults = faults_of_sentence(problem["detail"])
    for error in problem["errors"]:
        assert_code(error["code"])
        faults += faults_of_sentence(error["detail"])
    assert not faults
    return problem


def field_names(problem: Mapping[str, Any]) -> set[str]:
    """The fields that a refusal points at, by the last part of their names."""
    return {error["field"].split(".")[-1] for error in problem["errors"]}


# Images


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))


def png_of(width: int, height: int, *, depth: int = 8, color: int = 2, rows: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG with any header; `rows` defaults to nothing, so that a large one stays small."""
    header = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


@cache
def vast_png(side: int = 20_000) -> bytes:
    """A true black-and-white image of `side` times `side` pixels in some kilobytes."""
    row = bytes(1 + (side + 7) // 8)
    return png_of(side, side, depth=1, color=0, rows=row * side)


def small_png(extra: bytes) -> bytes:
    rows = b"".join(b"\0" + bytes([row] * 48 * 3) for row in range(48))
    return png_of(48, 48, rows=rows, extra=extra)


@cache
def _bomb() -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()


def text_bomb_png() -> bytes:
    """A small image whose comment unpacks to 64 MiB."""
    return small_png(chunk(b"zTXt", b"comment\0\0" + _bomb()))


def profile_bomb_png() -> bytes:
    """A small image whose color profile unpacks to 64 MiB."""
    return small_png(chunk(b"iCCP", b"profile\0\0" + _bomb()))


def sixteen_bit_png(seed: int) -> bytes:
    grey = np.asarray(picture(seed).convert("L"), dtype=np.uint16) * 257
    return encoded(Image.fromarray(grey))


def rotated_jpeg(seed: int) -> bytes:
    """Lies on its side: 64 by 48 as stored, 48 by 64 once its EXIF orientation is obeyed. With a place, too."""
    tags = Image.Exif()
    tags[0x0112] = 6
    tags.get_ifd(0x8825)[2] = (48.0, 8.0, 0.0)
    return encoded(picture(seed).resize((64, 48)), "JPEG", exif=tags, quality=92)


def animated(seed: int, kind: str) -> bytes:
    frames = [picture(seed + number) for number in range(3)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


# Zips


def with_file(name: str, content: bytes) -> bytes:
    """A good data set and one more file."""
    return zip_of({**class_folders(), name: content})


def with_members(*members: Member) -> bytes:
    good = [Member(name=name.encode(), content=content) for name, content in class_folders().items()]
    return raw_zip([*good, *members])


def with_name(name: bytes, **options: Any) -> bytes:
    return with_members(Member(name=name, content=encoded(picture(77)), **options))


def all_images(make: Callable[[int], bytes], suffix: str, labels: tuple[str, str] = ("cats", "dogs")) -> bytes:
    """Two classes of eight images that `make` builds from a seed."""
    return zip_of(
        {
            f"{label}/{number:03d}.{suffix}": make(1000 * position + number)
            for position, label in enumerate(labels)
            for number in range(8)
        }
    )


def labelled(*labels: str) -> bytes:
    return zip_of(class_folders(labels))


def repeated(name: str, size: int) -> bytes:
    """A zip with one member of zeros that unpacks to `size` bytes."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        for _ in range(size >> 20):
            member.write(bytes(1 << 20))
    return buffer.getvalue()


def quilt(copies: int) -> bytes:
    """Many directory entries that share the bytes of one member (CVE-2024-0450)."""
    kernel = Member(name=b"cats/000.png", content=bytes(1 << 20))
    return raw_zip(
        [kernel, *(Member(name=b"cats/%03d.png" % n, content=kernel.content, offset=0) for n in range(1, copies))]
    )


def lying_directory(content: bytes, *, entries: int | None = None, size: int | None = None) -> bytes:
    """The same zip with another number of entries or another directory size in its last record."""
    fields = list(struct.unpack("<4s4H2LH", content[-22:]))
    if entries is not None:
        fields[3] = fields[4] = entries
    if size is not None:
        fields[5] = size
    return content[:-22] + struct.pack("<4s4H2LH", *fields)


def flipped(content: bytes, needle: bytes, distance: int) -> bytes:
    """One byte changed `distance` after the first `needle`."""
    place = content.index(needle) + distance
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


def stored(files: Mapping[str, bytes]) -> bytes:
    return raw_zip([Member(name=name.encode(), content=content, method=0) for name, content in files.items()])


def zip64(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(content)
    return buffer.getvalue()


# Weights


def safetensors_of(tensors: Mapping[str, tuple[str, list[int], bytes]], metadata: Any = None) -> bytes:
    """`{name: (dtype, shape, bytes)}` laid out one after the other."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    body = bytearray()
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(content)]}
        body += content
    return headed(json.dumps(header).encode(), bytes(body))


def headed(header: bytes, body: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file of these parts, whose header may claim any length."""
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def opened(content: bytes) -> tuple[dict[str, Any], bytes]:
    """(header, body) of a safetensors file."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


@dataclass
class Marked:
    """A pickle that would leave a file at `path` if anybody ever loaded it."""

    path: str

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.path, "w"))


def at_once(tasks: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Calls all of them in threads, and returns what each returned."""
    results: dict[str, Any] = {}
    threads = [
        threading.Thread(target=lambda name=name, task=task: results.__setitem__(name, task()))
        for name, task in tasks.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
