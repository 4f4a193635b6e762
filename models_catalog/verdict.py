"""What a lineage lets be done: terms folded over every ancestor, and judged clause by clause. Pure.

A derivative is bound by the terms of all its ancestors, models and data alike. Each passes on its own clauses with one
shift of role: what others may do with the derivative comes from the ancestor's `share_derivatives`, its price from
`sell_derivatives`. Whether weights are a derivative work of what they were made from is unsettled law; this is the
site's conservative policy. A vendor who allows more grants other terms, which then stand in the lineage.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from models_catalog import territories, uses
from models_catalog.plain_words import DATA_WORDS, WORDS, money
from models_catalog.terms import Answer, Approval, Attribution, Billing, DerivativeTerms, DownstreamGrant, Right, Terms

# Relations that matter here; any but a copy makes a derivative.
COPY, ADAPTER, DISTILLED = "copy", "adapter", "distilled"
# Licenses under which a derivative of a share-alike license may be shared besides its own.
COMPATIBLE: dict[str, frozenset[str]] = {"cc-by-sa-4.0": frozenset({"gpl-3.0"})}
SHARE_ALIKE = frozenset({DerivativeTerms.SAME, DerivativeTerms.SAME_OR_COMPATIBLE})
_DUTIES = {
    "include_text": ("lets its license text be left out", "pass on the license text"),
    "state_changes": ("leaves unsaid what was changed", "say what was changed"),
    "pass_to_users": ("does not bind its users to the use restrictions", "bind your users to the use restrictions"),
    "network_source": ("can be served without its weights and configuration", "publish what you serve"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What somebody wants to do with a model; `countries` are ISO codes, `fields` codes of fields of use, the yearly
    revenue is in minor units of the terms' currency."""

    rights: frozenset[Right] = frozenset()
    monthly_users: int = 0
    countries: frozenset[str] = frozenset()
    fields: frozenset[str] = frozenset()
    revenue_minor: int = 0

    def __bool__(self) -> bool:
        return self != Plan()


class Outcome(StrEnum):
    ALLOWED = "allowed"
    WITH_OBLIGATIONS = "allowed_with_obligations"
    NEEDS_APPROVAL = "needs_approval"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Node:
    """A model or data in a lineage. Nodes of one key are one; `name` is what the reader may see of it."""

    key: str
    name: str
    terms: Terms
    is_data: bool = False

    def words(self, right: Right) -> str:
        words = (DATA_WORDS if self.is_data else WORDS)[right]
        return words[0].lower() + words[1:]


@dataclass(frozen=True, slots=True)
class Edge:
    """From a child to what it was made of; `expires_at` is the end of the license under which it was."""

    parent: str
    relation: str = "finetune"
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Lineage:
    nodes: Mapping[str, Node]
    edges: Mapping[str, Sequence[Edge]]  # by the child's key


@dataclass(frozen=True, slots=True)
class Reason:
    """One clause that decides, in words that can be checked against the license, and what would fix it."""

    parent: str
    clause: str
    right: str
    words: str
    fix: str

    def as_json(self) -> dict[str, str]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Obligation:
    clause: str
    words: str
    parents: tuple[str, ...]


class Code(StrEnum):
    """Of a verdict that does not allow: what is in the way."""

    NEEDS_APPROVAL = "needs_approval"
    USE = "use_not_granted"
    CLASH = "lineage_clash"
    PRICE = "price_not_allowed"
    TERMS = "terms_too_wide"
    NAME = "name_prefix_missing"


@dataclass(frozen=True, slots=True)
class Verdict:
    outcome: Outcome
    code: Code | None = None
    reasons: tuple[Reason, ...] = ()
    obligations: tuple[Obligation, ...] = ()

    @property
    def is_allowed(self) -> bool:
        return self.outcome in (Outcome.ALLOWED, Outcome.WITH_OBLIGATIONS)


@dataclass(frozen=True, slots=True)
class Ancestor:
    """`generations` is the shortest way up to it; `derived`, `copied` and `distilled` say what lies on a way."""

    node: Node
    generations: int
    derived: bool
    copied: bool
    distilled: bool = False


