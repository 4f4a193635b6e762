from __future__ import annotations

import pytest
import worlds
from django.core.cache import cache


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


@pytest.fixture
def world(transactional_db: None) -> worlds.World:  # noqa: ARG001 - opens the database
    return worlds.licensed_buyer()
