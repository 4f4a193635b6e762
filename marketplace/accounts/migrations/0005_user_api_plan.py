from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0004_idempotent_calls'),
    ]

    operations = [
        migrations.AddField(
            model_name='user',
            name='api_plan',
            field=models.CharField(blank=True, default='', max_length=40),
        ),
    ]
