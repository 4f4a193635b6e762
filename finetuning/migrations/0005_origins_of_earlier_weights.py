"""What earlier runs trained is known by its digest, as what later ones train."""

from django.db import migrations


def remember(apps, _schema_editor):
    Run = apps.get_model("finetuning", "Run")
    WeightsOrigin = apps.get_model("models_catalog", "WeightsOrigin")
    for run in Run.objects.filter(status="succeeded").iterator():
        if weights := run.artifacts.get("release/model.safetensors"):
            WeightsOrigin.objects.get_or_create(sha256=weights["sha256"], parent_id=run.release_id)


class Migration(migrations.Migration):
    dependencies = [
        ("models_catalog", "0007_weights_origin"),
        ("finetuning", "0004_run_terms_required"),
    ]

    operations = [migrations.RunPython(remember, migrations.RunPython.noop)]
