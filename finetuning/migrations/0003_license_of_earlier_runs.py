"""Earlier runs: the grant that their owner holds of the model, first one of the release's own terms."""

from django.db import migrations


def find_licenses(apps, _schema_editor):
    Grant = apps.get_model("models_catalog", "Grant")
    Run = apps.get_model("finetuning", "Run")
    for run in Run.objects.filter(terms__isnull=True).select_related("release").iterator():
        grants = Grant.objects.filter(licensee_id=run.owner_id, listing_id=run.release.listing_id)
        newest = grants.order_by("-accepted_at")
        grant = newest.filter(terms_id=run.release.terms_id).first() or newest.first()
        run.grant = grant
        run.terms_id = grant.terms_id if grant else run.release.terms_id
        run.save(update_fields=["grant", "terms"])


class Migration(migrations.Migration):
    dependencies = [("finetuning", "0002_run_license")]

    operations = [migrations.RunPython(find_licenses, migrations.RunPython.noop)]
