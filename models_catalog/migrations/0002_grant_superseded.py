"""An expired grant makes room for the one that renews it."""

from django.db import migrations, models
from django.db.models import F, Q


class Migration(migrations.Migration):
    dependencies = [("models_catalog", "0001_initial")]

    operations = [
        migrations.AddField("grant", "superseded_at", models.DateTimeField(blank=True, null=True)),
        migrations.RemoveConstraint("grant", "models_catalog_grant_once"),
        migrations.AddConstraint(
            "grant",
            models.UniqueConstraint(
                fields=("licensee", "listing", "terms"),
                condition=Q(revoked_at__isnull=True, superseded_at__isnull=True),
                name="models_catalog_grant_once",
            ),
        ),
        migrations.AddConstraint(
            "grant",
            models.CheckConstraint(
                condition=Q(superseded_at__isnull=True)
                | Q(expires_at__isnull=False, expires_at__lte=F("superseded_at")),
                name="models_catalog_grant_superseded_expired",
            ),
        ),
    ]
