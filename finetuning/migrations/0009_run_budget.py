import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """What a run may use and is charged, and a namespace's hours of compute a month."""

    dependencies = [("finetuning", "0008_run_pause"), ("accounts", "0004_idempotent_calls")]

    operations = [
        migrations.AddField("run", "budget_minutes", models.PositiveIntegerField(blank=True, null=True)),
        migrations.AddField("run", "charge_minor", models.PositiveIntegerField(default=0)),
        migrations.AddField("run", "charge_currency", models.CharField(blank=True, max_length=3)),
        migrations.CreateModel(
            "ComputeQuota",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "hours_per_month",
                    models.PositiveIntegerField(help_text="Hours of compute a calendar month; 0 is no limit."),
                ),
                (
                    "namespace",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="compute_quota",
                        to="accounts.namespace",
                    ),
                ),
            ],
            options={"verbose_name_plural": "compute quotas"},
        ),
    ]
