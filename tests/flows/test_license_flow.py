"""Licenses as law on the running product: from an intent to the royalty that a grandparent gets, and what is refused.

A vendor's tiny network has a child that is sold; a buyer finds it by what they intend, tunes it and sells the result.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from archives_factory import encoded, zip_of
from live_stack import Client, Stack, multipart
from playwright.sync_api import Locator, Page, expect
from shapes_factory import ARCHITECTURE, LABELS, shape, write_release
from test_main_flow import CHECK_SECONDS, RUN_SECONDS, sign_in

pytestmark = pytest.mark.stack

ROOT, CHILD, GRANDCHILD = "rhea/efficientnet-tiny", "milo/efficientnet-shapes", "bea/efficientnet-solids"
OPEN, NONCOMMERCIAL = "rhea/efficientnet-open", "openfield/efficientnet-lite2"
NO_DERIVATIVES = "openfield/efficientnet-lite0-reference"
FLOOR_MINOR, CHILD_MINOR, GRANDCHILD_MINOR = 150, 500, 1999
# The floor is more than a tenth of the child's price, and less than a tenth of the grandchild's.
ROYALTY = {"name": "Rhea's royalty license", "royalty_bps": 1000, "royalty_floor_minor": FLOOR_MINOR}
ROYALTIES_MINOR = FLOOR_MINOR + 199
IMAGES_A_CLASS = 20
PEOPLE = """
import json
from marketplace.accounts.models import Scope, User
from marketplace.accounts.services import people, tokens
from marketplace.demo import PASSWORD
made = {}
for name in ("rhea", "milo", "bea", "fay"):
    user = User.objects.create_user(name, f"{name}@example.com", PASSWORD)
    people.namespace_of(user)
    made[name] = tokens.issue(user=user, name="flow", scopes=Scope.values)[1]
print(json.dumps(made))
"""


@dataclass(frozen=True, slots=True)
class Market:
    """Who is there. `noncommercial_run` is fay's, of OPEN on data under CC BY-NC; it may still be going on."""

    stack: Stack
    people: dict[str, Client]
    folder: Path
    noncommercial_run: str

    def ask(self, name: str, method: str, path: str, document: Any = None, *, status: int = 200, **given: Any) -> Any:
        found, answer = self.people[name].call(method, path, document, **given)
        assert found == status, (name, method, path, answer)
        return answer


