from django.apps import AppConfig
from django.db.models.signals import post_migrate


class ModelsCatalogConfig(AppConfig):
    name = "models_catalog"

    def ready(self) -> None:
        from models_catalog.models import change_watch, ledger_guard  # noqa: PLC0415 - models load after the apps

        post_migrate.connect(ledger_guard.install, sender=self)
        post_migrate.connect(change_watch.install, sender=self)
