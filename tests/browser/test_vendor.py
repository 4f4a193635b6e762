"""A vendor's whole way in the browser: from a name to the catalog, and out of it again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from live_stack import Stack
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.stack
SOURCE = "northlight/efficientnet-lite0"
VERIFY_SECONDS = 120
SLOW_UPLOAD_BYTES_PER_SECOND = 12 * 2**20  # slow enough for the progress to be seen, whatever the machine
REASON = "Trained on the wrong split: take 1.1."


@pytest.fixture
def files(signed_in: Callable[[str], Page], stack: Stack, tmp_path: Path) -> dict[str, Path]:
    """The files of a real release, as its vendor downloads them."""
    page, found = signed_in("vendor"), {}
    for name in ("config.json", "model.safetensors"):
        answer = page.request.get(f"{stack.url}/models/{SOURCE}/files/1.0/{name}")
        assert answer.ok
        found[name] = tmp_path / name
        found[name].write_bytes(answer.body())
    return found


def test_a_vendor_publishes_and_withdraws_a_model(
    signed_in: Callable[[str], Page], stack: Stack, files: dict[str, Path]
) -> None:
    page = signed_in("vendor")
    page.goto(f"{stack.url}/vendor/")
    page.get_by_role("link", name="New listing").click()
    page.get_by_label("Publish as").select_option("northlight")
    page.get_by_label("Name", exact=True).fill("made-in-the-browser")
    page.get_by_label("Title").fill("Made in the browser")
    page.get_by_label("Summary").fill("Uploaded by a test.")
    page.get_by_label("Architecture").fill("tf_efficientnet_lite0")
    page.get_by_role("button", name="Save").click()
    page.get_by_label("License").select_option(label="MIT License")
    page.get_by_role("button", name="Create the draft").click()

    submit = page.get_by_role("button", name="Submit for verification")
    expect(submit).to_be_disabled()
    expect(page.get_by_text("Still missing: config.json, model.safetensors, README.md.")).to_be_visible()
    _refuses_pickles(page, files["config.json"].parent)
    _uploads_with_progress(page, files["model.safetensors"])
    _writes_config_and_card(page, files["config.json"])
    submit.click()
    expect(page.locator("[data-release-status=ready]")).to_be_visible(timeout=VERIFY_SECONDS * 1000)
    page.get_by_role("button", name="Publish").click()
    expect(page.locator("[data-release-status=published]")).to_be_visible()
    released = page.url

    page.get_by_label("Search models").fill("made-in-the-browser")
    page.get_by_label("Search models").press("Enter")
    page.get_by_role("link", name="made-in-the-browser").click()
    expect(page.get_by_text("Trained by nobody in particular.")).to_be_visible()

    page.goto(released)
    page.get_by_role("button", name="Withdraw this release…").click()
    page.get_by_label("Reason").fill(REASON)
    page.get_by_role("button", name="Withdraw", exact=True).click()
    expect(page.locator("[data-release-status=yanked]")).to_be_visible()
    page.goto(f"{stack.url}/models/northlight/made-in-the-browser/")
    expect(page.get_by_role("alert")).to_contain_text(REASON)
    page.goto(f"{stack.url}/models/?q=made-in-the-browser")
    expect(page.get_by_role("heading", name="No model fits")).to_be_visible()


def _refuses_pickles(page: Page, folder: Path) -> None:
    pickle = folder / "model.pt"
    pickle.write_bytes(b"not even a pickle")
    page.get_by_label("Files", exact=True).set_input_files(pickle)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("“model.pt” is refused.")
    expect(page.get_by_role("alert")).to_contain_text("save them as safetensors")

    # The page's script looks first, so that nobody waits for an upload in vain; the server refuses as well.
    token = page.locator("form[data-upload] input[name=csrfmiddlewaretoken]").input_value()
    answer = page.request.post(
        f"{page.url}files/",
        headers={"Accept": "application/json", "X-CSRFToken": token, "Referer": page.url},
        multipart={"file": {"name": "model.pt", "mimeType": "application/octet-stream", "buffer": b"a pickle"}},
    )
    assert answer.status == 422
    assert "Pickled weights can run code and are refused." in answer.text()


def _uploads_with_progress(page: Page, weights: Path) -> None:
    network = page.context.new_cdp_session(page)
    speed = {"downloadThroughput": -1, "uploadThroughput": SLOW_UPLOAD_BYTES_PER_SECOND}
    network.send("Network.emulateNetworkConditions", {"offline": False, "latency": 0, **speed})
    page.get_by_label("Files", exact=True).set_input_files(weights)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_text(re.compile(r"model\.safetensors: \d+% of 17\.\d MiB"))).to_be_visible()
    expect(page.get_by_role("link", name="model.safetensors")).to_be_visible()
    network.detach()


def _writes_config_and_card(page: Page, config: Path) -> None:
    page.get_by_text("Write config.json for me").click()
    page.get_by_label("Labels").fill("\n".join(json.loads(config.read_text())["label_names"]))
    page.get_by_label("Mean").fill("0.5 0.5 0.5")
    page.get_by_label("Std").fill("0.5 0.5")
    page.get_by_role("button", name="Write config.json").click()
    expect(page.get_by_text("Three numbers, please").first).to_be_visible()
    page.get_by_label("Std").fill("0.5 0.5 0.5")
    page.get_by_role("button", name="Write config.json").click()
    expect(page.get_by_role("link", name="config.json")).to_be_visible()
    page.get_by_label("Card").fill("# Made in the browser\n\nTrained by nobody in particular.")
    page.get_by_role("button", name="Save the card").click()
    expect(page.get_by_role("link", name="README.md")).to_be_visible()
