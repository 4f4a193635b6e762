"""Triggers that hold the ledger where no CHECK can: rows never change or go, and both accounts of an entry have its
transaction's currency.

Installed after every `migrate` and not by one migration: SQLite rebuilds a table to alter it, and drops the triggers
with the old one.
"""

from __future__ import annotations

from typing import Any

from django.db import connections

TABLES = ("models_catalog_ledgertransaction", "models_catalog_ledgerentry")
_ENTRY = TABLES[1]
_CURRENCIES = """(SELECT COUNT(DISTINCT currency) FROM (
    SELECT currency FROM models_catalog_ledgeraccount WHERE id IN (NEW.debit_id, NEW.credit_id)
    UNION ALL SELECT currency FROM models_catalog_ledgertransaction WHERE id = NEW.transaction_id) AS used) > 1"""


def install(using: str, **_given: Any) -> None:
    """Makes the triggers where they are missing; a receiver of `post_migrate`."""
    connection = connections[using]
    made = set(connection.introspection.table_names())
    if not made.issuperset(TABLES):
        return  # migrated back to before the ledger
    with connection.cursor() as cursor:
        for statement in {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}.get(connection.vendor, ()):
            cursor.execute(statement)


def remove(using: str) -> None:
    """Takes the triggers away, for a test's database that is emptied between tests."""
    connection = connections[using]
    on_table = " ON {table}" if connection.vendor == "postgresql" else ""
    with connection.cursor() as cursor:
        for table in TABLES:
            for verb in ("update", "delete"):
                cursor.execute(f"DROP TRIGGER IF EXISTS {table}_no_{verb}" + on_table.format(table=table))


_SQLITE = [
    *(
        f"""CREATE TRIGGER IF NOT EXISTS {table}_no_{verb} BEFORE {verb} ON {table}
        BEGIN SELECT RAISE(ABORT, 'the ledger is only added to'); END"""
        for table in TABLES
        for verb in ("update", "delete")
    ),
    f"""CREATE TRIGGER IF NOT EXISTS {_ENTRY}_one_currency BEFORE INSERT ON {_ENTRY} WHEN {_CURRENCIES}
    BEGIN SELECT RAISE(ABORT, 'a ledger entry has one currency'); END""",
]
_POSTGRESQL = [
    """CREATE OR REPLACE FUNCTION models_catalog_ledger_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'the ledger is only added to' USING ERRCODE = 'integrity_constraint_violation'; END $$""",
    f"""CREATE OR REPLACE FUNCTION models_catalog_ledger_one_currency() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN IF {_CURRENCIES} THEN RAISE EXCEPTION 'a ledger entry has one currency'
    USING ERRCODE = 'integrity_constraint_violation'; END IF; RETURN NEW; END $$""",
    *(
        f"""CREATE OR REPLACE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table}
        FOR EACH ROW EXECUTE FUNCTION models_catalog_ledger_append_only()"""
        for table in TABLES
        for verb in ("update", "delete")
    ),
    f"""CREATE OR REPLACE TRIGGER {_ENTRY}_one_currency BEFORE INSERT ON {_ENTRY}
    FOR EACH ROW EXECUTE FUNCTION models_catalog_ledger_one_currency()""",
]
