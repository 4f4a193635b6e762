"""A release may be declared to be another one's very weights."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("models_catalog", "0005_grant_order_required")]

    operations = [
        migrations.AlterField(
            "lineageedge",
            "relation",
            models.CharField(
                choices=[
                    ("finetune", "Fine-tuned from"),
                    ("adapter", "Adapter of"),
                    ("merge", "Merged from"),
                    ("quantized", "Quantized from"),
                    ("copy", "Same weights as"),
                    ("trained_on", "Trained on"),
                ],
                max_length=12,
            ),
        ),
    ]