@dataclass(frozen=True, slots=True)
class Effective:
    """What a derivative may carry at most. `limit` is the widest terms, under the name and text of the strictest
    ancestor's license; `origins` names for each clause the ancestor that decided it: `rights.<right>`,
    `prohibited_uses.<code>`, `denied_territories.<code>`, `credit.<line>` and the clauses' own names.

    `clashes` say why nothing of this can be shared at all; a use of one's own may be legal none the less."""

    limit: Terms
    origins: Mapping[str, Node] = field(default_factory=dict)
    ancestors: tuple[Ancestor, ...] = ()
    clashes: tuple[Reason, ...] = ()
    barrier: tuple[Node, Right, Answer] | None = None  # the strictest answer to passing this on, where it is no yes
    licenses: frozenset[str] | None = None  # that share-alike ancestors leave; None: any
    revenue_caps: Mapping[str, tuple[int, Node]] = field(default_factory=dict)  # by currency
    own_grants: tuple[Node, ...] = ()  # of which a licensee of the derivative needs a license too
    expires_at: datetime | None = None
    expires_with: Node | None = None


# Of what was made of nothing that is known.
UNBOUND = Effective(limit=Terms(name="", license_id="", rights=dict.fromkeys(Right, Answer.ALLOW)))


def license_of(terms: Terms) -> str:
    """Returns which license it is: a well-known one's id, else the digest of its text."""
    return terms.license_id if terms.license_id != "other" else f"other:{terms.text_sha256}"


def passed_on(
    terms: Terms, *, derived: bool = True, copied: bool = False, distilled: bool = False
) -> dict[Right, Answer]:
    """Returns the rights that a derivative (or a copy, which is the very same weights) gets at most. What learned from
    a model's outputs is a derivative of it that must be allowed as such too."""
    caps = [Answer.ALLOW]
    if derived:
        caps.append(terms.answer(Right.SHARE_DERIVATIVES))
    if copied:
        caps.append(terms.answer(Right.REDISTRIBUTE))
    if distilled:
        caps.append(terms.answer(Right.TRAIN_OTHER_MODELS))
    cap = _least(caps)
    rights = {right: _least((terms.answer(right), cap)) for right in Right}
    return {**rights, Right.REDISTRIBUTE: cap} if derived else rights


def _least(answers: Iterable[Answer]) -> Answer:
    return min(answers, key=_RANK.__getitem__)


_RANK = {answer: answer.rank for answer in Answer}


def ancestors_of(lineage: Lineage, key: str) -> list[Ancestor]:
    """Returns each ancestor once for each sort of way that leads to it, nearest first. Ways that meet again, and
    cycles, end where they were before."""
    found: dict[tuple[str, bool, bool, bool], int] = {}
    frontier = {(key, False, False, False)}
    generations = 0
    while frontier:
        generations += 1
        reached = set()
        for child, derived, copied, distilled in frontier:
            for edge in lineage.edges.get(child, ()):
                is_copy, is_distilled = edge.relation == COPY, edge.relation == DISTILLED
                state = (edge.parent, derived or not is_copy, copied or is_copy, distilled or is_distilled)
                if state not in found and edge.parent != key:
                    found[state] = generations
                    reached.add(state)
        frontier = reached
    nodes = lineage.nodes
    rows = [
        Ancestor(nodes[name], depth, derived, copied, distilled)
        for (name, derived, copied, distilled), depth in found.items()
    ]
    return sorted(rows, key=_place)


def _place(row: Ancestor) -> tuple[int, str, str, bool, bool, bool]:
    return row.generations, row.node.name, row.node.key, row.derived, row.copied, row.distilled


def effective(lineage: Lineage, key: str) -> Effective:
    """Returns what the child `key` may carry at most of its whole lineage; its own terms do not count."""
    ancestors = ancestors_of(lineage, key)
    if not ancestors:
        return UNBOUND
    fold = _Fold()
    for ancestor in ancestors:
        fold.take(ancestor)
    limit = fold.limit(_leading(ancestors))
    reachable = {key, *(ancestor.node.key for ancestor in ancestors)}
    expiry = _earliest(lineage, reachable)
    licenses, clashes = _shared_license(ancestors, limit)
    return Effective(
        limit=limit,
        origins=fold.origins,
        ancestors=tuple(ancestors),
        clashes=(*clashes, *fold.clashes()),
        barrier=fold.barrier,
        licenses=licenses,
        revenue_caps=fold.revenue,
        own_grants=_own_grants(lineage, reachable, ancestors),
        expires_at=expiry[0] if expiry else None,
        expires_with=expiry[1] if expiry else None,
    )


