from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('models_catalog', '0014_quarantine'),
    ]

    operations = [
        migrations.AddConstraint(
            model_name='lineageedge',
            constraint=models.CheckConstraint(condition=models.Q(('parent__isnull', True), models.Q(('parent', models.F('child')), _negated=True), _connector='OR'), name='models_catalog_lineage_edge_not_itself'),
        ),
    ]
