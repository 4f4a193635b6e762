"""Terms of before have no set of clauses yet, by which the catalog's search finds them."""

import hashlib
import json

from django.db import migrations

RIGHTS = (
    "use",
    "commercial_use",
    "commercial_outputs",
    "host_as_service",
    "fine_tune",
    "share_derivatives",
    "sell_derivatives",
    "redistribute",
    "sublicense",
    "train_other_models_on_outputs",
    "publish_benchmarks",
)


def give_sets(apps, schema_editor):
    ClauseSet = apps.get_model("models_catalog", "ClauseSet")
    LicenseTerms = apps.get_model("models_catalog", "LicenseTerms")
    for row in LicenseTerms.objects.filter(clause_set=None).iterator():
        document = row.document
        clauses = {
            "rights": {right: document["rights"].get(right, "deny") for right in RIGHTS},
            "prohibited_uses": sorted(document.get("prohibited_uses", ())),
            "denied_territories": sorted(document.get("denied_territories", ())),
            "research_only": document.get("research_only", False),
            "max_monthly_users": document.get("max_monthly_users", 0),
        }
        digest = hashlib.sha256(json.dumps(clauses, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
        clause_set, _ = ClauseSet.objects.get_or_create(sha256=digest, defaults={"clauses": clauses})
        LicenseTerms.objects.filter(pk=row.pk).update(clause_set=clause_set)


class Migration(migrations.Migration):
    dependencies = [("models_catalog", "0019_clause_sets")]

    operations = [migrations.RunPython(give_sets, migrations.RunPython.noop)]
