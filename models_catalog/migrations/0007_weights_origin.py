"""Weights that this server trained are known by their digest."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("models_catalog", "0006_lineage_relation_copy")]

    operations = [
        migrations.CreateModel(
            "WeightsOrigin",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sha256", models.CharField(max_length=64)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "parent",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="models_catalog.release"
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            "weightsorigin",
            models.UniqueConstraint(fields=("sha256", "parent"), name="models_catalog_weights_origin_once"),
        ),
    ]
