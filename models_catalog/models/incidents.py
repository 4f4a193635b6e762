"""What happened to a release that others were made from, and which of them are flagged for it."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Exists, OuterRef, Q

from marketplace.accounts.models import User
from models_catalog.models.listings import Release


class IncidentKind(models.TextChoices):
    YANKED = "yanked", "withdrawn"
    QUARANTINED = "quarantined", "quarantined"


class IncidentQuerySet(models.QuerySet["Incident"]):
    def unresolved(self) -> IncidentQuerySet:
        return self.filter(resolved_at__isnull=True)

    def visible_to(self, user: User | AnonymousUser) -> IncidentQuerySet:
        """Those for whom the release, or one that is flagged for it, exists."""
        seen = Release.objects.visible_to(user)
        return self.filter(
            Exists(seen.filter(pk=OuterRef("release_id"))) | Exists(seen.filter(flags__incident=OuterRef("pk")))
        )

    def shown_to(self, user: User | AnonymousUser) -> IncidentQuerySet:
        """Adds `is_cause_shown`: a release that does not exist for the user is told by its digest alone."""
        shown = Release.objects.visible_to(user).filter(pk=OuterRef("release_id"))
        return self.select_related("release__listing__namespace").annotate(is_cause_shown=Exists(shown))


class Incident(models.Model):
    """One event of one release. A withdrawal is for good; a quarantine is resolved when it is lifted."""

    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="incidents")
    kind = models.CharField(max_length=12, choices=IncidentKind.choices)
    reason = models.CharField(max_length=300)
    opened_at = models.DateTimeField()
    opened_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")

    objects = IncidentQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["release", "kind"],
                condition=Q(resolved_at__isnull=True),
                name="models_catalog_incident_unresolved_once",
            ),
            models.CheckConstraint(condition=Q(kind__in=IncidentKind.values), name="models_catalog_incident_kind"),
        ]

    def __str__(self) -> str:
        return f"{self.release} {self.get_kind_display()}"


class FlagQuerySet(models.QuerySet["Flag"]):
    def shown_to(self, user: User | AnonymousUser) -> FlagQuerySet:
        """Those of unresolved incidents, with `is_cause_shown` as `IncidentQuerySet.shown_to` has it."""
        shown = Release.objects.visible_to(user).filter(pk=OuterRef("incident__release_id"))
        return (
            self.filter(incident__resolved_at__isnull=True)
            .select_related("incident__release__listing__namespace")
            .annotate(is_cause_shown=Exists(shown))
            .order_by("-incident_id")
        )


class Flag(models.Model):
    """A release that comes, in however many steps, from the incident's."""

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="flags")
    release = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="flags")

    objects = FlagQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["incident", "release"], name="models_catalog_flag_once"),
        ]

    def __str__(self) -> str:
        return f"{self.release} flagged for {self.incident}"
