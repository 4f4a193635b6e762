"""People who are signed in already, and a product that has one thing of every kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from live_stack import Stack
from playwright.sync_api import Browser, Page
from visits import TOUR_PASSWORD, World, sign_in

from marketplace.demo import PASSWORD as DEMO_PASSWORD

BUILD = "import sys; sys.path[:0] = ['tests/browser', 'tests/engine']; import world; world.build()"
DEMO_ACCOUNTS = {"buyer", "vendor", "admin"}


@pytest.fixture(scope="session")
def world(stack: Stack) -> World:
    made = json.loads(stack.manage("shell", "-v0", "-c", BUILD).splitlines()[-1])
    return World(stack=stack, **made)


@pytest.fixture(scope="session")
def session_of(stack: Stack, browser: Browser) -> Callable[[str], list[Any]]:
    """Returns the cookies of a person who signed in once for all tests."""
    kept: dict[str, list[Any]] = {}

    def cookies(username: str) -> list[Any]:
        if username not in kept:
            context = browser.new_context()
            password = DEMO_PASSWORD if username in DEMO_ACCOUNTS else TOUR_PASSWORD
            sign_in(context.new_page(), stack, username, password)
            kept[username] = context.cookies()
            context.close()
        return kept[username]

    return cookies


@pytest.fixture
def signed_in(page: Page, session_of: Callable[[str], list[Any]]) -> Callable[[str], Page]:
    """Returns the watched page, signed in as somebody."""

    def become(username: str) -> Page:
        page.context.add_cookies(session_of(username))
        return page

    return become