class _Fold:
    """The clauses of the ancestors seen so far. They come nearest first, so that of two that ask the same the
    nearer is named, whatever the order of the edges."""

    def __init__(self) -> None:
        self.origins: dict[str, Node] = {}
        self.rights: dict[Right, Answer] = dict.fromkeys(Right, Answer.ALLOW)
        self._profiles: set[tuple[object, ...]] = set()
        self.barrier: tuple[Node, Right, Answer] | None = None
        self.uses: set[str] = set()
        self.territories: set[str] = set()
        self.credits: dict[str, Node] = {}
        self.prefixes: dict[str, Node] = {}
        self.revenue: dict[str, tuple[int, Node]] = {}
        self.caps = {"max_monthly_users": 0, "term_days": 0}
        self.flags = dict.fromkeys((*_DUTIES, "research_only"), False)
        self.attribution = Attribution.NONE
        self.derivative_terms = DerivativeTerms.FREE
        self.approval = Approval.AUTOMATIC

    def take(self, ancestor: Ancestor) -> None:
        self._take_rights(ancestor)
        self._take_limits(ancestor.node)
        self._take_duties(ancestor.node)

    def _take_rights(self, ancestor: Ancestor) -> None:
        terms = ancestor.node.terms
        profile = (ancestor.derived, ancestor.copied, ancestor.distilled, *map(terms.rights.get, _RIGHTS))
        if profile in self._profiles:
            return  # a nearer ancestor had the same rights
        self._profiles.add(profile)
        ways = {"derived": ancestor.derived, "copied": ancestor.copied, "distilled": ancestor.distilled}
        for way, asked in _ASKED_FOR.items():
            answer = terms.answer(asked)
            if ways[way] and answer is not Answer.ALLOW and (not self.barrier or answer.rank < self.barrier[2].rank):
                self.barrier = (ancestor.node, asked, answer)
        for right, answer in passed_on(terms, **ways).items():
            if _RANK[answer] < _RANK[self.rights[right]]:
                self.rights[right] = answer
                self.origins[f"rights.{right.value}"] = ancestor.node

    def _take_limits(self, node: Node) -> None:
        terms = node.terms
        for use in terms.prohibited_uses:
            if use not in self.uses:
                self.uses.add(use)
                self.origins[f"prohibited_uses.{use}"] = node
        for code in terms.denied_territories:
            if code not in self.territories:
                self.territories.add(code)
                self.origins[f"denied_territories.{code}"] = node
        for name, least in self.caps.items():
            cap = getattr(terms, name)
            if cap and (not least or cap < least):
                self.caps[name] = cap
                self.origins[name] = node
        if cap := terms.max_revenue_minor:
            held = self.revenue.get(terms.currency)
            if held is None or cap < held[0]:
                self.revenue[terms.currency] = (cap, node)
                self.origins[f"max_revenue_minor.{terms.currency}"] = node

    def _take_duties(self, node: Node) -> None:
        terms = node.terms
        for name, is_set in self.flags.items():
            if not is_set and getattr(terms, name):
                self.flags[name] = True
                self.origins[name] = node
        for name in ("attribution", "derivative_terms", "approval"):
            stated = getattr(terms, name)
            if stated is not getattr(self, name) and _STRICTNESS[stated] > _STRICTNESS[getattr(self, name)]:
                setattr(self, name, stated)
                self.origins[name] = node
        for line in credits_of(node):
            if line not in self.credits:
                self.credits[line] = node
                self.origins[f"credit.{line}"] = node
        if terms.name_prefix and terms.name_prefix not in self.prefixes:
            self.prefixes[terms.name_prefix] = node
            self.origins.setdefault("name_prefix", node)

    def limit(self, leading: Node) -> Terms:
        currency = min(self.revenue, default=leading.terms.currency)
        self.rights[Right.SELL_DERIVATIVES] = _least(
            (self.rights[Right.SELL_DERIVATIVES], self.rights[Right.SHARE_DERIVATIVES])
        )
        clauses: dict[str, Any] = {
            **self.caps,
            **self.flags,
            **OF_THE_OFFER,
            "rights": dict(self.rights),
            "prohibited_uses": tuple(sorted(self.uses)),
            "denied_territories": tuple(sorted(self.territories)),
            "max_revenue_minor": self.revenue[currency][0] if self.revenue else 0,
            "currency": currency,
            "attribution": self.attribution,
            "attribution_text": "\n".join(self.credits),
            "derivative_terms": self.derivative_terms,
            "approval": self.approval,
            "name_prefix": max(self.prefixes, key=lambda prefix: (len(prefix), prefix), default=""),
        }
        return dataclasses.replace(leading.terms, **clauses)

    def clashes(self) -> Iterator[Reason]:
        longest = max(self.prefixes, key=lambda prefix: (len(prefix), prefix), default="")
        for prefix, node in self.prefixes.items():
            if not longest.lower().startswith(prefix.lower()):
                other = self.prefixes[longest]
                yield Reason(
                    node.name,
                    "name_prefix",
                    Right.SHARE_DERIVATIVES,
                    f"{_licensed(node)} wants the name of a derivative to begin with “{prefix}”, and {_licensed(other)} "
                    f"with “{longest}”: no name does both.",
                    _without(node, other),
                )
        if len(self.revenue) > 1:
            (first, (_, node)), (second, (_, other)), *_ = sorted(self.revenue.items())
            yield Reason(
                node.name,
                "max_revenue_minor",
                Right.SHARE_DERIVATIVES,
                f"{_licensed(node)} caps revenue in {first}, and {_licensed(other)} in {second}: no terms carry both.",
                _without(node, other),
            )


