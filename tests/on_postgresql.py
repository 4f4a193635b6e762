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
ALL = ("tests/accounts", "tests/finetuning", "tests/marketplace", "tests/models_catalog")
# Where two of them act at once, a lock or a constraint decides, or a message is sent: what .ci/run has the time for.
SHORT = (
    "tests/accounts/test_notifications.py",
    "tests/finetuning/test_buckets.py::test_nothing_is_removed_while_somebody_stores",
    "tests/finetuning/test_derivatives.py::test_two_requests_at_once_give_one_derivative",
    "tests/finetuning/test_garbage.py::test_no_upload_ever_loses_its_blob_to_a_removal_at_the_same_time",
    "tests/finetuning/test_gone_workers.py",
    "tests/finetuning/test_leases.py",
    "tests/finetuning/test_preconditions.py::test_of_two_edits_of_the_same_state_at_once_one_is_made",
    "tests/finetuning/test_steering.py::test_of_two_who_ask_at_once_the_run_hears_one",
    "tests/finetuning/test_token_caps.py::test_of_two_calls_at_once_that_pass_the_cap_together_one_is_refused",
    "tests/marketplace/test_canary.py",
    "tests/marketplace/test_idempotency.py",
    "tests/marketplace/test_uploads.py::test_two_pieces_at_once_are_one_and_a_refusal",
    "tests/marketplace/test_webhooks.py",
    "tests/models_catalog/test_hub_races.py",
    "tests/models_catalog/test_incidents.py::test_two_members_of_the_staff_at_once_quarantine_and_lift_once",
    "tests/models_catalog/test_order_races.py",
    "tests/models_catalog/test_orders.py",
    "tests/models_catalog/test_publishing.py::test_publishing_and_withdrawing_take_turns_on_the_listing",
    "tests/models_catalog/test_seats.py",
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
    short = "--short" in arguments
    given = [argument for argument in arguments if argument != "--short"]
    paths = [] if any(argument.startswith("tests/") for argument in given) else [*(SHORT if short else ALL)]
    workers = [] if any(argument.startswith("-n") for argument in given) else ["-n", "logical", "--maxprocesses", "4"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--create-db", *workers, *paths, *given],
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
