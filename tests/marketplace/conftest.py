from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sites import ROOT, Site, environment


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory as `bootstrap` leaves it, made once."""
    folder = tmp_path_factory.mktemp("prepared")
    command = [sys.executable, "manage.py", "bootstrap", "--no-demo"]
    subprocess.run(command, cwd=ROOT, env=environment(folder), check=True, capture_output=True)
    return folder


@pytest.fixture
def site(_prepared: Path, tmp_path: Path) -> Site:
    """An empty site of the test's own."""
    shutil.copytree(_prepared, tmp_path / "data")
    return Site(tmp_path / "data")
