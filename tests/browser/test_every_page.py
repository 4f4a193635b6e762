"""Every page: a title, one h1, no barrier that axe knows, nothing wider than a phone, by day and by night."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.template.loader import render_to_string
from live_stack import Stack
from playwright.sync_api import Page, expect
from visits import World, look, problems_of

MODEL = "/models/northlight/efficientnet-lite0/"

ANYBODY = [
    "/",
    "/models/",
    "/models/?task=image-classification&right=commercial_use&here=true&sort=smallest",
    "/models/?q=nothing-is-called-this&price=paid",
    "/models/?intent=sell_product&intent=publish_derivative&users=5000&country=DE&excluded=1",
    "/models/compare/?model=northlight/efficientnet-lite0&model=northlight/efficientnet-lite1",
    "/models/compare/",
    MODEL,
    "/models/pytorch/resnet50-imagenet1k-v2/",
    f"{MODEL}license/",
    f"{MODEL}lineage/",
    f"{MODEL}versions/1.0/obligations/",
    "/account/login/",
    "/account/signup/",
    "/account/password/reset/",
    "/account/password/reset/done/",
    "/account/confirm-email/no-such-key/",
]
TOURIST = [
    "/",
    MODEL,
    f"{MODEL}license/",
    "/models/northlight/efficientnet-lite2-reviewed/license/",
    "/models/openfield/efficientnet-lite0-reference/license/",
    f"{MODEL}try/",
    "/models/openfield/efficientnet-lite0-reference/try/",
    f"{MODEL}reviews/",
    f"{MODEL}review/",
    f"{MODEL}questions/",
    f"/reports/new/?listing={MODEL.removeprefix('/models/').rstrip('/')}",
    "/reports/",
    "report",
    "/takedowns/",
    "takedown",
    "evaluation",
    "/licenses/",
    "/licenses/?status=trial",
    "/licenses/requests/",
    "access request",
    "/orders/",
    "/notifications/",
    "/audit/",
    "grant",
    "receipt",
    "grant with seats",
    "trial",
    "transfer",
    "order",
    "/statements/tourist/",
    "/datasets/",
    "/datasets/new/",
    "dataset ready",
    "dataset invalid",
    "/runs/",
    "/runs/new/",
    f"/runs/new/?model={MODEL.removeprefix('/models/').rstrip('/')}",
    "/runs/new/?model=openfield/efficientnet-lite0-reference",
    "/vendor/",
    "/account/settings/",
    "/account/email/",
    "/account/password/change/",
    "/account/2fa/",
    "/account/2fa/totp/activate/",
    "/account/2fa/webauthn/",
    "/account/2fa/webauthn/add/",
    "/account/sessions/",
    "/account/tokens/",
    "token",
    "/account/device/",
    "/account/webhooks/",
    "webhook",
    "webhook message",
    "/account/organizations/",
    "/account/organizations/tour-group/",
    "/account/logout/",
]
NEWS = {
    "status": "running",
    "status_title": "Running",
    "stage": "Fitting the head",
    "progress": {"done": 3, "total": 10, "rate": 12.5},
    "elapsed_seconds": 61.0,
    "remaining_seconds": 5.0,
    "points": [
        {"name": name, "split": split, "step": step, "value": step / 10}
        for name in ("loss", "accuracy")
        for split in ("train", "validation")
        for step in (1, 2, 3)
    ],
    "log": [{"at": "2026-01-01T12:00:00+00:00", "level": "warning", "message": "A line of the log."}],
    "cursor": 1,
    "terminal": False,
}
STUDIO = [
    "grant with seats",
    "/vendor/",
    "/vendor/new/",
    "/vendor/studio/verified-model/",
    "/vendor/studio/verified-model/terms/new/",
    "/vendor/studio/verified-model/terms/new/?start=cc-by-nc-4.0",
    *(f"/vendor/studio/{name}-model/1.0/" for name in ("draft", "rejected", "verified", "withdrawn")),
    "/models/studio/withdrawn-model/",
    "/models/studio/withdrawn-model/lineage/",
    "incident",
]
VENDOR = [
    "/vendor/",
    *(
        f"/vendor/{name}/"
        for name in ("listings", "releases", "requests", "grants", "sales", "royalties", "reviews", "questions")
    ),
    f"{MODEL}reviews/",
    f"{MODEL}questions/",
    "/vendor/downloads/",
    "/vendor/downloads/?listing=northlight/efficientnet-lite0&days=7",
    "/vendor/northlight/efficientnet-lite0/1.0/",
    "/vendor/northlight/efficientnet-lite1/1.0/",
    MODEL,
    "order",
    "/statements/northlight/",
    "/payouts/",
    "payout",
]
STAFF = ["/estimates/", "order", "order paid", "/payouts/", "payout", "/statements/northlight/"]


@pytest.mark.stack
@pytest.mark.parametrize("path", ANYBODY)
def test_a_page_for_anybody(page: Page, stack: Stack, path: str) -> None:
    look(page, stack.url + path)


@pytest.mark.stack
@pytest.mark.parametrize("path", TOURIST)
def test_a_page_of_a_buyer(signed_in: Callable[[str], Page], world: World, path: str) -> None:
    look(signed_in("tourist"), world.stack.url + world.paths.get(path, path))


@pytest.mark.stack
@pytest.mark.parametrize(
    ("vendor", "path"),
    [(who, path) for who, paths in (("studio", STUDIO), ("vendor", VENDOR), ("admin", STAFF)) for path in paths],
)
def test_a_page_of_a_vendor(signed_in: Callable[[str], Page], world: World, vendor: str, path: str) -> None:
    look(signed_in(vendor), world.stack.url + world.paths.get(path, path))


@pytest.mark.stack
@pytest.mark.parametrize(
    "path",
    [
        "/moderation/",
        "/moderation/new/?listing=northlight/efficientnet-lite0",
        "/payments/",
        "/takedowns/",
        "report",
        "takedown",
    ],
)
def test_a_page_of_the_staff(signed_in: Callable[[str], Page], world: World, path: str) -> None:
    look(signed_in("admin"), world.stack.url + world.paths.get(path, path))


@pytest.mark.stack
@pytest.mark.parametrize("tail", ["", "publish/"])
def test_the_pages_of_a_finished_run(signed_in: Callable[[str], Page], world: World, tail: str) -> None:
    world.wait_for_run()

    look(signed_in("tourist"), f"{world.stack.url}{world.paths['run']}{tail}")


@pytest.mark.stack
def test_a_run_page_while_the_run_goes_on(signed_in: Callable[[str], Page], world: World) -> None:
    """The server's answers are held still, or the page would change while it is looked at."""
    page = signed_in("tourist")
    page.route("**/events/*", lambda route: route.fulfill(json=NEWS))
    dataset = world.paths["dataset ready"].split("/")[2]
    page.goto(f"{world.stack.url}/runs/new/?model=northlight/efficientnet-lite0&dataset={dataset}&seed=7")
    page.get_by_role("button", name="Launch").click()
    expect(page.locator("[data-run-status]")).to_have_text(NEWS["status_title"])

    look(page, page.url)

    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("button", name="Cancel the run").click()
    stopping = page.get_by_role("button", name="Stopping…")
    expect(stopping.or_(page.get_by_role("link", name="Run again with changes"))).to_be_visible()


