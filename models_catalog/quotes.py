"""What buying a license would cost and give, before anything is ordered; the vendor also sees where the price goes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import AnonymousUser

from marketplace.accounts.models import Namespace, User
from marketplace.decisions import Decision
from models_catalog import ancestry, policies, selectors
from models_catalog.declarations import asked
from models_catalog.models import Release
from models_catalog.royalties import Claim, Split
from models_catalog.terms import Billing


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """`tax_minor` is 0: the site adds no tax. `expires_at` is the grant's end if it were paid now: that of the
    term, or of a license of the vendor's that ends before."""

    release: Release
    price_minor: int
    currency: str
    licensee: str
    term_days: int
    seats: int
    renews_by_order: bool
    expires_at: datetime | None
    license: Decision
    price: Decision
    royalties: list[Claim]  # of what the licensee makes from it and sells
    also_needed: list[str]  # parents of which the licensee needs a license too, and has none
    declare: list[str]  # what the licensee is asked to state: fields of a declaration
    split: Split | None  # of the vendor's billing role and the staff alone
    tax_minor: int = 0

    @property
    def total_minor(self) -> int:
        return self.price_minor + self.tax_minor


def quote(user: User | AnonymousUser, release: Release, *, now: datetime, holder: Namespace | None = None) -> Quote:
    """Returns the quote for the holder, by default the user."""
    terms = release.terms.value
    sees_split = policies.may_bill(user, release.listing).allowed
    return Quote(
        release=release,
        price_minor=terms.price_minor,
        currency=terms.currency,
        licensee=holder.name if holder else user.get_username(),
        term_days=terms.term_days,
        seats=terms.seats,
        renews_by_order=terms.billing is Billing.PER_PERIOD,
        expires_at=_end(release, now=now),
        license=policies.may_license(user, release, now=now, holder=holder),
        price=policies.may_price(release),
        royalties=selectors.royalties_of_derivatives(release, user),
        also_needed=policies.licenses_needed_too(user, release, now=now, holder=holder),
        declare=asked(terms),
        split=policies.split_of(release) if sees_split else None,
    )


def _end(release: Release, *, now: datetime) -> datetime | None:
    days = release.terms.value.term_days
    ends = (now + timedelta(days=days) if days else None, ancestry.bounds_of(release).expires_at)
    return min(filter(None, ends), default=None)
