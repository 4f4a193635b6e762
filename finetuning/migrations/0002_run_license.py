"""A run remembers the license that it was launched under."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("models_catalog", "0005_grant_order_required"),
        ("finetuning", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            "run",
            "grant",
            models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="runs",
                to="models_catalog.grant",
            ),
        ),
        migrations.AddField(
            "run",
            "terms",
            models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="models_catalog.licenseterms",
            ),
        ),
    ]
