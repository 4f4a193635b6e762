import django.db.models.deletion
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [('finetuning', '0001_initial'), ('finetuning', '0002_run_license'), ('finetuning', '0003_license_of_earlier_runs'), ('finetuning', '0004_run_terms_required'), ('finetuning', '0005_origins_of_earlier_weights'), ('finetuning', '0006_strategies'), ('finetuning', '0007_dataset_terms'), ('finetuning', '0008_run_pause'), ('finetuning', '0009_run_budget'), ('finetuning', '0010_search_before_training'), ('finetuning', '0011_estimates')]

    initial = True

    dependencies = [
        ('accounts', '0004_idempotent_calls'),
        ('models_catalog', '0033_catalog_changes'),
    ]

    operations = [
        migrations.CreateModel(
            name='Dataset',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('uid', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='datasets', to='accounts.namespace')),
                ('name', models.CharField(max_length=120)),
                ('task', models.CharField(choices=[('image-classification', 'Image classification'), ('object-detection', 'Object detection'), ('semantic-segmentation', 'Semantic segmentation'), ('text-classification', 'Text classification')], max_length=30)),
                ('status', models.CharField(choices=[('checking', 'Checking'), ('valid', 'Ready'), ('invalid', 'Cannot be used')], default='checking', max_length=10)),
                ('upload_sha256', models.CharField(max_length=64)),
                ('upload_bytes', models.BigIntegerField()),
                ('upload_name', models.CharField(max_length=255)),
                ('problems', models.JSONField(default=list)),
                ('terms', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='models_catalog.licenseterms')),
                ('created_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('deleted_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'ordering': ['-created_at'],
                'constraints': [models.UniqueConstraint(condition=models.Q(('deleted_at__isnull', True)), fields=('owner', 'name'), name='finetuning_dataset_name_once'), models.CheckConstraint(condition=models.Q(('status__in', ['checking', 'valid', 'invalid'])), name='finetuning_dataset_status')],
            },
        ),
        migrations.CreateModel(
            name='DatasetVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('dataset', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='versions', to='finetuning.dataset')),
                ('number', models.PositiveIntegerField()),
                ('digest', models.CharField(max_length=64)),
                ('terms', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='models_catalog.licenseterms')),
                ('report', models.JSONField()),
                ('labels', models.JSONField()),
                ('images', models.PositiveIntegerField()),
                ('train_pack_sha256', models.CharField(max_length=64)),
                ('test_pack_sha256', models.CharField(max_length=64)),
                ('thumbnails_sha256', models.CharField(max_length=64)),
                ('index_sha256', models.CharField(max_length=64)),
                ('evaluations', models.PositiveIntegerField(default=0)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'ordering': ['-number'],
                'constraints': [models.UniqueConstraint(fields=('dataset', 'number'), name='finetuning_datasetversion_number_once')],
            },
        ),
        migrations.CreateModel(
            name='Estimate',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('uid', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='estimates', to='accounts.namespace')),
                ('created_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('release', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='models_catalog.release')),
                ('dataset_version', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='finetuning.datasetversion')),
                ('strategy', models.CharField(choices=[('head', 'head'), ('last', 'last'), ('full', 'full'), ('lora', 'lora'), ('scratch', 'scratch')], max_length=10)),
                ('hyper', models.JSONField(default=dict)),
                ('spec_sha256', models.CharField(max_length=64)),
                ('status', models.CharField(choices=[('waiting', 'Measuring'), ('ready', 'Ready'), ('failed', 'Failed')], default='waiting', max_length=10)),
                ('method', models.CharField(blank=True, choices=[('history', 'Runs like it'), ('rehearsal', 'A rehearsal')], max_length=10)),
                ('hardware', models.CharField(blank=True, max_length=200)),
                ('seconds', models.FloatField(null=True)),
                ('low_seconds', models.FloatField(null=True)),
                ('high_seconds', models.FloatField(null=True)),
                ('coverage', models.FloatField(null=True)),
                ('past_runs', models.PositiveIntegerField(default=0)),
                ('peak_memory_bytes', models.BigIntegerField(null=True)),
                ('measured', models.JSONField(default=dict)),
                ('beside', models.PositiveIntegerField(default=0)),
                ('failure_code', models.CharField(blank=True, max_length=60)),
                ('failure_message', models.TextField(blank=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'ordering': ['-created_at'],
                'constraints': [models.CheckConstraint(condition=models.Q(('status__in', ['waiting', 'ready', 'failed'])), name='finetuning_estimate_status'), models.UniqueConstraint(condition=models.Q(('status', 'waiting')), fields=('owner', 'spec_sha256'), name='finetuning_estimate_waiting_once')],
            },
        ),
        migrations.CreateModel(
            name='Run',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('uid', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='runs', to='accounts.namespace')),
                ('created_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('release', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='runs', to='models_catalog.release')),
                ('grant', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='runs', to='models_catalog.grant')),
                ('terms', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='models_catalog.licenseterms')),
                ('dataset_version', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='runs', to='finetuning.datasetversion')),
                ('strategy', models.CharField(choices=[('head', 'head'), ('last', 'last'), ('full', 'full'), ('lora', 'lora'), ('scratch', 'scratch')], max_length=10)),
                ('hyper', models.JSONField(default=dict)),
                ('search', models.JSONField(blank=True, default=dict)),
                ('searched', models.JSONField(blank=True, default=dict)),
                ('spec_sha256', models.CharField(max_length=64)),
                ('estimate', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='runs', to='finetuning.estimate')),
                ('status', models.CharField(choices=[('queued', 'Queued'), ('starting', 'Starting'), ('running', 'Running'), ('paused', 'Paused'), ('succeeded', 'Done'), ('failed', 'Failed'), ('canceled', 'Canceled')], default='queued', max_length=10)),
                ('cancel_requested_at', models.DateTimeField(blank=True, null=True)),
                ('pause_requested_at', models.DateTimeField(blank=True, null=True)),
                ('budget_minutes', models.PositiveIntegerField(blank=True, null=True)),
                ('charge_minor', models.PositiveIntegerField(default=0)),
                ('charge_currency', models.CharField(blank=True, max_length=3)),
                ('failures', models.PositiveIntegerField(default=0)),
                ('interruptions', models.PositiveIntegerField(default=0)),
                ('poked_at', models.DateTimeField()),
                ('progress', models.JSONField(default=dict)),
                ('failure_code', models.CharField(blank=True, max_length=60)),
                ('failure_message', models.TextField(blank=True)),
                ('result', models.JSONField(default=dict)),
                ('evaluation', models.JSONField(default=dict)),
                ('artifacts', models.JSONField(default=dict)),
                ('derivative', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='source_run', to='models_catalog.release')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'ordering': ['-created_at'],
                'indexes': [models.Index(fields=['status', 'poked_at'], name='finetuning_run_status_poked')],
                'constraints': [models.CheckConstraint(condition=models.Q(('status__in', ['queued', 'starting', 'running', 'paused', 'succeeded', 'failed', 'canceled'])), name='finetuning_run_status'), models.UniqueConstraint(condition=models.Q(('status__in', ['queued', 'starting', 'running', 'paused'])), fields=('owner', 'spec_sha256'), name='finetuning_run_active_once')],
            },
        ),
        migrations.CreateModel(
            name='RunEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='events', to='finetuning.run')),
                ('attempt', models.PositiveIntegerField()),
                ('verb', models.CharField(max_length=10)),
                ('line', models.PositiveIntegerField()),
                ('at', models.DateTimeField()),
                ('kind', models.CharField(max_length=10)),
                ('payload', models.JSONField()),
            ],
            options={
                'ordering': ['id'],
                'constraints': [models.UniqueConstraint(fields=('run', 'attempt', 'verb', 'line'), name='finetuning_runevent_once')],
            },
        ),
        migrations.CreateModel(
            name='Attempt',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('run', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='attempts', to='finetuning.run')),
                ('dataset', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='attempts', to='finetuning.dataset')),
                ('release', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='attempts', to='models_catalog.release')),
                ('estimate', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='attempts', to='finetuning.estimate')),
                ('number', models.PositiveIntegerField()),
                ('token', models.UUIDField(default=uuid.uuid4, unique=True)),
                ('slot', models.CharField(max_length=80)),
                ('leased_until', models.DateTimeField()),
                ('heartbeat_at', models.DateTimeField()),
                ('started_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('outcome', models.CharField(blank=True, max_length=60)),
                ('exit_code', models.IntegerField(blank=True, null=True)),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('dataset__isnull', True), ('estimate__isnull', True), ('release__isnull', True), ('run__isnull', False)), models.Q(('dataset__isnull', False), ('estimate__isnull', True), ('release__isnull', True), ('run__isnull', True)), models.Q(('dataset__isnull', True), ('estimate__isnull', True), ('release__isnull', False), ('run__isnull', True)), models.Q(('dataset__isnull', True), ('estimate__isnull', False), ('release__isnull', True), ('run__isnull', True)), _connector='OR'), name='finetuning_attempt_one_subject'), models.UniqueConstraint(condition=models.Q(('ended_at__isnull', True)), fields=('run',), name='finetuning_attempt_open_run'), models.UniqueConstraint(condition=models.Q(('ended_at__isnull', True)), fields=('dataset',), name='finetuning_attempt_open_dataset'), models.UniqueConstraint(condition=models.Q(('ended_at__isnull', True)), fields=('release',), name='finetuning_attempt_open_release'), models.UniqueConstraint(condition=models.Q(('ended_at__isnull', True)), fields=('estimate',), name='finetuning_attempt_open_estimate'), models.UniqueConstraint(fields=('run', 'number'), name='finetuning_attempt_number_run'), models.UniqueConstraint(fields=('dataset', 'number'), name='finetuning_attempt_number_dataset'), models.UniqueConstraint(fields=('release', 'number'), name='finetuning_attempt_number_release'), models.UniqueConstraint(fields=('estimate', 'number'), name='finetuning_attempt_number_estimate')],
            },
        ),
        migrations.CreateModel(
            name='ComputeQuota',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('namespace', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='compute_quota', to='accounts.namespace')),
                ('hours_per_month', models.PositiveIntegerField(help_text='Hours of compute a calendar month; 0 is no limit.')),
            ],
            options={
                'verbose_name_plural': 'compute quotas',
            },
        ),
    ]