_RIGHTS = tuple(Right)
# Which right lets what was made in this way be passed on.
_ASKED_FOR = {
    "derived": Right.SHARE_DERIVATIVES,
    "copied": Right.REDISTRIBUTE,
    "distilled": Right.TRAIN_OTHER_MODELS,
}
_STRICTNESS: dict[StrEnum, int] = {
    **{item: item.rank for item in Attribution},
    **{item: item.rank for item in DerivativeTerms},
    Approval.AUTOMATIC: 0,
    Approval.MANUAL: 1,
}
# What a derivative's vendor decides alone: every ancestor is paid by its own clauses, however far down.
OF_THE_OFFER = {
    "price_minor": 0,
    "royalty_bps": 0,
    "royalty_floor_minor": 0,
    "royalty_depth": 0,
    "seats": 0,
    "trial_days": 0,
    "billing": Billing.ONE_TIME,
}


def credits_of(node: Node) -> list[str]:
    """Returns the lines that a derivative must give credit with."""
    if node.terms.attribution is Attribution.NONE:
        return []
    made = "Trained on data" if node.is_data else "Based on a model"
    text = node.terms.attribution_text or f"{made} under {node.terms.name}."
    return [line for line in text.split("\n") if line]


def _leading(ancestors: Sequence[Ancestor]) -> Node:
    """The ancestor whose license a derivative has unless its vendor chooses another: the strictest, then models
    before data, then the nearest."""
    return min(
        ancestors, key=lambda row: (-_STRICTNESS[row.node.terms.derivative_terms], row.node.is_data, row.generations)
    ).node


def _earliest(lineage: Lineage, children: set[str]) -> tuple[datetime, Node] | None:
    ends = [
        (edge.expires_at, lineage.nodes[edge.parent].name, edge.parent)
        for child in children
        for edge in lineage.edges.get(child, ())
        if edge.expires_at is not None
    ]
    return (min(ends)[0], lineage.nodes[min(ends)[2]]) if ends else None


def _own_grants(lineage: Lineage, children: set[str], ancestors: Sequence[Ancestor]) -> tuple[Node, ...]:
    """Adapters are no use without the model that they adapt, whatever its terms say."""
    adapted = {edge.parent for child in children for edge in lineage.edges.get(child, ()) if edge.relation == ADAPTER}
    needed = {
        ancestor.node.key: ancestor.node
        for ancestor in ancestors
        if ancestor.node.key in adapted or ancestor.node.terms.downstream_grant is DownstreamGrant.OWN_GRANT_REQUIRED
    }
    return tuple(needed.values())


