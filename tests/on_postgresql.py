"""Runs tests once more in an interpreter of their own whose database is a PostgreSQL's (POSTGRES_URL)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

URL = os.environ.get("POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres")
ROOT = Path(__file__).resolve().parents[1]


def assert_passes(path: str, *, number: int) -> None:
    """Skips where no PostgreSQL answers; else asserts that `number` tests at the path pass there."""
    try:
        psycopg.connect(URL, connect_timeout=2).close()
    except psycopg.OperationalError:
        pytest.skip("no PostgreSQL: set POSTGRES_URL")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--create-db", path]

    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "TEST_DATABASE_URL": URL},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert f"{number} passed" in done.stdout, done.stdout[-2000:]
