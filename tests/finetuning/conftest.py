from __future__ import annotations

import os
import pickle
from pathlib import Path

import engine_runs
import pytest
import worlds
from django.core.cache import cache
from engine_runs import EngineRun
from filelock import FileLock

from finetuning.engine.spec import Task


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


class MadeOnce(dict[Task, EngineRun]):
    """Each made by the first test of any worker that asks for it, in a folder that the workers share."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __missing__(self, task: Task) -> EngineRun:
        kept = self._folder / f"{task.value}.pickle"
        with FileLock(kept.with_suffix(".lock")):
            if not kept.exists():
                kept.write_bytes(pickle.dumps(engine_runs.made(task, self._folder / task.value)))
        self[task] = pickle.loads(kept.read_bytes())  # noqa: S301 - our own file
        return self[task]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, EngineRun]:
    """What the real engine makes of a tiny upload of each task."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "made"
    folder.mkdir(exist_ok=True)
    return MadeOnce(folder)


@pytest.fixture
def trainable(transactional_db: None, tmp_path: Path) -> worlds.World:  # noqa: ARG001 - opens the database
    return worlds.with_weights(tmp_path / "release")


@pytest.fixture
def world(transactional_db: None) -> worlds.World:  # noqa: ARG001 - opens the database
    return worlds.licensed_buyer()
