"""Every grant follows from an order, a free one too."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("models_catalog", "0004_orders_of_free_grants")]

    operations = [
        migrations.AlterField(
            "grant",
            "order",
            models.OneToOneField(
                on_delete=django.db.models.deletion.PROTECT, related_name="grant", to="models_catalog.order"
            ),
        ),
    ]
