"""A large file goes on where it stopped, after the line broke and the page was opened anew."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from live_stack import Stack
from playwright.sync_api import Page, Route, expect

pytestmark = pytest.mark.stack
PIECE_BYTES = 8 * 2**20  # as static/js/upload.js sends them
FILE_BYTES = 3 * PIECE_BYTES


def test_a_file_goes_on_after_the_page_was_opened_anew(
    signed_in: Callable[[str], Page], stack: Stack, tmp_path: Path
) -> None:
    page = signed_in("buyer").context.new_page()  # not watched: the browser reports a refusal as an error
    noise = tmp_path / "holiday.zip"
    noise.write_bytes(os.urandom(FILE_BYTES))
    begun, pieces = [], []

    def first_piece_only(route: Route) -> None:
        if route.request.method == "PATCH" and route.request.headers["upload-offset"] != "0":
            route.fulfill(status=403, content_type="application/problem+json", body='{"detail": "The line broke."}')
        else:
            route.continue_()

    page.on("request", lambda request: begun.append(request) if is_upload(request, "POST") else None)
    page.on(
        "request",
        lambda request: pieces.append(request.headers["upload-offset"]) if is_upload(request, "PATCH") else None,
    )
    page.route("**/api/v1/uploads/**", first_piece_only)
    choose(page, stack, noise)
    expect(page.get_by_role("alert")).to_contain_text("The line broke.")
    assert pieces == ["0", str(PIECE_BYTES)]

    page.unroute("**/api/v1/uploads/**")
    pieces.clear()
    choose(page, stack, noise)
    page.wait_for_url(re.compile(r"/datasets/[0-9a-f-]{36}/"))

    assert len(begun) == 1
    assert pieces == [str(PIECE_BYTES), str(2 * PIECE_BYTES)]
    digest = hashlib.sha256(noise.read_bytes()).hexdigest()
    uid = page.url.rstrip("/").split("/")[-1]
    assert page.request.get(f"{stack.url}/api/v1/datasets/{uid}/").json()["sha256"] == digest


def test_a_file_beyond_the_limit_is_refused_before_it_is_sent(
    signed_in: Callable[[str], Page], stack: Stack, tmp_path: Path
) -> None:
    page = signed_in("buyer")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if is_upload(request, "POST") else None)
    page.goto(f"{stack.url}/datasets/new/")
    page.locator("form[data-upload]").evaluate("form => form.dataset.maxBytes = 1048576")
    large = tmp_path / "large.zip"
    large.write_bytes(bytes(3 * 2**20))
    page.get_by_label("Dataset file").set_input_files(large)
    page.get_by_role("button", name="Upload").click()

    expect(page.get_by_role("alert")).to_contain_text("“large.zip” is too large: 3 MiB. At most 1 MiB are taken.")
    assert not sent


def is_upload(request: object, method: str) -> bool:
    return getattr(request, "method", "") == method and "/api/v1/uploads/" in getattr(request, "url", "")


def choose(page: Page, stack: Stack, file: Path) -> None:
    page.goto(f"{stack.url}/datasets/new/")
    page.get_by_label("Dataset file").set_input_files(file)
    page.get_by_role("button", name="Upload").click()
