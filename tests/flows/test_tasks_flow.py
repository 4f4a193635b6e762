"""Detection, segmentation and texts on the running product: from an upload to the published derivative's answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from archives_factory import encoded
from live_stack import Client, Stack, multipart
from playwright.sync_api import Page, expect
from test_main_flow import CHECK_SECONDS, RUN_SECONDS, sign_in
from texts_factory import csv_of, sentences
from uploads_factory import SIDE, boxed, boxes, painted

pytestmark = pytest.mark.stack
LITE, MINILM = "northlight/efficientnet-lite0", "quillworks/all-minilm-l6-v2"


@dataclass(frozen=True, slots=True)
class Case:
    """`floor` is of the metric named `headline`; `asked` is the body and type of one prediction, `is_right` says
    whether its answer is."""

    task: str
    title: str
    model: str
    file: str
    upload: Callable[[], bytes]
    headline: str
    floor: float
    asked: tuple[bytes, str]
    is_right: Callable[[dict[str, Any]], bool]


def finds_the_disc(answer: dict[str, Any]) -> bool:
    """The surest box is the disc's, over at least half of it."""
    _, line = boxed(0)
    x, y, width, height = (float(part) * SIDE for part in line.split()[1:])
    best = answer["predictions"][0]
    box = best["box"]
    shared_x = min(box["right"], x + width / 2) - max(box["left"], x - width / 2)
    shared_y = min(box["bottom"], y + height / 2) - max(box["top"], y - height / 2)
    return best["label"] == "disc" and shared_x > 0 and shared_y > 0 and shared_x * shared_y > width * height / 2


CASES = [
    Case(
        "object-detection",
        "Object detection",
        LITE,
        "boxes.zip",
        boxes,
        "map50",
        0.5,
        (encoded(boxed(0)[0]), "application/octet-stream"),
        finds_the_disc,
    ),
    Case(
        "semantic-segmentation",
        "Semantic segmentation",
        LITE,
        "masks.zip",
        painted,
        "miou",
        0.5,
        (encoded(boxed(0)[0]), "application/octet-stream"),
        lambda answer: max(answer["classes"][1:], key=lambda entry: entry["share"])["label"] == "disc",
    ),
    Case(
        "text-classification",
        "Text classification",
        MINILM,
        "texts.csv",
        lambda: csv_of(sentences(60)),
        "accuracy",
        0.8,
        (b'{"text": "%s"}' % sentences(1)[0][0].encode(), "application/json"),
        lambda answer: answer["predictions"][0]["label"] == sentences(1)[0][1],
    ),
]
each_case = pytest.mark.parametrize("case", CASES, ids=[case.task for case in CASES])


def licensed(client: Client, model: str) -> None:
    """Accepts the model's terms, where that was not done before."""
    _, listing = client.call("GET", f"listings/{model}/")
    status, answer = client.call("POST", f"listings/{model}/grants/", {"terms_hash": listing["terms"]["terms_hash"]})
    assert status == 201 or answer["code"] == "already_licensed", answer