def _shared_license(ancestors: Sequence[Ancestor], limit: Terms) -> tuple[frozenset[str] | None, tuple[Reason, ...]]:
    """Returns the licenses that all share-alike ancestors accept, and why there is none or why one does not fit:
    a share-alike license whose own rights and limits are not those of the whole cannot be kept."""
    licenses: frozenset[str] | None = None
    first: Node | None = None
    clashes: dict[str, Reason] = {}
    for ancestor in ancestors:
        node, terms = ancestor.node, ancestor.node.terms
        if terms.derivative_terms not in SHARE_ALIKE:
            continue
        accepted = _accepted(terms)
        if first is None or licenses is None:
            licenses, first = accepted, node
        elif licenses & accepted:
            licenses &= accepted
        else:
            clashes.setdefault(node.key, _two_licenses(node, first))
        if found := _does_not_fit(ancestor, limit):
            clashes.setdefault(node.key, found)
    return licenses, tuple(clashes.values())


def _accepted(terms: Terms) -> frozenset[str]:
    own = license_of(terms)
    others = COMPATIBLE.get(own, frozenset()) if terms.derivative_terms is DerivativeTerms.SAME_OR_COMPATIBLE else ()
    return frozenset({own, *others})


def _two_licenses(node: Node, other: Node) -> Reason:
    return Reason(
        node.name,
        "derivative_terms",
        Right.SHARE_DERIVATIVES,
        f"{_licensed(node)} and {_licensed(other)} each want a derivative under their own license, and no license "
        "is both.",
        _without(node, other),
    )


def _does_not_fit(ancestor: Ancestor, limit: Terms) -> Reason | None:
    own = passed_on(ancestor.node.terms, derived=ancestor.derived, copied=ancestor.copied, distilled=ancestor.distilled)
    node = ancestor.node
    narrowed = next((right for right in Right if own[right] is not limit.rights[right]), None)
    if narrowed is not None:
        what = f"another parent of this does not allow: {node.words(narrowed)}"
    elif _limits(node.terms) != _limits(limit):
        what = "another parent of this restricts its use"
    else:
        return None
    return Reason(
        node.name,
        "derivative_terms",
        narrowed.value if narrowed else Right.SHARE_DERIVATIVES,
        f"{_licensed(node)} wants every derivative under the same rights with no limits added, and {what}.",
        f"Keep it for yourself, leave one of the two out, or ask the vendor of {node.name} for other terms.",
    )


def _limits(terms: Terms) -> tuple[object, ...]:
    return (
        set(terms.prohibited_uses),
        set(terms.denied_territories),
        terms.research_only,
        terms.max_monthly_users,
        terms.max_revenue_minor,
    )


def _licensed(node: Node) -> str:
    return f"{node.name} (“{node.terms.name}”)"


def _without(node: Node, other: Node) -> str:
    return f"Keep it for yourself, or make it without {node.name} or without {other.name}."


def _ask(node: Node) -> str:
    whom = "owner of these data" if node.is_data else f"vendor of {node.name}"
    return f"ask the {whom} for other terms"


def judge_use(node: Node, bound: Effective, *rights: Right) -> Verdict:
    """Judges what a licensee of the node does under its terms, narrowed by those of all that it was made of."""
    reasons = []
    outcome = Outcome.ALLOWED
    for right in rights:
        own, limit = node.terms.answer(right), bound.limit.answer(right)
        answer = _least((own, limit))
        if answer is Answer.ALLOW:
            continue
        decided = node if _RANK[own] <= _RANK[limit] else bound.origins[f"rights.{right.value}"]
        reasons.append(_of_right(decided, right, answer))
        outcome = Outcome.REFUSED if Outcome.REFUSED in (outcome, _OUTCOMES[answer]) else Outcome.NEEDS_APPROVAL
    if reasons:
        code = Code.USE if outcome is Outcome.REFUSED else Code.NEEDS_APPROVAL
        return Verdict(outcome, code, tuple(reasons))
    return _allowed(bound)


def judge_plan(node: Node, plan: Plan) -> Verdict:
    """Judges whether the node's terms allow all that is planned. What a derivative's terms allow is already within
    its lineage's: publication saw to it."""
    used = judge_use(node, UNBOUND, *sorted(plan.rights))
    limits = tuple(_against(node, plan))
    if not limits:
        return used
    return Verdict(Outcome.REFUSED, Code.USE, (*used.reasons, *limits))


