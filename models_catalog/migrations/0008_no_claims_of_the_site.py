"""That this site measured a figure follows from a release's metrics; the text that said so is dropped, whoever
wrote it. A derivative's accuracy stays; a page names its source by itself."""

from django.db import migrations


def drop_claims(apps, _schema_editor):
    Listing = apps.get_model("models_catalog", "Listing")
    Listing.objects.filter(accuracy_source__iexact="Measured by this site").update(accuracy_source="")


class Migration(migrations.Migration):
    dependencies = [("models_catalog", "0007_weights_origin")]

    operations = [migrations.RunPython(drop_claims, migrations.RunPython.noop)]