@each_case
def test_a_buyer_tunes_publishes_and_tries_it_in_the_browser(
    stack: Stack, page: Page, tmp_path: Path, case: Case
) -> None:
    licensed(Client(stack, stack.manage("issue_token", "buyer")), case.model)
    page.set_default_timeout(30_000)
    sign_in(page, stack, "buyer")
    name = f"{case.task} in the browser"
    (tmp_path / case.file).write_bytes(case.upload())

    page.goto(f"{stack.url}/datasets/new/")
    page.get_by_role("radio", name=case.title).check()
    page.get_by_label("Dataset file").set_input_files(tmp_path / case.file)
    page.get_by_role("textbox", name="Name", exact=True).fill(name)
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("[data-dataset-status=valid]")).to_be_visible(timeout=CHECK_SECONDS * 1000)

    page.get_by_role("link", name="Fine-tune on it").click()
    page.get_by_role("link", name=case.model).click()
    page.get_by_role("link", name="Quick").click()
    expect(page.get_by_label("Dataset", exact=True)).to_contain_text(name)
    page.get_by_role("button", name="Launch").click()
    headline = page.locator("[data-headline]")
    expect(headline).to_be_visible(timeout=RUN_SECONDS * 1000)

    page.get_by_role("link", name="Publish the result").click()
    page.get_by_role("textbox", name="Name", exact=True).fill(f"{case.task}-of-shapes")
    page.get_by_role("button", name="Publish").click()
    page.get_by_role("link", name="See it in the catalog").click(timeout=CHECK_SECONDS * 1000)
    expect(page.locator("#lineage").get_by_role("link", name=case.model)).to_be_visible()

    page.goto(f"{stack.url}/models/buyer/{case.task}-of-shapes/try/")
    if case.file.endswith(".csv"):
        page.get_by_label("Text").fill(sentences(1)[0][0])
        page.get_by_role("button", name="Classify it").click()
    else:
        picture = tmp_path / "picture.png"
        picture.write_bytes(case.asked[0])
        page.locator("input[type=file]").set_input_files(picture)
    expect(page.locator("[data-try-results] li").first).to_be_visible(timeout=60_000)


@each_case
def test_the_same_over_the_api(stack: Stack, case: Case) -> None:
    client = Client(stack, stack.manage("issue_token", "buyer"))
    licensed(client, case.model)
    body, kind = multipart({"name": f"{case.task} by api", "task": case.task}, case.file, case.upload())
    status, dataset = client.call("POST", "datasets/", body=body, kind=kind)
    assert status == 201, dataset

    def checked() -> Any:
        _, answer = client.call("GET", f"datasets/{dataset['id']}/")
        return answer if answer["status"] != "checking" else None

    report = stack.wait_for(checked, seconds=CHECK_SECONDS)
    assert report["status"] == "valid", report
    order = {"listing": case.model, "dataset": dataset["id"], "preset": "quick", "hyper": {"seed": 1}}
    status, run = client.call("POST", "runs/", order)
    assert status == 201, run

    def ended() -> Any:
        _, answer = client.call("GET", f"runs/{run['id']}/")
        return answer if answer["status"] in {"succeeded", "failed", "canceled"} else None

    finished = stack.wait_for(ended, seconds=RUN_SECONDS)
    assert finished["status"] == "succeeded", finished
    reached = finished["evaluation"]["metrics"][case.headline]
    assert reached["low"] <= reached["value"] <= reached["high"]
    assert reached["value"] >= case.floor

    status, receipt = client.call("GET", f"runs/{run['id']}/receipt/")
    assert status == 200
    assert receipt["signature"]["algorithm"] == "Ed25519"
    content, kind = case.asked
    status, unpublished = client.call("POST", f"runs/{run['id']}/predict/", body=content, kind=kind)
    assert status == 200, unpublished
    publish = {"namespace": "buyer", "name": f"{case.task}-by-api"}
    status, derivative = client.call("POST", f"runs/{run['id']}/publish/", publish)
    assert status == 201, derivative

    def published() -> Any:
        _, answer = client.call("GET", f"listings/buyer/{case.task}-by-api/")
        return answer if answer["release"]["status"] == "published" else None

    listing = stack.wait_for(published, seconds=CHECK_SECONDS)
    assert listing["task"] == case.task
    assert listing["release"]["parents"][0]["release"] == f"{case.model}@1.0"
    status, prediction = client.call("POST", f"predict/buyer/{case.task}-by-api/", body=content, kind=kind)
    assert status == 200, prediction
    assert case.is_right(prediction), prediction
    told_apart = {"milliseconds", "warm"}
    assert {name: prediction[name] for name in prediction.keys() - told_apart} == {
        name: unpublished[name] for name in unpublished.keys() - told_apart
    }
