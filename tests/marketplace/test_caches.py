from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import caches
from django.core.management import call_command
from django.db import connection
from django.test import Client

from marketplace import settings as product

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _as_shipped(settings: Any) -> None:
    settings.CACHES = product.CACHES
    call_command("createcachetable")
    caches["default"].clear()


def test_a_login_counter_outlives_whatever_else_is_cached() -> None:
    caches["default"].set("allauth:rl:login_failed:root", [1, 2, 3], timeout=300)
    for number in range(1000):
        caches["default"].set(f"other-{number}", number, timeout=300)

    assert caches["default"].get("allauth:rl:login_failed:root") == [1, 2, 3]


def test_a_call_of_the_api_is_counted_without_a_write_to_the_database(client: Client) -> None:
    statements: list[str] = []

    def watch(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        statements.append(sql)
        return execute(sql, *rest)

    with connection.execute_wrapper(watch):
        answer = client.get("/api/v1/listings/")

    assert answer.status_code == 200
    assert statements
    assert not [sql for sql in statements if not sql.startswith("SELECT") or '"cache"' in sql]