@pytest.fixture(scope="session")  # the tests in the browser are run apart from the others of this file
def market(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Market:
    """ROOT and OPEN are in the catalog, and CHILD, which milo made of ROOT over the API and sells."""
    tokens = json.loads(stack.manage("shell", "-v0", "-c", PEOPLE).splitlines()[-1])
    people = {name: Client(stack, token) for name, token in tokens.items()}
    market = Market(stack, people, tmp_path_factory.mktemp("networks"), "")
    dataset = uploaded(market, "milo", seed=0)
    noncommercial = uploaded(market, "fay", seed=1, license="cc-by-nc-4.0")
    drafted(market, ROOT, license="commercial", terms={**ROYALTY, "price_minor": 0})
    drafted(market, OPEN, license="mit")
    for name in (ROOT, OPEN):
        submitted(market, name)
    for name in (ROOT, OPEN):
        published(market, name)
    accepted(market, "milo", ROOT)
    run = launched(market, "milo", ROOT, dataset)
    accepted(market, "fay", OPEN)
    later = launched(market, "fay", OPEN, noncommercial)
    finished(market, "milo", run)
    publish = {"namespace": "milo", "name": CHILD.partition("/")[2], "price_minor": CHILD_MINOR}
    market.ask("milo", "POST", f"runs/{run}/publish/", publish, status=201)
    in_state(market, CHILD, "published")
    return Market(stack, people, market.folder, later)


def shapes(seed: int) -> bytes:
    """A zip of class folders that differs for each seed."""
    numbers = range(1000 * seed, 1000 * seed + IMAGES_A_CLASS)
    return zip_of({f"{label}/{number}.png": encoded(shape(label, number)) for label in LABELS for number in numbers})


def uploaded(market: Market, name: str, *, seed: int, **fields: str) -> str:
    fields = {"name": "shapes", "task": "image-classification", **fields}
    body, kind = multipart(fields, "shapes.zip", shapes(seed))
    dataset: str = market.ask(name, "POST", "datasets/", body=body, kind=kind, status=201)["id"]
    return dataset


def drafted(market: Market, listing: str, **offer: Any) -> None:
    namespace, _, name = listing.partition("/")
    what = {"task": "image-classification", "framework": "timm", "architecture": ARCHITECTURE}
    market.ask(
        namespace, "POST", "listings/", {"namespace": namespace, "name": name, "title": name, **what}, status=201
    )
    market.ask(namespace, "POST", f"listings/{listing}/releases/", {"version": "1.0", **offer}, status=201)


def submitted(market: Market, listing: str) -> None:
    """Uploads random weights, other ones for each listing, and has them verified."""
    owner, _, name = listing.partition("/")
    folder = write_release(market.folder / name, seed=len(list(market.folder.iterdir())))
    (folder / "README.md").write_text("# A tiny network\n\nIt knows nothing yet.\n")
    for file in sorted(folder.iterdir()):
        path = f"listings/{listing}/releases/1.0/artifacts/{file.name}"
        market.ask(owner, "PUT", path, body=file.read_bytes(), kind="application/octet-stream", status=201)
    market.ask(owner, "POST", f"listings/{listing}/releases/1.0/submit/")


def in_state(market: Market, listing: str, status: str) -> None:
    owner = listing.partition("/")[0]

    def release() -> Any:
        answer = market.ask(owner, "GET", f"listings/{listing}/releases/1.0/")
        return answer if answer["status"] != "verifying" else None

    answer = market.stack.wait_for(release, seconds=CHECK_SECONDS)
    assert answer["status"] == status, answer


def published(market: Market, listing: str) -> None:
    in_state(market, listing, "ready")
    market.ask(listing.partition("/")[0], "POST", f"listings/{listing}/releases/1.0/publish/")


def accepted(market: Market, name: str, listing: str) -> None:
    """Accepts free terms, as they are now."""
    terms = market.ask(name, "GET", f"listings/{listing}/")["terms"]
    market.ask(name, "POST", f"listings/{listing}/grants/", {"terms_hash": terms["terms_hash"]}, status=201)


def launched(market: Market, name: str, listing: str, dataset: str) -> str:
    def checked() -> Any:
        answer = market.ask(name, "GET", f"datasets/{dataset}/")
        return answer if answer["status"] != "checking" else None

    report = market.stack.wait_for(checked, seconds=CHECK_SECONDS)
    assert report["status"] == "valid", report
    order = {"listing": listing, "dataset": dataset, "preset": "quick"}
    run: str = market.ask(name, "POST", "runs/", order, status=201)["id"]
    return run


def finished(market: Market, name: str, run: str) -> None:
    def ended() -> Any:
        answer = market.ask(name, "GET", f"runs/{run}/")
        return answer if answer["status"] in {"succeeded", "failed", "canceled"} else None

    answer = market.stack.wait_for(ended, seconds=RUN_SECONDS)
    assert answer["status"] == "succeeded", answer


def become(page: Page, market: Market, name: str) -> None:
    page.context.clear_cookies()
    sign_in(page, market.stack, name)


def fact(page: Page, title: str) -> Locator:
    """The value beside a term of a list of facts."""
    return page.locator("dl > div").filter(has=page.get_by_text(title, exact=True)).locator("dd")


def test_a_buyer_goes_from_an_intent_to_a_priced_derivative_that_pays_its_grandparent(
    market: Market, page: Page, tmp_path: Path
) -> None:
    page.set_default_timeout(30_000)
    sign_in(page, market.stack, "bea")
    finds_by_intent(page, market)
    buys(page, market)
    (tmp_path / "solids.zip").write_bytes(shapes(2))
    tunes(page, market, tmp_path / "solids.zip")
    publishes_at_a_legal_price(page)
    sells(page, market)

    become(page, market, "rhea")
    page.goto(f"{market.stack.url}/statements/")
    expect(fact(page, "Royalties received")).to_have_text("€3.49")
    expect(fact(page, "At the end")).to_have_text("€3.49")
    lines = page.get_by_role("table").get_by_role("row").filter(has_text=ROOT)
    expect(lines).to_have_count(2)
    expect(lines.nth(0)).to_contain_text("€1.99")
    expect(lines.nth(1)).to_contain_text("€1.50")
    assert_the_books_balance(market)


def finds_by_intent(page: Page, market: Market) -> None:
    """Opens CHILD from a search that leaves out, with the clause, what cannot be sold."""
    page.goto(f"{market.stack.url}/models/?q=efficientnet")
    page.get_by_role("checkbox", name="Sell what I fine-tune").check()
    left_out = page.locator("#excluded")
    left_out.locator("summary").click()
    for listing, license_name, clause in (
        (NONCOMMERCIAL, "Creative Commons Attribution-NonCommercial 4.0", "sell what you fine-tune from it"),
        (NO_DERIVATIVES, "Creative Commons Attribution-NoDerivatives 4.0", "share what you fine-tune from it"),
    ):
        row = left_out.get_by_role("listitem").filter(has=page.get_by_role("link", name=listing, exact=True))
        expect(row).to_contain_text(f"{listing} (“{license_name}”) does not allow to {clause}")
    page.get_by_role("link", name=CHILD.replace("/", " / ")).click()
    expect(page.locator("#lineage").get_by_role("link", name=ROOT)).to_be_visible()


def buys(page: Page, market: Market) -> None:
    """Reads the terms, which tell the grandparent's royalty, and orders; milo marks the order as paid."""
    page.get_by_role("link", name="Get license").click()
    expect(page.locator(".price-big")).to_have_text("€5.00")
    expect(fact(page, f"Royalty to {ROOT}")).to_contain_text("10% of its price, and at least €1.50")
    expect(page.get_by_role("region", name="License text")).to_contain_text("Costs €5.00 once")
    page.get_by_label("I have read these terms").check()
    page.get_by_role("button", name="Place the order").click()
    expect(page.get_by_text("The vendor settles it")).to_be_visible()
    order = page.url
    become(page, market, "milo")
    page.goto(order)
    expect(fact(page, f"Royalty to {ROOT}")).to_have_text("€1.50")
    expect(fact(page, "You")).to_have_text("€3.50")
    page.get_by_role("button", name="Mark as paid").click()
    expect(page.get_by_role("link", name="The license")).to_be_visible()
    become(page, market, "bea")


def tunes(page: Page, market: Market, upload: Path) -> None:
    """Uploads data, fine-tunes CHILD on them and sees the evaluation."""
    page.goto(f"{market.stack.url}/datasets/new/")
    page.get_by_label("Dataset file").set_input_files(upload)
    page.get_by_role("textbox", name="Name", exact=True).fill("solids")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("[data-dataset-status=valid]")).to_be_visible(timeout=CHECK_SECONDS * 1000)
    page.get_by_role("link", name="Fine-tune on it").click()
    page.get_by_role("link", name=CHILD).click()
    page.get_by_role("link", name="Quick").click()
    page.get_by_role("button", name="Launch").click()
    expect(page.locator("[data-headline]")).to_be_visible(timeout=RUN_SECONDS * 1000)
    expect(page.locator("[data-verdict]").first).to_be_visible()


