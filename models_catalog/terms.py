"""Licences as values: rights with deny as the default, obligations, restrictions and price. Pure.

The clauses follow each licence's own text; where the law is unsettled (are weights a derivative work?) this is
the site's conservative policy, and says so. How they read is `plain_words.py`'s, what a derivative carries of them
`verdict.py`'s, which values make sense `validation.py`'s.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Answer(StrEnum):
    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"

    @property
    def rank(self) -> int:
        return (Answer.DENY, Answer.ASK, Answer.ALLOW).index(self)


class Right(StrEnum):
    USE = "use"
    COMMERCIAL_USE = "commercial_use"
    COMMERCIAL_OUTPUTS = "commercial_outputs"
    HOST_AS_SERVICE = "host_as_service"
    FINE_TUNE = "fine_tune"
    SHARE_DERIVATIVES = "share_derivatives"
    SELL_DERIVATIVES = "sell_derivatives"
    REDISTRIBUTE = "redistribute"
    SUBLICENSE = "sublicense"
    TRAIN_OTHER_MODELS = "train_other_models_on_outputs"
    PUBLISH_BENCHMARKS = "publish_benchmarks"


class Attribution(StrEnum):
    NONE = "none"
    NOTICE = "notice"
    DISPLAY = "display"

    @property
    def rank(self) -> int:
        return list(Attribution).index(self)


class DerivativeTerms(StrEnum):
    """What the parent demands of a derivative's licence, from the freest to the strictest."""

    FREE = "free"
    CARRY_RESTRICTIONS = "carry_restrictions"
    SAME_OR_COMPATIBLE = "same_or_compatible"
    SAME = "same"

    @property
    def rank(self) -> int:
        return list(DerivativeTerms).index(self)


class Kind(StrEnum):
    PERMISSIVE = "permissive"
    SHARE_ALIKE = "share_alike"
    NETWORK_COPYLEFT = "network_copyleft"
    NONCOMMERCIAL = "noncommercial"
    NO_DERIVATIVES = "no_derivatives"
    RAIL = "rail"
    COMMUNITY = "community"
    PROPRIETARY = "proprietary"
    UNKNOWN = "unknown"


class Approval(StrEnum):
    AUTOMATIC = "automatic"
    MANUAL = "manual"


class Billing(StrEnum):
    ONE_TIME = "one_time"
    PER_PERIOD = "per_period"  # `term_days` are bought again to renew


class DownstreamGrant(StrEnum):
    """Must a licensee of a derivative also hold a grant of this parent?"""

    COVERED = "covered"
    ROYALTY = "royalty"  # covered by the parent's share of each sale
    OWN_GRANT_REQUIRED = "own_grant_required"


class Revocable(StrEnum):
    BREACH = "breach"
    NEVER = "never"


CURRENCIES = ("EUR", "USD", "GBP", "CHF", "CNY", "JPY")


def denied() -> dict[Right, Answer]:
    return dict.fromkeys(Right, Answer.DENY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """One immutable set of terms. Money in minor units of `currency`; royalty in hundredths of a percent of the
    price of a derivative, at least its floor; a cap, count, span or depth of 0 is none: no limit."""

    name: str
    license_id: str  # as Hub clients write it, lower case; `other` for a vendor's own
    spdx_id: str = ""
    kind: Kind = Kind.UNKNOWN
    text: str = ""
    rights: dict[Right, Answer] = field(default_factory=denied)
    attribution: Attribution = Attribution.NONE
    attribution_text: str = ""
    include_text: bool = False
    state_changes: bool = False
    derivative_terms: DerivativeTerms = DerivativeTerms.FREE
    pass_to_users: bool = False
    network_source: bool = False
    prohibited_uses: tuple[str, ...] = ()
    research_only: bool = False
    approval: Approval = Approval.AUTOMATIC
    price_minor: int = 0
    currency: str = "EUR"
    term_days: int = 0
    royalty_bps: int = 0
    edition: str = ""
    name_prefix: str = ""  # what a derivative's name must begin with
    max_monthly_users: int = 0
    max_revenue_minor: int = 0  # of the licensee's organization, a year
    denied_territories: tuple[str, ...] = ()  # ISO 3166-1 alpha-2
    billing: Billing = Billing.ONE_TIME
    seats: int = 0
    trial_days: int = 0
    royalty_floor_minor: int = 0
    royalty_depth: int = 0  # generations of derivatives that owe it; 0: all of them
    downstream_grant: DownstreamGrant = DownstreamGrant.COVERED
    transferable: bool = False
    revocable_on: Revocable = Revocable.BREACH

    def answer(self, right: Right) -> Answer:
        return self.rights.get(right, Answer.DENY)

    def permits(self, right: Right) -> bool:
        return self.answer(right) is Answer.ALLOW

    @property
    def text_sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def terms_hash(self) -> str:
        """SHA-256 of the canonical JSON of every clause; the licence's text counts by its own digest. Clauses that
        came later count where they say something, so that older terms keep their hash."""
        silent = {name for name, default in _LATER_CLAUSES.items() if getattr(self, name) == default}
        document = {name: value for name, value in as_json(self).items() if name not in silent}
        document["text"] = self.text_sha256
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


_LATER = (
    "edition",
    "name_prefix",
    "max_monthly_users",
    "max_revenue_minor",
    "denied_territories",
    "billing",
    "seats",
    "trial_days",
    "royalty_floor_minor",
    "royalty_depth",
    "downstream_grant",
    "transferable",
    "revocable_on",
)
_LATER_CLAUSES = {field.name: field.default for field in dataclasses.fields(Terms) if field.name in _LATER}


def as_json(terms: Terms) -> dict[str, object]:
    """Returns JSON-ready clauses; `from_json` reads them back."""
    document = dataclasses.asdict(terms)
    return {**document, "rights": {right.value: terms.answer(right).value for right in Right}}


def clause_set(terms: Terms) -> dict[str, Any]:
    """Returns the clauses that say what may be done: many terms share them, and differ in name, price or credit."""
    return {
        "rights": {right.value: terms.answer(right).value for right in Right},
        "prohibited_uses": sorted(terms.prohibited_uses),
        "denied_territories": sorted(terms.denied_territories),
        "research_only": terms.research_only,
        "max_monthly_users": terms.max_monthly_users,
    }


def clause_set_sha256(clauses: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(clauses, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def from_json(document: dict[str, object]) -> Terms:
    """Reads what `as_json` wrote. Raises ValueError or TypeError for anything else."""
    entries: dict[str, Any] = dict(document)
    rights = entries.pop("rights")
    if not isinstance(rights, dict):
        raise TypeError("rights must be an object")
    for name in entries.keys() & ENUMS.keys():
        entries[name] = ENUMS[name](entries[name])
    for name in ("prohibited_uses", "denied_territories"):
        listed = entries.pop(name, ())
        entries[name] = tuple(listed) if isinstance(listed, list | tuple) else ()
    return Terms(rights={right: Answer(rights.get(right.value, Answer.DENY)) for right in Right}, **entries)


ENUMS: dict[str, type[StrEnum]] = {
    "kind": Kind,
    "attribution": Attribution,
    "derivative_terms": DerivativeTerms,
    "approval": Approval,
    "billing": Billing,
    "downstream_grant": DownstreamGrant,
    "revocable_on": Revocable,
}
