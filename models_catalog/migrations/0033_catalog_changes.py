from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

from models_catalog.models import change_watch


def remove_triggers(_apps: StateApps, editor: BaseDatabaseSchemaEditor) -> None:
    change_watch.remove(editor.connection.alias)


class Migration(migrations.Migration):
    dependencies = [("models_catalog", "0032_commits")]

    operations = [
        migrations.CreateModel(
            name="CatalogChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
            ],
        ),
        # Back: what writes into the table goes before it does. There, `post_migrate` makes it.
        migrations.RunPython(migrations.RunPython.noop, remove_triggers),
    ]