def _against(node: Node, plan: Plan) -> Iterator[Reason]:
    terms, fix = node.terms, f"Use another model, or {_ask(node)}."
    if terms.max_monthly_users and plan.monthly_users > terms.max_monthly_users:
        words = f"{_licensed(node)} does not allow more than {terms.max_monthly_users:,} users a month."
        yield Reason(node.name, "max_monthly_users", Right.USE.value, words, fix)
    if terms.max_revenue_minor and plan.revenue_minor > terms.max_revenue_minor:
        most = money(terms.max_revenue_minor, terms.currency)
        words = f"{_licensed(node)} does not allow use at a yearly revenue above {most}."
        yield Reason(node.name, "max_revenue_minor", Right.USE.value, words, fix)
    for code in plan.countries:
        if code in terms.denied_territories:
            words = f"{_licensed(node)} does not allow use in {territories.name(code)}."
            yield Reason(node.name, f"denied_territories.{code}", Right.USE.value, words, fix)
    for use in plan.fields:
        if use in terms.prohibited_uses:
            words = f"{_licensed(node)} does not allow {uses.words(use)}."
            yield Reason(node.name, f"prohibited_uses.{use}", Right.USE.value, words, fix)
    if terms.research_only and Right.COMMERCIAL_USE in plan.rights:
        words = f"{_licensed(node)} is for research only."
        yield Reason(node.name, "research_only", Right.COMMERCIAL_USE.value, words, fix)


def _allowed(bound: Effective) -> Verdict:
    duties = obligations(bound)
    return Verdict(Outcome.WITH_OBLIGATIONS if duties else Outcome.ALLOWED, obligations=duties)


_OUTCOMES = {Answer.ASK: Outcome.NEEDS_APPROVAL, Answer.DENY: Outcome.REFUSED}
_CODES = {Answer.ASK: Code.NEEDS_APPROVAL, Answer.DENY: Code.USE}


def _of_right(node: Node, right: Right, answer: Answer) -> Reason:
    says = "asks for consent before you" if answer is Answer.ASK else "does not allow to"
    return Reason(
        node.name,
        f"rights.{right.value}",
        right.value,
        f"{_licensed(node)} {says} {node.words(right)}.",
        f"Use another model, or {_ask(node)}." if not node.is_data else f"Use other data, or {_ask(node)}.",
    )


def judge_offer(bound: Effective, terms: Terms, *, name: str = "") -> Verdict:
    """Judges the publication of a derivative under its vendor's terms; with a name, that too. A price of the terms
    asks for the right to sell."""
    if not bound.ancestors:
        return Verdict(Outcome.ALLOWED)
    if bound.barrier is not None:
        node, right, answer = bound.barrier
        reason = _of_right(node, right, answer)
        kept = "Keep it for yourself, or " + reason.fix[0].lower() + reason.fix[1:]
        return Verdict(_OUTCOMES[answer], _CODES[answer], (dataclasses.replace(reason, fix=kept),))
    wider, misnamed = widenings(terms, bound), list(_misnamed(bound, name))
    reasons = (*bound.clashes, *wider, *misnamed)
    if not reasons:
        return _allowed(bound)
    asks = [reason for reason in reasons if reason.clause == _PRICE and bound.limit.answer(Right(reason.right)) is _ASK]
    if len(asks) == len(reasons):
        return Verdict(Outcome.NEEDS_APPROVAL, Code.NEEDS_APPROVAL, reasons)
    code = Code.CLASH if bound.clashes else Code.TERMS
    if not bound.clashes and all(reason.clause == _PRICE for reason in reasons):
        code = Code.PRICE
    elif not bound.clashes and not wider:
        code = Code.NAME
    return Verdict(Outcome.REFUSED, code, reasons)


_ASK = Answer.ASK
_PRICE = "price_minor"


def _misnamed(bound: Effective, name: str) -> Iterator[Reason]:
    prefix = bound.limit.name_prefix
    if name and not name.lower().startswith(prefix.lower()):
        node = bound.origins["name_prefix"]
        yield Reason(
            node.name,
            "name_prefix",
            Right.SHARE_DERIVATIVES,
            f"{_licensed(node)} wants the name of a derivative to begin with “{prefix}”.",
            f"Name it {prefix}-{name}, for example.",
        )


