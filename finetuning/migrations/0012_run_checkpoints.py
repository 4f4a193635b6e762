from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("finetuning", "0001_squashed_0011_estimates"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="checkpoints",
            field=models.JSONField(blank=True, default=dict),
        ),
    ]