def publishes_at_a_legal_price(page: Page) -> None:
    """A cent below the floor is refused with the lowest legal price."""
    page.get_by_role("link", name="Publish the result").click()
    page.get_by_role("textbox", name="Name", exact=True).fill(GRANDCHILD.partition("/")[2])
    page.get_by_label("Price").fill("1.49")
    page.get_by_role("button", name="Publish").click()
    refusal = f"Each sale owes {ROOT} €1.50: the lowest price that you may set is €1.50."
    expect(page.get_by_role("alert")).to_contain_text(refusal)
    page.get_by_label("Price").fill("19.99")
    page.get_by_role("button", name="Publish").click()
    page.get_by_role("link", name="See it in the catalog").click(timeout=CHECK_SECONDS * 1000)
    for ancestor in (CHILD, ROOT):
        expect(page.locator("#lineage").get_by_role("link", name=ancestor)).to_be_visible()


def sells(page: Page, market: Market) -> None:
    """fay orders GRANDCHILD over the API, twice with one key; bea marks the one order as paid."""
    terms = market.ask("fay", "GET", f"listings/{GRANDCHILD}/")["terms"]
    wanted = {"terms_hash": terms["terms_hash"]}
    orders = [
        market.ask("fay", "POST", f"listings/{GRANDCHILD}/grants/", wanted, key="one purchase", status=202)
        for _ in range(2)
    ]
    assert [order["amount_minor"] for order in orders] == [GRANDCHILD_MINOR] * 2
    assert len({order["id"] for order in orders}) == 1
    page.goto(f"{market.stack.url}/vendor/sales/")
    page.get_by_role("row").filter(has_text=GRANDCHILD).get_by_role("link").first.click()
    expect(fact(page, f"Royalty to {ROOT}")).to_have_text("€1.99")
    expect(fact(page, "You")).to_have_text("€18.00")
    page.get_by_role("button", name="Mark as paid").click()
    expect(page.get_by_role("link", name="The license")).to_be_visible()
    (grant,) = market.ask("fay", "GET", f"listings/{GRANDCHILD}/grants/")["results"]
    assert grant["status"] == "active"


