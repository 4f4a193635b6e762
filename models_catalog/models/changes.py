"""Changes of what the catalog shows to everybody; change_watch.py says which they are."""

from __future__ import annotations

from django.db import connection, models

# As `state` and change_watch.py name it in SQL.
TABLE = "models_catalog_catalogchange"


class CatalogChange(models.Model):
    """A write to a table that public pages are made of. Triggers add rows, in the transaction of the write."""

    def __str__(self) -> str:
        return f"change {self.pk}"


def state() -> tuple[int | None, int | None, int]:
    """Returns what every committed change makes another: lowest and highest number of the changes, and how many. The
    highest alone would not do, as on PostgreSQL a lower number may be committed after it. In plain SQL, for it
    precedes every page that is kept: the ORM takes ten times as long."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT MIN(id), MAX(id), COUNT(*) FROM {TABLE}")  # noqa: S608 - a constant
        lowest, highest, number = cursor.fetchone()
    return lowest, highest, number
