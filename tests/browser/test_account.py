"""An account's first day: sign up, sign out, sign in, forget the password, get in again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from live_stack import Stack
from playwright.sync_api import Page, expect
from visits import sign_in

pytestmark = pytest.mark.stack
FIRST, SECOND = "the first long password", "another long password"
MAIL_SECONDS = 20
LINK = re.compile(r"https?://\S+/account/password/reset/key/\S+")


def test_a_person_signs_up_and_comes_back_after_forgetting_the_password(page: Page, stack: Stack) -> None:
    page.goto(stack.url)
    page.get_by_role("link", name="Sign up").click()
    page.get_by_label("Username").fill("newcomer")
    page.get_by_label("Email").fill("newcomer@example.com")
    page.get_by_label("Password", exact=True).fill(FIRST)
    page.get_by_label("Password (again)").fill(FIRST)
    page.get_by_role("button", name="Sign Up").click()
    expect(page.get_by_role("heading", name="Welcome back, newcomer")).to_be_visible()

    _sign_out(page)
    sign_in(page, stack, "newcomer", FIRST)
    _sign_out(page)

    page.goto(f"{stack.url}/account/login/")
    page.get_by_role("link", name="Forgot your password?").click()
    page.get_by_label("Email").fill("newcomer@example.com")
    page.get_by_role("button", name="Reset My Password").click()
    expect(page.get_by_text("We have sent you an email")).to_be_visible()
    page.goto(_link_in_the_mail(stack))
    page.get_by_label("New Password", exact=True).fill(SECOND)
    page.get_by_label("New Password (again)").fill(SECOND)
    page.get_by_role("button", name="Change Password").click()
    expect(page.get_by_text("Your password is now changed")).to_be_visible()
    sign_in(page, stack, "newcomer", SECOND)


def _sign_out(page: Page) -> None:
    page.get_by_label("Account of newcomer").click()
    page.get_by_role("link", name="Sign out").click()
    page.get_by_role("button", name="Sign Out").click()
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()


def _link_in_the_mail(stack: Stack) -> str:
    """The file-based e-mail backend writes each message into the data directory."""
    folder = Path(stack.environment["DATA_DIR"]) / "mail"

    def found() -> Any:
        texts = [path.read_text() for path in sorted(folder.glob("*"))] if folder.is_dir() else []
        links = [match.group() for text in texts for match in LINK.finditer(text)]
        return links[-1] if links else None

    return str(stack.wait_for(found, seconds=MAIL_SECONDS))
