"""Triggers that note a change of what public pages show, whoever makes it: services, bulk writes, the admin, SQL by hand.

A row is added for each and none is changed, so that no two transactions wait for one another. Installed after every
`migrate`, as ledger_guard.py says.
"""

from __future__ import annotations

from typing import Any

from django.db import connections

from models_catalog.models.changes import TABLE

TABLES = (
    "models_catalog_listing",
    "models_catalog_release",
    "models_catalog_artifact",
    "models_catalog_licenseterms",
    "models_catalog_clauseset",
    "models_catalog_lineageedge",
    "models_catalog_incident",
    "models_catalog_flag",
    "accounts_namespace",
    "accounts_organization",
)
_VERBS = ("insert", "update", "delete")
_TRIGGERS = [(f"{table}_noted_{verb}", verb, table) for table in TABLES for verb in _VERBS]


def install(using: str, **_given: Any) -> None:
    """Makes the triggers where they are missing; a receiver of `post_migrate`."""
    connection = connections[using]
    if not set(connection.introspection.table_names()).issuperset({TABLE, *TABLES}):
        return  # migrated back to before the changes
    with connection.cursor() as cursor:
        for statement in {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}.get(connection.vendor, ()):
            cursor.execute(statement)


def remove(using: str) -> None:
    """Takes the triggers away: without the table of changes they would refuse every write."""
    connection = connections[using]
    with connection.cursor() as cursor:
        for name, _, table in _TRIGGERS:
            on_table = f" ON {table}" if connection.vendor == "postgresql" else ""
            cursor.execute(f"DROP TRIGGER IF EXISTS {name}{on_table}")


_NOTE = f"INSERT INTO {TABLE} (id) VALUES (NULL)"  # noqa: S608 - a constant
_SQLITE = [
    f"CREATE TRIGGER IF NOT EXISTS {name} AFTER {verb} ON {table} BEGIN {_NOTE}; END" for name, verb, table in _TRIGGERS
]
_POSTGRESQL = [
    f"""CREATE OR REPLACE FUNCTION models_catalog_note_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO {TABLE} DEFAULT VALUES; RETURN NULL; END $$""",
    *(
        f"""CREATE OR REPLACE TRIGGER {name} AFTER {verb} ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION models_catalog_note_change()"""
        for name, verb, table in _TRIGGERS
    ),
]
