from django.db import migrations, models


class Migration(migrations.Migration):
    """A run can be paused, and the same fine-tune is not launched beside a paused one."""

    dependencies = [("finetuning", "0007_dataset_terms")]

    operations = [
        migrations.AddField("run", "pause_requested_at", models.DateTimeField(blank=True, null=True)),
        migrations.AlterField(
            "run",
            "status",
            models.CharField(
                choices=[
                    ("queued", "Queued"),
                    ("starting", "Starting"),
                    ("running", "Running"),
                    ("paused", "Paused"),
                    ("succeeded", "Done"),
                    ("failed", "Failed"),
                    ("canceled", "Canceled"),
                ],
                default="queued",
                max_length=10,
            ),
        ),
        migrations.RemoveConstraint("run", "finetuning_run_status"),
        migrations.AddConstraint(
            "run",
            models.CheckConstraint(
                condition=models.Q(
                    status__in=["queued", "starting", "running", "paused", "succeeded", "failed", "canceled"]
                ),
                name="finetuning_run_status",
            ),
        ),
        migrations.RemoveConstraint("run", "finetuning_run_active_once"),
        migrations.AddConstraint(
            "run",
            models.UniqueConstraint(
                condition=models.Q(status__in=["queued", "starting", "running", "paused"]),
                fields=("owner", "spec_sha256"),
                name="finetuning_run_active_once",
            ),
        ),
    ]
