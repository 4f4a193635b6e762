"""What pages do beyond showing: filter, compare, adapt a form, ask before they delete; some of it without scripts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from live_stack import Stack
from playwright.sync_api import Browser, Page, expect
from visits import World

pytestmark = pytest.mark.stack
MODEL = "northlight/efficientnet-lite0"
ENCODER = "quillworks/all-minilm-l6-v2"


def test_filters_keep_their_place_in_the_address_and_come_off_again(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.url}/models/?q=efficientnet-lite")
    page.get_by_label("Commercial use").check()
    expect(page).to_have_url(re.compile("right=commercial_use"))
    expect(page.get_by_label("Commercial use")).to_be_focused()
    expect(page.get_by_role("link", name="openfield / efficientnet-lite2", exact=True)).to_have_count(0)

    page.get_by_role("link", name="License allows: Commercial use").click()
    expect(page.get_by_role("link", name="openfield / efficientnet-lite2", exact=True)).to_be_visible()
    page.go_back()
    expect(page.get_by_label("Commercial use")).to_be_checked()


def test_ticked_models_stay_ticked_over_a_search_and_are_compared_with_prices(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.url}/models/?q=northlight")
    page.get_by_label(f"Compare {MODEL}").check()
    page.goto(f"{stack.url}/models/?q=lite1")
    page.get_by_label("Compare northlight/efficientnet-lite1").check()
    page.get_by_role("button", name="Compare", exact=True).click()

    price = page.get_by_role("row", name="Price")
    expect(price).to_contain_text("Free")
    expect(price).to_contain_text("€49.00")


def test_a_run_form_shows_the_settings_of_its_strategy(signed_in: Callable[[str], Page], world: World) -> None:
    page = signed_in("tourist")
    page.goto(f"{world.stack.url}/runs/new/?model={MODEL}")
    expect(page.get_by_label("Epochs")).to_be_hidden()
    page.get_by_role("radio", name="Full").check()
    expect(page.get_by_label("Epochs")).to_be_visible()
    page.get_by_role("radio", name="Head only").check()
    expect(page.get_by_label("Epochs")).to_be_hidden()


def test_untouched_settings_follow_the_strategy_and_a_preset_fills_the_form(
    signed_in: Callable[[str], Page], world: World
) -> None:
    page = signed_in("tourist")
    page.goto(f"{world.stack.url}/runs/new/?model={ENCODER}")
    page.get_by_role("radio", name="LoRA").check()
    expect(page.get_by_label("Epochs")).to_have_value("5")
    page.get_by_role("spinbutton", name="Learning rate").fill("0.01")
    page.get_by_role("radio", name="Full").check()
    expect(page.get_by_label("Epochs")).to_have_value("3")
    expect(page.get_by_role("spinbutton", name="Learning rate")).to_have_value("0.01")

    page.get_by_role("link", name="Best").click()
    expect(page.get_by_role("radio", name="Full")).to_be_checked()
    expect(page.get_by_label("Epochs")).to_have_value("6")


def test_a_dataset_of_another_kind_is_refused_before_it_is_sent(
    signed_in: Callable[[str], Page], world: World, tmp_path: Any
) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("no zip")
    page = signed_in("tourist")
    page.goto(f"{world.stack.url}/datasets/new/")
    page.get_by_label("Dataset file").set_input_files(notes)
    expect(page.get_by_role("textbox", name="Name", exact=True)).to_have_value("notes")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("A dataset of images is one .zip file")

    page.get_by_label("Text classification").check()
    expect(page.get_by_role("heading", name="A table of texts")).to_be_visible()
    expect(page.get_by_role("heading", name="One folder a class")).to_be_hidden()
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("A dataset of texts is a .csv, .tsv or .jsonl file")


def test_a_menu_closes_by_escape_and_gives_the_focus_back(signed_in: Callable[[str], Page], world: World) -> None:
    page = signed_in("tourist")
    page.goto(world.stack.url)
    page.get_by_label("Account of tourist").click()
    expect(page.get_by_role("link", name="Two-step verification")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Two-step verification")).to_be_hidden()
    expect(page.get_by_label("Account of tourist")).to_be_focused()


def test_without_scripts_filters_apply_and_a_deletion_still_asks(
    browser: Browser, session_of: Callable[[str], list[Any]], world: World
) -> None:
    context = browser.new_context(java_script_enabled=False)
    context.add_cookies(session_of("tourist"))
    page = context.new_page()

    page.goto(f"{world.stack.url}/models/?q=northlight")
    page.get_by_label("Paid").check()
    page.get_by_role("button", name="Apply the filters").click()
    expect(page.get_by_role("status").filter(has_text="1 model")).to_be_visible()

    page.goto(f"{world.stack.url}{world.paths['dataset deleted']}")
    page.get_by_role("button", name="Delete…").click()
    expect(page.get_by_role("dialog")).to_contain_text("Delete this dataset?")
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete the dataset").click()
    expect(page.get_by_role("heading", name="Datasets", level=1)).to_be_visible()
    expect(page.get_by_role("link", name="to be deleted")).to_have_count(0)
    context.close()
