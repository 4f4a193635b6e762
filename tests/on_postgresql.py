"""Runs the tests that a server can change on PostgreSQL and Redis: `make test-postgres`.

POSTGRES_URL and REDIS_URL name the servers. Each worker makes a database of its own there, which Django removes, and
takes one of Redis' numbered databases from REDIS_URL's upwards. Engine and browser tests ask neither server.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import redis

URL = os.environ.get("POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres")
BROKER = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/8")
ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("tests/accounts", "tests/finetuning", "tests/marketplace", "tests/models_catalog")
# Here whole sites run on databases of their own, or engines alone: they take long, and no server hears of it.
ASK_NO_SERVER = (
    "tests/finetuning/test_fork_server.py",
    "tests/finetuning/test_rehearsals.py",
    "tests/marketplace/test_processes.py",
    "tests/marketplace/test_web.py",
)


def postgresql_answers() -> bool:
    try:
        psycopg.connect(URL, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def redis_answers() -> bool:
    try:
        return bool(redis.Redis.from_url(BROKER, socket_connect_timeout=2).ping())
    except redis.RedisError:
        return False


def main(arguments: list[str]) -> int:
    if not postgresql_answers():
        return _refuse(
            f"No PostgreSQL answers at {_place(URL)}: start one, or set POSTGRES_URL=postgres://USER@HOST/NAME."
        )
    if not redis_answers():
        return _refuse(f"No Redis answers at {_place(BROKER)}: start one, or set REDIS_URL=redis://HOST:PORT/NUMBER.")
    named = any(argument.startswith("tests/") for argument in arguments)
    chosen = [] if named else [*FOLDERS, *(f"--ignore={path}" for path in ASK_NO_SERVER)]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--create-db", *chosen, *arguments],
        cwd=ROOT,
        env={**os.environ, "TEST_DATABASE_URL": URL, "TEST_BROKER_URL": BROKER},
        check=False,
    ).returncode


def _place(url: str) -> str:
    """The address without a password."""
    return url.rpartition("@")[2].rpartition("//")[2]


def _refuse(words: str) -> int:
    sys.stderr.write(f"{words}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
