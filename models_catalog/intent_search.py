"""Which listings allow a plan, and for the others why not: each distinct set of clauses is judged once, then SQL
finds the listings."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from django.db.models import QuerySet

from models_catalog.models import ClauseSet, LicenseTerms, Listing
from models_catalog.terms import Terms, from_json
from models_catalog.verdict import Node, Plan, Reason, Verdict, judge_plan


@dataclass(frozen=True, slots=True)
class Excluded:
    """A listing that does not allow the plan, with the clauses that stand in the way."""

    listing: Listing
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """Every set of clauses that terms here have, judged by one plan; by the set's id."""

    plan: Plan
    verdicts: dict[int, Verdict]

    def allowing(self, listings: QuerySet[Listing]) -> QuerySet[Listing]:
        return listings.filter(latest_release__terms__in=self._terms(is_allowed=True)) if self.plan else listings

    def excluded(self, listings: QuerySet[Listing]) -> QuerySet[Listing]:
        if not self.plan:
            return listings.none()
        return listings.filter(latest_release__terms__in=self._terms(is_allowed=False))

    def explain(self, listing: Listing) -> Excluded:
        """Returns why the listing is left out, in its own name. Its release and terms must have been fetched."""
        terms = listing.latest_release.terms  # type: ignore[union-attr]  # of what is in the catalog
        verdict = self.verdicts[terms.clause_set_id or 0]  # the search found it by its set
        told = [_named(reason, f"{listing} (“{terms.name}”)", str(listing)) for reason in verdict.reasons]
        return Excluded(listing, tuple(told))

    def _terms(self, *, is_allowed: bool) -> QuerySet[LicenseTerms, int]:
        chosen = [pk for pk, verdict in self.verdicts.items() if verdict.is_allowed == is_allowed]
        return LicenseTerms.objects.filter(clause_set__in=chosen).values_list("pk", flat=True)


_PLACEHOLDER = Terms(name="its license", license_id="other")
_NAME = "This model"


def judge(plan: Plan) -> Judged:
    """Judges every set of clauses by the plan, in one query."""
    rows = ClauseSet.objects.values_list("pk", "clauses") if plan else ()
    return Judged(plan, {pk: judge_plan(_node(clauses), plan) for pk, clauses in rows})


def _node(clauses: dict[str, object]) -> Node:
    return Node("listing", _NAME, from_json({**_IDENTITY, **clauses}))


_IDENTITY = {"name": _PLACEHOLDER.name, "license_id": _PLACEHOLDER.license_id}


def _named(reason: Reason, licensed: str, name: str) -> Reason:
    """Puts the listing's and its license's names where the set of clauses, which many share, has none."""
    return dataclasses.replace(
        reason,
        parent=name,
        words=reason.words.replace(f"{_NAME} (“{_PLACEHOLDER.name}”)", licensed),
        fix=reason.fix.replace(_NAME, name),
    )
