"""The product's main job on the running product: real weights, real data, real processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from archives_factory import digits_zip
from flow_world import MODEL, digit_png
from live_stack import Stack
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.stack
RUN_SECONDS = 420
CHECK_SECONDS = 240


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.zip"
    digits_zip(path)
    return path


def sign_in(page: Page, stack: Stack, username: str) -> None:
    page.goto(f"{stack.url}/account/login/")
    page.get_by_label("Login").or_(page.get_by_label("Username or email")).first.fill(username)
    page.get_by_label("Password", exact=False).first.fill("marketplace-demo")
    page.get_by_role("button", name="Sign In").click()
    expect(page.get_by_role("link", name="Datasets")).to_be_visible()


def test_a_buyer_licenses_tunes_publishes_and_tries_a_model_in_the_browser(
    stack: Stack, page: Page, digits: Path, tmp_path: Path
) -> None:
    page.set_default_timeout(30_000)
    sign_in(page, stack, "buyer")

    page.goto(f"{stack.url}/models/{MODEL}/")
    page.get_by_role("link", name="Get license").click()
    page.get_by_label("I have read these terms").check()
    page.get_by_role("button", name="Accept and get license").click()
    expect(page.get_by_role("heading", name="Your license")).to_be_visible()

    page.goto(f"{stack.url}/datasets/new/")
    page.get_by_role("textbox", name="Name", exact=True).fill("digits by api")
    page.get_by_label("Dataset file").set_input_files(digits)
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("[data-dataset-status=valid]")).to_be_visible(timeout=CHECK_SECONDS * 1000)
    expect(page.get_by_role("heading", name="Class balance")).to_be_visible()

    page.get_by_role("link", name="Fine-tune on it").click()
    page.get_by_role("link", name=MODEL).click()
    page.get_by_role("button", name="Launch").click()
    accuracy = page.locator("[data-accuracy]")
    expect(accuracy).to_be_visible(timeout=RUN_SECONDS * 1000)
    assert float(accuracy.get_attribute("data-accuracy") or 0) >= 0.95

    page.get_by_role("link", name="Publish the result").click()
    page.get_by_role("textbox", name="Name", exact=True).fill("digits-reader")
    page.get_by_role("button", name="Publish").click()
    page.get_by_role("link", name="See it in the catalog").click(timeout=CHECK_SECONDS * 1000)
    expect(page.locator("#lineage").get_by_role("link", name=MODEL)).to_be_visible()
    page.goto(f"{stack.url}/models/?q=digits-reader")
    expect(page.get_by_role("link", name="digits-reader")).to_be_visible()

    picture = tmp_path / "seven.png"
    picture.write_bytes(digit_png(7))
    page.goto(f"{stack.url}/models/buyer/digits-reader/try/")
    page.locator("input[type=file]").set_input_files(picture)
    expect(page.locator("[data-try-results] li").first).to_contain_text("7", timeout=60_000)
