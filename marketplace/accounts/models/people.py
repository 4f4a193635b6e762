"""People, organisations and the namespaces that own everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

if TYPE_CHECKING:
    from marketplace.accounts.models.tokens import ApiToken

# The shape that Hub clients accept for each half of `namespace/name`.
NAME_PATTERN = r"^(?!.*(--|\.\.))(?!.*\.git$)[A-Za-z0-9_](?:[A-Za-z0-9_.\-]{0,94}[A-Za-z0-9_])?$"
NAME_HELP: str = "Letters, digits, '-', '_' and '.', at most 96; no '--' or '..'."
validate_name = RegexValidator(NAME_PATTERN, f"Not a usable name. {NAME_HELP}", "name")
RESERVED_NAMES = frozenset(
    [
        "account",
        "admin",
        "api",
        "audit",
        "buckets",
        "compare",
        "datasets",
        "docs",
        "healthz",
        "incidents",
        "kernels",
        "licenses",
        "login",
        "logout",
        "metrics",
        "models",
        "new",
        "notifications",
        "oauth",
        "orders",
        "payments",
        "payouts",
        "readyz",
        "runs",
        "settings",
        "signup",
        "spaces",
        "statements",
        "static",
        "tokens",
        "evaluations",
        "moderation",
        "questions",
        "reports",
        "reviews",
        "takedowns",
        "vendor",
    ]
)


class User(AbstractUser):
    """A person. Their namespace has their username."""

    email_notifications = models.BooleanField(default=False)  # copies go to a verified address alone
    # Which of settings.RATE_LIMIT_PLANS; "" is the standard one. Chosen by the site's staff (admin.py).
    api_plan = models.CharField(max_length=40, blank=True, default="")
    # The token that this request came with (authentication.py); no column. A license may have given it a seat.
    api_token: ApiToken | None = None

    class Meta:
        constraints = [
            models.UniqueConstraint(Lower("username"), name="accounts_user_username_ci"),
        ]


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    WRITER = "writer", "Writer"
    READER = "reader", "Reader"
    BILLING = "billing", "Billing"


ADMINISTERS = (Role.OWNER, Role.ADMIN)
WRITES = (Role.OWNER, Role.ADMIN, Role.WRITER)
BILLS = (Role.OWNER, Role.ADMIN, Role.BILLING)


class Organization(models.Model):
    display_name = models.CharField(max_length=120)
    website = models.URLField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.display_name


class Membership(models.Model):
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "user"], name="accounts_membership_once"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="accounts_membership_role"),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.organization} as {self.role}"


class NamespaceQuerySet(models.QuerySet["Namespace"]):
    def of(self, user: User | AnonymousUser, *, roles: tuple[Role, ...] = tuple(Role)) -> NamespaceQuerySet:
        """The user's own namespace, and those of the organisations where they have one of the roles."""
        if not user.is_authenticated:
            return self.none()
        member = Membership.objects.filter(user_id=user.pk, role__in=roles).values("organization_id")
        return self.filter(Q(user_id=user.pk) | Q(organization_id__in=member))

    def own(self, user: User | AnonymousUser) -> NamespaceQuerySet:
        """The user's personal one alone."""
        return self.filter(user_id=user.pk) if user.is_authenticated else self.none()

    def writable_by(self, user: User | AnonymousUser) -> NamespaceQuerySet:
        return self.of(user, roles=WRITES)


class Namespace(models.Model):
    """The first half of `namespace/name`; belongs to exactly one user or one organisation."""

    name = models.CharField(max_length=96, unique=True, validators=[validate_name])
    user = models.OneToOneField(User, null=True, blank=True, on_delete=models.PROTECT)
    organization = models.OneToOneField(Organization, null=True, blank=True, on_delete=models.PROTECT)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = NamespaceQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(Lower("name"), name="accounts_namespace_name_ci"),
            models.CheckConstraint(
                condition=Q(user__isnull=True) ^ Q(organization__isnull=True), name="accounts_namespace_one_owner"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def title(self) -> str:
        return self.organization.display_name if self.organization else self.name
