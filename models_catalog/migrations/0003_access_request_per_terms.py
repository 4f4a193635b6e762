"""A request is for terms: one for version 2.0's does not wait behind one for 1.0's."""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("models_catalog", "0002_grant_superseded")]

    operations = [
        migrations.RemoveConstraint("accessrequest", "models_catalog_access_request_pending_once"),
        migrations.AddConstraint(
            "accessrequest",
            models.UniqueConstraint(
                fields=("requester", "listing", "terms"),
                condition=Q(status="pending"),
                name="models_catalog_access_request_pending_once",
            ),
        ),
    ]
