"""What terms mean, one sentence for each clause: for pages, receipts and generated license texts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from babel.numbers import format_currency, get_currency_precision

from models_catalog import territories, uses
from models_catalog.terms import (
    Answer,
    Approval,
    Attribution,
    Billing,
    DerivativeTerms,
    DownstreamGrant,
    Revocable,
    Right,
    Terms,
)

WORDS: dict[Right, str] = {
    Right.USE: "Use the model",
    Right.COMMERCIAL_USE: "Use it commercially",
    Right.COMMERCIAL_OUTPUTS: "Use its outputs commercially",
    Right.HOST_AS_SERVICE: "Offer it to others as a service",
    Right.FINE_TUNE: "Fine-tune it",
    Right.SHARE_DERIVATIVES: "Share what you fine-tune from it",
    Right.SELL_DERIVATIVES: "Sell what you fine-tune from it",
    Right.REDISTRIBUTE: "Pass on the original weights",
    Right.SUBLICENSE: "Grant others a license of your own",
    Right.TRAIN_OTHER_MODELS: "Train other models on its outputs",
    Right.PUBLISH_BENCHMARKS: "Publish benchmark results",
}
# Where the terms are those of data.
DATA_WORDS: dict[Right, str] = {
    **WORDS,
    Right.USE: "Use the data",
    Right.FINE_TUNE: "Train models on it",
    Right.SHARE_DERIVATIVES: "Share what was trained on it",
    Right.SELL_DERIVATIVES: "Sell what was trained on it",
    Right.REDISTRIBUTE: "Pass on the data",
}
_CREDIT = {
    Attribution.NONE: "",
    Attribution.NOTICE: "Keep the copyright and license notices",
    Attribution.DISPLAY: "Give visible credit",
}
_DERIVATIVES = {
    DerivativeTerms.FREE: "",
    DerivativeTerms.CARRY_RESTRICTIONS: "Carry these restrictions into the terms of a derivative",
    DerivativeTerms.SAME_OR_COMPATIBLE: "License a shared derivative under the same or compatible terms, with no limits "
    "of your own",
    DerivativeTerms.SAME: "License a shared derivative under the same terms, with no limits of your own",
}


@dataclass(frozen=True, slots=True)
class PlainWords:
    """What a reader must know before accepting, one sentence each; `deal` is what it costs and how it ends."""

    may: list[str]
    may_ask: list[str]
    must: list[str]
    may_not: list[str]
    deal: list[str]


def in_plain_words(terms: Terms, *, of_data: bool = False) -> PlainWords:
    """Returns every clause in words, of a model or of data. What is said follows from each clause alone."""
    names = DATA_WORDS if of_data else WORDS

    def of(answer: Answer) -> list[str]:
        return [names[right] for right in Right if terms.answer(right) is answer]

    return PlainWords(
        may=of(Answer.ALLOW),
        may_ask=of(Answer.ASK),
        must=list(_duties(terms)),
        may_not=[*of(Answer.DENY), *_limits(terms)],
        deal=list(_deal(terms)),
    )


def _duties(terms: Terms) -> Iterator[str]:
    if credit := _CREDIT[terms.attribution]:
        yield credit + (f": “{terms.attribution_text}”" if terms.attribution_text else "")
    if terms.include_text:
        yield "Pass on the license text"
    if terms.state_changes:
        yield "Say what you changed"
    if terms.pass_to_users:
        yield "Bind your own users to the same use restrictions"
    if terms.network_source:
        yield "Publish the weights and training configuration of what you serve"
    if terms.name_prefix:
        yield f"Begin the name of a derivative with “{terms.name_prefix}”"
    if duty := _DERIVATIVES[terms.derivative_terms]:
        yield duty
    if royalty := royalty_in_words(terms):
        yield royalty
    if terms.downstream_grant is DownstreamGrant.OWN_GRANT_REQUIRED:
        yield "Make sure that those who license a derivative hold a license of this too"


def royalty_in_words(terms: Terms) -> str:
    """Returns what each sale of a derivative owes, or nothing where it owes nothing."""
    if not terms.royalty_bps and not terms.royalty_floor_minor:
        return ""
    owed = share_in_words(terms.royalty_bps, floor_minor=terms.royalty_floor_minor, currency=terms.currency)
    depth = terms.royalty_depth
    reach = f", for {depth} generation{'s' if depth > 1 else ''} of derivatives" if depth else ""
    return f"Pay for each sale of a derivative: {owed}{reach}"


def share_in_words(bps: int, *, floor_minor: int, currency: str) -> str:
    """Returns what a royalty asks of a price: a percentage, a floor, or both."""
    floor = money(floor_minor, currency) if floor_minor else ""
    share = f"{Decimal(bps) / 100:g}% of its price" if bps else ""
    return f"{share}, and at least {floor}" if share and floor else share or floor


def _limits(terms: Terms) -> Iterator[str]:
    for use in terms.prohibited_uses:
        yield f"Use it for {uses.words(use)}"
    if terms.research_only:
        yield "Use it for anything but research"
    if terms.max_monthly_users:
        yield f"Use it in products with more than {terms.max_monthly_users:,} users a month"
    if terms.max_revenue_minor:
        cap = money(terms.max_revenue_minor, terms.currency)
        yield f"Use it in an organization whose revenue is above {cap} a year"
    if terms.denied_territories:
        yield f"Use it in {_listed(territories.name(code) for code in terms.denied_territories)}"


def _deal(terms: Terms) -> Iterator[str]:
    yield _price(terms)
    if terms.trial_days:
        yield f"Can be tried for {_days(terms.trial_days)} first"
    if terms.seats:
        yield f"Is for {terms.seats} seat{'s' if terms.seats > 1 else ''}"
    if terms.term_days:
        yield f"Lasts {_days(terms.term_days)}"
    else:
        yield "Lasts without end"
    if terms.approval is Approval.MANUAL:
        yield "Is given once the vendor has approved you"
    if terms.transferable:
        yield "Can be passed on to another licensee"
    else:
        yield "Cannot be passed on to another licensee"
    if terms.revocable_on is Revocable.NEVER:
        yield "Is never taken back"
    else:
        yield "Is taken back only if you break these terms"


def _price(terms: Terms) -> str:
    if not terms.price_minor:
        return "Costs nothing"
    cost = f"Costs {money(terms.price_minor, terms.currency)}"
    if terms.billing is Billing.PER_PERIOD:
        return f"{cost} for each {_days(terms.term_days)}, bought again to renew"
    return f"{cost} once"


def money(minor: int, currency: str) -> str:
    """Returns the amount as English text writes it."""
    amount = Decimal(minor).scaleb(-get_currency_precision(currency))
    return str(format_currency(amount, currency, locale="en"))


def _days(days: int) -> str:
    return f"{days} day{'s' if days > 1 else ''}"


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def as_text(terms: Terms) -> str:
    """Returns a license text that says every clause of the terms: what a vendor's own terms have for a text."""
    plain = in_plain_words(terms)
    parts = [
        ("You may", plain.may or ["Only look at it"]),
        ("With the vendor's consent you may", plain.may_ask),
        ("You must", plain.must),
        ("You may not", plain.may_not),
        ("The license", plain.deal),
    ]
    numbered = [(title, lines) for title, lines in parts if lines]
    sections = [
        "\n".join([f"{number}. {title}", *(f"   {number}.{item} {line}." for item, line in enumerate(lines, 1))])
        for number, (title, lines) in enumerate(numbered, 1)
    ]
    closing = "What these terms do not allow, they deny."
    return "\n\n".join([terms.name, *sections, closing]) + "\n"
