"""How much one namespace may compute in a month, where that differs from what the settings say."""

from __future__ import annotations

from django.db import models

from marketplace.accounts.models import Namespace


class ComputeQuota(models.Model):
    """Set by the site's staff. Nothing set, the settings say (`finetuning/compute.py`)."""

    namespace = models.OneToOneField(Namespace, on_delete=models.CASCADE, related_name="compute_quota")
    hours_per_month = models.PositiveIntegerField(help_text="Hours of compute a calendar month; 0 is no limit.")

    class Meta:
        verbose_name_plural = "compute quotas"

    def __str__(self) -> str:
        return f"{self.hours_per_month} h a month for {self.namespace}"
