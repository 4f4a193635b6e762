"""How the browser tests get about: who is signed in, what is there, what a page must keep to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from live_stack import Client, Stack
from playwright.sync_api import Page, expect

TOUR_PASSWORD = "a tour of every page"
RUN_SECONDS = 300
FINISHED = {"succeeded", "failed", "canceled"}
VISITS = [("light", 1200), ("dark", 390)]
GRAVE = {"serious", "critical"}


@dataclass(frozen=True, slots=True)
class World:
    """What `world.build` made, by its address."""

    stack: Stack
    secret: str
    run: str
    paths: dict[str, str]

    def wait_for_run(self) -> None:
        client = Client(self.stack, self.secret)

        def ended() -> Any:
            status, answer = client.call("GET", f"runs/{self.run}/")
            assert status == 200, answer
            return answer if answer["status"] in FINISHED else None

        assert self.stack.wait_for(ended, seconds=RUN_SECONDS)["status"] == "succeeded"


def sign_in(page: Page, stack: Stack, username: str, password: str) -> None:
    page.goto(f"{stack.url}/account/login/")
    page.get_by_label("Login").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign In").click()
    expect(page.get_by_role("link", name="Datasets")).to_be_visible()


def problems_of(page: Page) -> list[str]:
    """What axe finds grave. Its preload would fetch and inline style sheets, which the CSP rightly blocks."""
    found = Axe().run(page, options={"preload": False, "resultTypes": ["violations"]}).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in found if one["impact"] in GRAVE]


def look(page: Page, address: str) -> None:
    for scheme, width in VISITS:
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of the literals
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(address)
        expect(page.locator("html")).to_have_attribute("data-bs-theme", scheme)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        assert page.title().removesuffix("· Model marketplace").strip()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"wider than {width} px"
        assert not problems_of(page)
