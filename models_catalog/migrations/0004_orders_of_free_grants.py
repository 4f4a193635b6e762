"""Gives the free grants of earlier versions the order that every grant has now."""

from django.db import migrations


def add_orders(apps, _schema_editor):
    Grant = apps.get_model("models_catalog", "Grant")
    Order = apps.get_model("models_catalog", "Order")
    for grant in Grant.objects.filter(order__isnull=True).select_related("terms").iterator():
        grant.order = Order.objects.create(
            buyer_id=grant.licensee_id,
            listing_id=grant.listing_id,
            terms_id=grant.terms_id,
            placed_by_id=grant.accepted_by_id,
            placed_at=grant.accepted_at,
            amount_minor=0,
            currency=grant.terms.currency,
            provider="free",
            status="paid",
            settled_by_id=grant.accepted_by_id,
            settled_at=grant.accepted_at,
        )
        grant.save(update_fields=["order"])


class Migration(migrations.Migration):
    dependencies = [("models_catalog", "0003_access_request_per_terms")]

    operations = [migrations.RunPython(add_orders, migrations.RunPython.noop)]
