"""What other connections do to the tests' database, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from django.db import connection

_TABLES = "finetuning_attempt, finetuning_runevent, finetuning_run"


@contextmanager
def locked() -> Iterator[sqlite3.Connection | psycopg.Connection]:
    """Somebody else's transaction, in which nobody can write a run; it ends by `rollback`, or with the block."""
    if connection.vendor == "sqlite":
        other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
    else:
        given = connection.settings_dict
        other = psycopg.connect(
            host=given["HOST"], port=given["PORT"], user=given["USER"], password=given["PASSWORD"], dbname=given["NAME"]
        )
        other.execute(f"LOCK TABLE {_TABLES} IN EXCLUSIVE MODE")
    try:
        yield other
    finally:
        other.rollback()
        other.close()


def give_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """New connections wait a tenth of a second for a lock."""
    if connection.vendor == "sqlite":
        monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", 0.1)
    else:
        monkeypatch.setitem(connection.settings_dict["OPTIONS"], "options", "-c lock_timeout=100")


def connections_open() -> int:
    """Counts this process's connections with the tests' database."""
    if connection.vendor == "sqlite":
        # Write-ahead logs: SQLite may keep the database's own descriptor for its next connection.
        name = f"{connection.settings_dict['NAME']}-wal"
        return sum(os.readlink(fd) == name for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink())
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def deletions(_style: object, tables: list[str], **_options: bool) -> list[str]:
    """Empties tables after a test with real transactions. Django's TRUNCATE makes every file of every table and index
    anew: seconds for each test, where a few rows are to go. As a replica, no trigger and no foreign key is asked."""
    rows = [f"DELETE FROM {connection.ops.quote_name(table)}" for table in tables]  # noqa: S608 - names of our models
    return ["SET LOCAL session_replication_role = replica", *rows]
