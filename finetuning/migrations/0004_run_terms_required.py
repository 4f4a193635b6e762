"""Every run stands under terms."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("finetuning", "0003_license_of_earlier_runs")]

    operations = [
        migrations.AlterField(
            "run",
            "terms",
            models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="models_catalog.licenseterms"
            ),
        ),
    ]
