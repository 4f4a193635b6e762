from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('models_catalog', '0013_reviews_and_moderation'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='release',
            name='models_catalog_release_status',
        ),
        migrations.RemoveConstraint(
            model_name='release',
            name='models_catalog_release_published_manifest',
        ),
        migrations.AddField(
            model_name='release',
            name='quarantine_reason',
            field=models.CharField(blank=True, max_length=300),
        ),
        migrations.AddField(
            model_name='release',
            name='quarantined_from',
            field=models.CharField(blank=True, max_length=12),
        ),
        migrations.AlterField(
            model_name='release',
            name='status',
            field=models.CharField(choices=[('draft', 'Draft'), ('verifying', 'Verifying'), ('ready', 'Verified, not published'), ('rejected', 'Rejected'), ('published', 'Published'), ('yanked', 'Withdrawn'), ('quarantined', 'Quarantined')], default='draft', max_length=12),
        ),
        migrations.AddConstraint(
            model_name='release',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ['draft', 'verifying', 'ready', 'rejected', 'published', 'yanked', 'quarantined'])), name='models_catalog_release_status'),
        ),
        migrations.AddConstraint(
            model_name='release',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('status__in', ['published', 'yanked', 'quarantined']), _negated=True), models.Q(('manifest_sha256', ''), _negated=True), _connector='OR'), name='models_catalog_release_published_manifest'),
        ),
        migrations.AddConstraint(
            model_name='release',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('status', 'quarantined'), ('quarantined_from__in', ['published', 'yanked'])), models.Q(models.Q(('status', 'quarantined'), _negated=True), ('quarantined_from', '')), _connector='OR'), name='models_catalog_release_quarantined_from'),
        ),
    ]
