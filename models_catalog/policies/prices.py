"""Which price a release may have, given what its ancestors are due of each sale."""

from __future__ import annotations

from django.conf import settings

from marketplace.decisions import ALLOW, Decision, deny
from marketplace.templatetags.market import money
from models_catalog import royalties, selectors
from models_catalog.models import Release
from models_catalog.royalties import Claim, Split


def may_price(release: Release) -> Decision:
    """May the release be offered, and be ordered, at the price of its terms?"""
    terms = release.terms.value
    seller = release.listing.namespace_id
    claims = royalties.owed(selectors.royalty_claims(release), seller=seller)
    if foreign := royalties.foreign_floors(claims, seller=seller, currency=terms.currency):
        return deny("currency_mismatch", _in_another_currency(foreign, currency=terms.currency, claims=claims))
    lowest = royalties.lowest_price(claims, seller=seller)
    if terms.price_minor < lowest:
        parts = ", ".join(f"{c.title} {money(c.floor_minor, c.currency)}" for c in claims if c.floor_minor)
        why = f"Each sale owes {parts}: the lowest price that you may set is {money(lowest, terms.currency)}."
        return deny("price_below_floor", why)
    return ALLOW


def split_of(release: Release) -> Split | None:
    """Returns where the release's price goes, None where the price is not legal."""
    if not may_price(release).allowed:
        return None
    return royalties.split(
        selectors.royalty_claims(release),
        seller=release.listing.namespace_id,
        price_minor=release.terms.price_minor,
        currency=release.terms.currency,
        fee_bps=settings.SITE_FEE_BPS,
    )


def _in_another_currency(foreign: list[Claim], *, currency: str, claims: list[Claim]) -> str:
    asked = " and ".join(
        f"{claim.title} is due at least {money(claim.floor_minor, claim.currency)} of each sale" for claim in foreign
    )
    wanted = {claim.currency for claim in claims if claim.floor_minor}
    if len(wanted) > 1:
        return f"{asked}, and no price can be in {' and '.join(sorted(wanted))} at once: nothing is converted here."
    return f"{asked}, so the price must be in {foreign[0].currency}, not in {currency}: nothing is converted here."