def widenings(child: Terms, bound: Effective) -> list[Reason]:
    """Returns every clause in which `child` gives more, or asks for less, than what it derives from lets it; and
    where share-alike forbids it, every clause in which it adds limits. Empty for `bound.limit`."""
    if not bound.ancestors:
        return []
    return [
        *_wider_rights(child, bound),
        *_dropped_limits(child, bound),
        *_dropped_duties(child, bound),
        *_freer_offspring(child, bound),
        *_easier_access(child, bound),
        *_price(child, bound),
    ]


def _wider_rights(child: Terms, bound: Effective) -> Iterator[Reason]:
    for right in Right:
        if _RANK[child.answer(right)] > _RANK[bound.limit.answer(right)]:
            name = f"rights.{right.value}"
            node = bound.origins.get(name) or bound.origins["rights.share_derivatives"]
            answer = bound.limit.answer(right).value
            yield _wider(node, name, right, f"allows “{node.words(right)}”", f"Set this right to {answer}")


def _wider(node: Node, clause: str, right: Right | str, what: str, fix: str) -> Reason:
    """`what` completes "under an offer that ..."."""
    words = f"{_licensed(node)} lets no derivative be under an offer that {what}."
    return Reason(node.name, clause, right, words, f"{fix}, or {_ask(node)}.")


_SHARE = Right.SHARE_DERIVATIVES


def _dropped_limits(child: Terms, bound: Effective) -> Iterator[Reason]:
    limit = bound.limit
    for use in limit.prohibited_uses:
        if use not in child.prohibited_uses:
            name = f"prohibited_uses.{use}"
            yield _wider(
                bound.origins[name], name, _SHARE, f"drops the ban on {uses.words(use)}", f"Add {use} to the bans"
            )
    for code in limit.denied_territories:
        if code not in child.denied_territories:
            name = f"denied_territories.{code}"
            yield _wider(
                bound.origins[name], name, _SHARE, f"opens {territories.name(code)}", f"Deny the territory {code}"
            )
    if limit.research_only and not child.research_only:
        yield _wider(
            bound.origins["research_only"], "research_only", _SHARE, "is for more than research", "Set research only"
        )
    if limit.max_monthly_users and not 0 < child.max_monthly_users <= limit.max_monthly_users:
        node, most = bound.origins["max_monthly_users"], limit.max_monthly_users
        yield _wider(
            node, "max_monthly_users", _SHARE, f"allows more than {most:,} users a month", f"Cap users at {most:,}"
        )
    for currency, (most, node) in bound.revenue_caps.items():
        if child.currency != currency or not 0 < child.max_revenue_minor <= most:
            cap = money(most, currency)
            yield _wider(node, "max_revenue_minor", _SHARE, f"allows a revenue above {cap}", f"Cap revenue at {cap}")


def _dropped_duties(child: Terms, bound: Effective) -> Iterator[Reason]:
    limit = bound.limit
    if child.attribution.rank < limit.attribution.rank:
        node = bound.origins["attribution"]
        wanted = limit.attribution.value
        yield _wider(node, "attribution", _SHARE, "asks for less credit", f"Set the attribution to {wanted}")
    for line in _missing(limit.attribution_text, child.attribution_text):
        node = bound.origins[f"credit.{line}"]
        yield _wider(node, "attribution_text", _SHARE, f"leaves out the credit “{line}”", "Add this line to the credit")
    for name, (words, fix) in _DUTIES.items():
        if getattr(limit, name) and not getattr(child, name):
            yield _wider(bound.origins[name], name, _SHARE, words, f"Make it a duty to {fix}")
    if limit.name_prefix and not child.name_prefix.lower().startswith(limit.name_prefix.lower()):
        node, prefix = bound.origins["name_prefix"], limit.name_prefix
        yield _wider(
            node, "name_prefix", _SHARE, f"lets names begin without “{prefix}”", f"Set the name's prefix to {prefix}"
        )


def _freer_offspring(child: Terms, bound: Effective) -> Iterator[Reason]:
    limit = bound.limit
    if child.derivative_terms.rank < limit.derivative_terms.rank:
        node, wanted = bound.origins["derivative_terms"], limit.derivative_terms.value
        yield _wider(
            node, "derivative_terms", _SHARE, "leaves its own derivatives freer", f"Set derivative terms to {wanted}"
        )
    if bound.licenses is None:
        return
    node = bound.origins["derivative_terms"]
    if license_of(child) not in bound.licenses:
        yield _wider(node, "derivative_terms", _SHARE, "is another license", f"Choose the license “{node.terms.name}”")
    elif _adds_limits(child, limit):
        yield _wider(
            node, "derivative_terms", _SHARE, "adds a restriction of its own", "Take out the restrictions you added"
        )


