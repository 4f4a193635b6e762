from __future__ import annotations

from pathlib import Path

import engine_runs
import pytest
import worlds
from django.core.cache import cache
from engine_runs import EngineRun

from finetuning.engine.spec import Task


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, EngineRun]:
    """What the real engine makes of a tiny upload of each task."""
    return {task: engine_runs.made(task, tmp_path_factory.mktemp(task.value)) for task in Task}


@pytest.fixture
def trainable(transactional_db: None, tmp_path: Path) -> worlds.World:  # noqa: ARG001 - opens the database
    return worlds.with_weights(tmp_path / "release")


@pytest.fixture
def world(transactional_db: None) -> worlds.World:  # noqa: ARG001 - opens the database
    return worlds.licensed_buyer()