def assert_the_books_balance(market: Market) -> None:
    """What the sellers kept of prices that they received themselves they owe, to the cent, to the one whose it is."""
    books = {}
    for name in ("rhea", "milo", "bea"):
        (books[name],) = market.ask(name, "GET", f"statements/{name}/")["statements"]
    assert books["rhea"]["royalties_in"] == ROYALTIES_MINOR
    for name, price, royalty in (("milo", CHILD_MINOR, FLOOR_MINOR), ("bea", GRANDCHILD_MINOR, 199)):
        sold = {line: books[name][line] for line in ("sales", "royalties_out", "paid_directly", "fees")}
        assert sold == {"sales": price, "royalties_out": -royalty, "paid_directly": -price, "fees": 0}
    assert {name: book["closing"] for name, book in books.items()} == {"rhea": 349, "milo": -150, "bea": -199}


def test_a_model_of_noncommercial_data_is_not_sold_over_the_api_and_may_be_given_away(market: Market) -> None:
    finished(market, "fay", market.noncommercial_run)
    wanted = {"namespace": "fay", "name": "efficientnet-gift"}

    refused = market.ask(
        "fay", "POST", f"runs/{market.noncommercial_run}/publish/", {**wanted, "price_minor": 900}, status=403
    )

    assert refused["code"] == "price_not_allowed", refused
    assert {reason["parent"] for reason in refused["reasons"]} == {"the data “shapes”"}
    assert {reason["right"] for reason in refused["reasons"]} == {"sell_derivatives", "commercial_use"}
    assert all("NonCommercial" in reason["words"] for reason in refused["reasons"])
    market.ask("fay", "GET", "listings/fay/efficientnet-gift/", status=404)
    market.ask("fay", "POST", f"runs/{market.noncommercial_run}/publish/", wanted, status=201)
    in_state(market, "fay/efficientnet-gift", "published")


def test_a_proprietary_child_of_an_mit_model_is_published_with_its_notice_over_the_api(market: Market) -> None:
    child = "milo/efficientnet-of-open"
    accepted(market, "milo", OPEN)
    drafted(market, child, license="commercial", price_minor=4900, terms={"include_text": True})
    made_of = {"listing": OPEN, "version": "1.0", "relation": "finetune"}
    market.ask("milo", "POST", f"listings/{child}/releases/1.0/parents/", made_of, status=201)

    submitted(market, child)
    published(market, child)

    listing = market.ask("fay", "GET", f"listings/{child}/")
    assert (listing["terms"]["license_id"], listing["terms"]["price_minor"]) == ("other", 4900)
    paths = {document["path"] for document in market.ask("fay", "GET", f"listings/{child}/releases/1.0/obligations/")}
    assert "NOTICE.txt" in paths
    assert any("mit" in path.lower() for path in paths), paths


def composing(market: Market, page: Page, parent: str, *, key: str) -> str:
    """Opens, for milo, the terms of a draft that was made from `parent` and has the license `key`; returns its listing."""
    child = f"milo/efficientnet-under-{key}"
    accepted(market, "milo", parent)
    drafted(market, child, license=key)
    made_of = {"listing": parent, "version": "1.0", "relation": "finetune"}
    market.ask("milo", "POST", f"listings/{child}/releases/1.0/parents/", made_of, status=201)
    sign_in(page, market.stack, "milo")
    page.goto(f"{market.stack.url}/vendor/{child}/terms/new/?start=commercial&version=1.0")
    page.get_by_label("Pass on the license text").check()
    return child


def test_a_price_for_a_child_of_a_noncommercial_model_is_refused_on_the_page(market: Market, page: Page) -> None:
    child = composing(market, page, NONCOMMERCIAL, key="cc-by-nc-4.0")

    page.get_by_role("button", name="Save on the draft").click()

    problem = page.get_by_role("alert")
    expect(problem).to_contain_text(f"{NONCOMMERCIAL}@1.0 (“Creative Commons Attribution-NonCommercial 4.0”)")
    release = market.ask("milo", "GET", f"listings/{child}/releases/1.0/")
    assert release["terms"]["license_id"] == "cc-by-nc-4.0"


def test_a_child_of_an_mit_model_becomes_proprietary_on_the_page_with_the_notice(market: Market, page: Page) -> None:
    child = composing(market, page, OPEN, key="mit")

    page.get_by_role("spinbutton", name="Price", exact=True).fill("49")
    page.get_by_role("button", name="Save on the draft").click()

    expect(page.get_by_text("Commercial license · €49.00")).to_be_visible()
    release = market.ask("milo", "GET", f"listings/{child}/releases/1.0/")
    assert (release["terms"]["price_minor"], release["terms"]["document"]["attribution"]) == (4900, "notice")
