"""Earlier downloads have no day: the first of each kind in a day gets one, so that only it counts."""

from django.db import migrations


def give_days(apps, schema_editor):
    Download = apps.get_model("models_catalog", "Download")
    seen = set()
    for row in Download.objects.filter(day=None).order_by("pk").iterator():
        key = (row.artifact_id, row.at.date(), row.user_id, row.client)
        if key not in seen:
            seen.add(key)
            Download.objects.filter(pk=row.pk).update(day=row.at.date())


class Migration(migrations.Migration):
    dependencies = [("models_catalog", "0010_download_clients")]

    operations = [migrations.RunPython(give_days, migrations.RunPython.noop)]