def _adds_limits(child: Terms, limit: Terms) -> bool:
    narrower = any(_RANK[child.answer(right)] < _RANK[limit.answer(right)] for right in Right)
    added = _limits(child) != _limits(limit) and not _drops(child, limit)
    return narrower or added or bool(child.term_days and not limit.term_days) or bool(child.seats)


def _drops(child: Terms, limit: Terms) -> bool:
    """True where the child has fewer limits, which is told as such."""
    fewer = set(child.prohibited_uses) < set(limit.prohibited_uses)
    return fewer or set(child.denied_territories) < set(limit.denied_territories)


def _easier_access(child: Terms, bound: Effective) -> Iterator[Reason]:
    limit = bound.limit
    if limit.approval is Approval.MANUAL and child.approval is not Approval.MANUAL:
        yield _wider(
            bound.origins["approval"], "approval", _SHARE, "is licensed without approval", "Approve each licensee"
        )
    if limit.term_days and not 0 < child.term_days <= limit.term_days:
        node, days = bound.origins["term_days"], limit.term_days
        yield _wider(node, "term_days", _SHARE, f"lasts longer than {days} days", f"Set a term of at most {days} days")


def _price(child: Terms, bound: Effective) -> Iterator[Reason]:
    if not child.price_minor:
        return
    for right in (Right.SELL_DERIVATIVES, Right.COMMERCIAL_USE):
        answer = bound.limit.answer(right)
        if answer is not Answer.ALLOW:
            node = bound.origins.get(f"rights.{right.value}") or bound.origins["rights.share_derivatives"]
            reason = _of_right(node, right, answer)
            yield dataclasses.replace(reason, clause=_PRICE, fix=f"Offer it without a price, or {_ask(node)}.")


def obligations(bound: Effective) -> tuple[Obligation, ...]:
    """Returns what must be done when a derivative is passed on, each with the ancestors that ask for it."""
    sentences: dict[str, dict[str, None]] = {}
    clauses: dict[str, str] = {}
    for ancestor in bound.ancestors:
        for clause, words in _asked(ancestor.node):
            sentences.setdefault(words, {})[ancestor.node.name] = None
            clauses[words] = clause
    return tuple(Obligation(clauses[words], words, tuple(names)) for words, names in sentences.items())


def _asked(node: Node) -> Iterator[tuple[str, str]]:
    terms = node.terms
    if terms.attribution is Attribution.NOTICE:
        yield "attribution", "Keep the copyright and license notices"
    for line in credits_of(node):
        where = "Show the credit" if terms.attribution is Attribution.DISPLAY else "Give the credit"
        yield "attribution_text", f"{where} “{line}”"
    if terms.include_text:
        yield "include_text", f"Pass on the text of “{terms.name}”"
    if terms.state_changes:
        yield "state_changes", "Say what was changed"
    if terms.pass_to_users:
        yield "pass_to_users", "Bind the users to the same use restrictions"
    if terms.network_source:
        yield "network_source", "Publish the weights and training configuration of what is served"
    if terms.name_prefix:
        yield "name_prefix", f"Begin the name with “{terms.name_prefix}”"


def derive(*parents: Terms) -> Terms:
    """Returns the widest terms that a derivative of all these may carry, without a price."""
    nodes = {str(number): Node(str(number), terms.name, terms) for number, terms in enumerate(parents)}
    edges = {"child": [Edge(key) for key in nodes]}
    return effective(Lineage(nodes, edges), "child").limit


def credited(child: Terms, bound: Effective) -> Terms:
    """Returns the child's terms with the credit of each ancestor added where it is missing; they never widen."""
    text = child.attribution_text
    lines = [text, *_missing(bound.limit.attribution_text, text)]
    return dataclasses.replace(child, attribution_text="\n".join(line for line in lines if line))


def _missing(wanted: str, text: str) -> list[str]:
    """Returns the credits' lines that the text does not have. Whole lines are looked up first: a long lineage has
    thousands."""
    there = set(text.split("\n"))
    return [line for line in wanted.split("\n") if line not in there and line not in text]