@pytest.mark.stack
@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/no/such/page/", 404, "There is nothing here"),
        ("/models/northlight/efficientnet-lite1/files/1.0/model.safetensors", 403, "That did not work"),
        ("a form without its protection", 403, "Please send it again"),
    ],
)
def test_an_error_has_a_page_of_the_site(page: Page, stack: Stack, path: str, status: int, words: str) -> None:
    unwatched = page.context.new_page()  # the browser itself reports the status as an error
    if path.startswith("/"):
        answer = unwatched.goto(stack.url + path)
        look(unwatched, stack.url + path)
    else:
        unwatched.goto(f"{stack.url}/account/login/")
        unwatched.context.clear_cookies()
        unwatched.get_by_label("Login").fill("nobody")
        unwatched.get_by_label("Password").fill("nothing")
        with unwatched.expect_navigation() as navigation:
            unwatched.get_by_role("button", name="Sign In").click()
        answer = navigation.value
        assert not problems_of(unwatched)

    assert answer is not None
    assert answer.status == status
    expect(unwatched.get_by_role("heading", level=1)).to_contain_text(words)


@pytest.mark.parametrize("name", ["400.html", "500.html"])
def test_the_pages_that_know_no_request_are_whole(name: str) -> None:
    html = render_to_string(name)

    assert "<h1>" in html
    assert "css/pages.css" in html
