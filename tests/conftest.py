"""Fixtures of the whole suite: a browser that fails on any console error, people, and the running product."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from typing import Any

import doorbell
import exchanges
import other_databases
import pytest
from django.conf import settings as site_settings
from django.core.cache import caches
from django.db import connection
from hypothesis import HealthCheck, settings
from live_stack import Stack
from xdist.scheduler import LoadFileScheduling

from models_catalog.models import LedgerTransaction, ledger_guard

# Playwright leaves its event loop running, and Django then takes all that the worker does afterwards for async.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
# A machine with other work draws and runs examples slowly; that is no fault of a property.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
if connection.vendor == "postgresql":
    connection.ops.sql_flush = other_databases.deletions
WITH_STACK = ("tests/browser/", "tests/flows/")
# Where a test takes longest comes first, or the last workers would end with a long file each.
LONGEST_FIRST = (*WITH_STACK, "tests/finetuning/", "tests/engine/", "tests/chaos/", "tests/marketplace/")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # One process for all pages of the site: it has read the page's scripts and axe before.
    "--process-per-site",
    "--renderer-process-limit=1",
]


def chromium() -> str | None:
    """The shell comes first: the same engine without windows, at half of the processor time."""
    names = (os.environ.get("CHROMIUM", ""), "chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if name and (found := shutil.which(name))), None)


class Shares(LoadFileScheduling):
    """A worker takes one file after the other, in the order of the tests; those of the running product are one share,
    so that it is started and seeded once. (xdist's own groups go by a name that pytest 9.2 no longer lets it change.)"""

    def _split_scope(self, nodeid: str) -> str:
        return "stack" if nodeid.startswith(WITH_STACK) else super()._split_scope(nodeid)


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("RECORD_EXAMPLES"):
        config.pluginmanager.register(exchanges.Recorder())


@pytest.hookimpl(optionalhook=True)  # there is no such hook without workers
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Shares:
    config.option.loadscopereorder = False
    return Shares(config, log)


def pytest_collection_finish() -> None:
    """What the collection imported stays to the end: the collector need not look through it for every test."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_place)
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            assert item.nodeid.startswith(WITH_STACK), f"{item.nodeid} would start a second product: move it"
        if "page" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
            if chromium() is None and not os.environ.get("CI"):
                item.add_marker(pytest.mark.skip(reason="no Chromium: apt install chromium, or set CHROMIUM"))


def _place(item: pytest.Item) -> int:
    folders = [folder for folder in LONGEST_FIRST if item.nodeid.startswith(folder)]
    return LONGEST_FIRST.index(folders[0]) if folders else len(LONGEST_FIRST)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    assert chromium(), "CI needs a Chromium: apt install chromium"
    return {**browser_type_launch_args, "executable_path": chromium(), "headless": True, "args": FLAGS}


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args: dict[str, Any]) -> dict[str, Any]:
    return {**browser_context_args, "viewport": {"width": 1200, "height": 900}, "reduced_motion": "reduce"}


@pytest.fixture
def page(page: Any) -> Iterator[Any]:
    """A page on which a CSP violation, a missing file or a script's error fails the test."""
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    assert not problems, problems


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The real product, started once by its own command on a data directory of its own."""
    # Small parts, so that files of a few megabytes already come in several.
    with Stack(tmp_path_factory.mktemp("stack"), LFS_PART_BYTES="1000000") as running:
        yield running


@pytest.fixture(autouse=True)
def _ledger_can_be_emptied(request: pytest.FixtureRequest, _django_db_marker: None) -> Iterator[None]:
    """A test with real transactions ends by emptying every table, which the ledger's triggers refuse; `flush` puts
    them back."""
    yield
    marker = request.node.get_closest_marker("django_db")
    if marker is not None and marker.kwargs.get("transaction") and LedgerTransaction.objects.exists():
        ledger_guard.remove("default")


@pytest.fixture(autouse=True)
def _no_kept_pages() -> None:
    """A test's rows are rolled back, and with them the number of the change that made them. And nobody is told to wait
    for what the tests before have asked."""
    caches["pages"].clear()
    caches["throttles"].clear()


@pytest.fixture(autouse=site_settings.BROKER_URL != "")
def _silent_queue() -> None:
    """No transaction that is rolled back takes the messages of the test before out of Redis."""
    doorbell.silence()
