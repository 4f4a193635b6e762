"""Well-known licences as reviewed terms. A row is the site's reading of a licence, not legal advice.

Unknown licences stay closed: every right is denied until a vendor attests it. The texts lie in `license_texts/`, word
for word; where the full text cannot be had, the file says so and names its address.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from models_catalog.terms import (
    CURRENCIES,
    Answer,
    Approval,
    Attribution,
    DerivativeTerms,
    Kind,
    Revocable,
    Right,
    Terms,
    denied,
)
from models_catalog.uses import Use

__all__ = [
    "APPROVAL_TEMPLATE",
    "COMMERCIAL_TEMPLATE",
    "CURRENCIES",
    "OFFERS",
    "OFFER_KEYS",
    "OWN_DATA",
    "PRESETS",
    "offer",
]

TEXTS = Path(__file__).with_name("license_texts")


def text_of(key: str) -> str:
    """Returns the license text that this server keeps for a preset."""
    return (TEXTS / f"{key}.txt").read_text(encoding="utf-8")


_ALL = dict.fromkeys(Right, Answer.ALLOW)
# Creative Commons and the AGPL give each recipient a license of the licensor's instead.
_ALL_BUT_SUBLICENSE = {**_ALL, Right.SUBLICENSE: Answer.DENY}
_NONCOMMERCIAL = {
    **_ALL_BUT_SUBLICENSE,
    Right.COMMERCIAL_USE: Answer.DENY,
    Right.COMMERCIAL_OUTPUTS: Answer.DENY,
    Right.SELL_DERIVATIVES: Answer.DENY,
}
# Attachment A of the Open RAIL-M licenses, (a) to (m).
_ATTACHMENT_A = (
    Use.UNLAWFUL,
    Use.HARMING_MINORS,
    Use.DISINFORMATION,
    Use.HARMFUL_PERSONAL_DATA,
    Use.UNDISCLOSED_GENERATION,
    Use.HARASSMENT,
    Use.IMPERSONATION,
    Use.AUTOMATED_DECISIONS,
    Use.SOCIAL_SCORING,
    Use.EXPLOITING_VULNERABILITY,
    Use.DISCRIMINATION,
    Use.MEDICAL_ADVICE,
    Use.LAW_ENFORCEMENT,
)
# The acceptable-use policy that the Llama agreement refers to; its text is Meta's page, not this server's.
_LLAMA_POLICY = (
    Use.UNLAWFUL,
    Use.MILITARY,
    Use.WEAPONS,
    Use.CRITICAL_INFRASTRUCTURE,
    Use.HARMING_MINORS,
    Use.HARASSMENT,
    Use.DISCRIMINATION,
    Use.IMPERSONATION,
    Use.DISINFORMATION,
    Use.UNDISCLOSED_GENERATION,
    Use.HARMFUL_PERSONAL_DATA,
    Use.UNLICENSED_PRACTICE,
)


def _codes(uses: tuple[Use, ...]) -> tuple[str, ...]:
    return tuple(sorted(use.value for use in uses))


def _open_rail(key: str, name: str) -> Terms:
    return Terms(
        name=name,
        license_id=key,
        kind=Kind.RAIL,
        text=text_of(key),
        rights=_ALL,
        attribution=Attribution.NOTICE,
        include_text=True,
        state_changes=True,
        derivative_terms=DerivativeTerms.CARRY_RESTRICTIONS,
        pass_to_users=True,
        prohibited_uses=_codes(_ATTACHMENT_A),
    )


PRESETS: dict[str, Terms] = {
    "apache-2.0": Terms(
        name="Apache License 2.0",
        license_id="apache-2.0",
        spdx_id="Apache-2.0",
        kind=Kind.PERMISSIVE,
        text=text_of("apache-2.0"),
        rights=_ALL,
        attribution=Attribution.NOTICE,
        include_text=True,
        state_changes=True,
    ),
    "mit": Terms(
        name="MIT License",
        license_id="mit",
        spdx_id="MIT",
        kind=Kind.PERMISSIVE,
        text=text_of("mit"),
        rights=_ALL,
        attribution=Attribution.NOTICE,
        include_text=True,
    ),
    "bsd-3-clause": Terms(
        name="BSD 3-Clause License",
        license_id="bsd-3-clause",
        spdx_id="BSD-3-Clause",
        kind=Kind.PERMISSIVE,
        text=text_of("bsd-3-clause"),
        rights=_ALL,
        attribution=Attribution.NOTICE,
        include_text=True,
    ),
    "cc0-1.0": Terms(
        name="Creative Commons Zero 1.0",
        license_id="cc0-1.0",
        spdx_id="CC0-1.0",
        kind=Kind.PERMISSIVE,
        text=text_of("cc0-1.0"),
        rights=_ALL,
        revocable_on=Revocable.NEVER,
    ),
    "openmdw-1.0": Terms(
        name="OpenMDW License Agreement 1.0",
        license_id="openmdw-1.0",
        kind=Kind.PERMISSIVE,
        text=text_of("openmdw-1.0"),
        rights=_ALL,
        attribution=Attribution.NOTICE,
        include_text=True,
    ),
    "cc-by-4.0": Terms(
        name="Creative Commons Attribution 4.0",
        license_id="cc-by-4.0",
        spdx_id="CC-BY-4.0",
        kind=Kind.PERMISSIVE,
        text=text_of("cc-by-4.0"),
        rights=_ALL_BUT_SUBLICENSE,
        attribution=Attribution.DISPLAY,
        state_changes=True,
    ),
    "cc-by-sa-4.0": Terms(
        name="Creative Commons Attribution-ShareAlike 4.0",
        license_id="cc-by-sa-4.0",
        spdx_id="CC-BY-SA-4.0",
        kind=Kind.SHARE_ALIKE,
        text=text_of("cc-by-sa-4.0"),
        rights=_ALL_BUT_SUBLICENSE,
        attribution=Attribution.DISPLAY,
        state_changes=True,
        derivative_terms=DerivativeTerms.SAME_OR_COMPATIBLE,
    ),
    "cc-by-nc-4.0": Terms(
        name="Creative Commons Attribution-NonCommercial 4.0",
        license_id="cc-by-nc-4.0",
        spdx_id="CC-BY-NC-4.0",
        kind=Kind.NONCOMMERCIAL,
        text=text_of("cc-by-nc-4.0"),
        rights=_NONCOMMERCIAL,
        attribution=Attribution.DISPLAY,
        state_changes=True,
        derivative_terms=DerivativeTerms.CARRY_RESTRICTIONS,
    ),
    "cc-by-nc-sa-4.0": Terms(
        name="Creative Commons Attribution-NonCommercial-ShareAlike 4.0",
        license_id="cc-by-nc-sa-4.0",
        spdx_id="CC-BY-NC-SA-4.0",
        kind=Kind.NONCOMMERCIAL,
        text=text_of("cc-by-nc-sa-4.0"),
        rights=_NONCOMMERCIAL,
        attribution=Attribution.DISPLAY,
        state_changes=True,
        derivative_terms=DerivativeTerms.SAME_OR_COMPATIBLE,
    ),
    "cc-by-nd-4.0": Terms(
        name="Creative Commons Attribution-NoDerivatives 4.0",
        license_id="cc-by-nd-4.0",
        spdx_id="CC-BY-ND-4.0",
        kind=Kind.NO_DERIVATIVES,
        text=text_of("cc-by-nd-4.0"),
        rights={
            **_ALL_BUT_SUBLICENSE,
            Right.SHARE_DERIVATIVES: Answer.DENY,
            Right.SELL_DERIVATIVES: Answer.DENY,
        },
        attribution=Attribution.DISPLAY,
    ),
    "bigscience-openrail-m": _open_rail("bigscience-openrail-m", "BigScience Open RAIL-M License"),
    "creativeml-openrail-m": _open_rail("creativeml-openrail-m", "CreativeML Open RAIL-M License"),
    "agpl-3.0": Terms(
        name="GNU Affero General Public License 3.0",
        license_id="agpl-3.0",
        spdx_id="AGPL-3.0-only",
        kind=Kind.NETWORK_COPYLEFT,
        text=text_of("agpl-3.0"),
        rights=_ALL_BUT_SUBLICENSE,
        attribution=Attribution.NOTICE,
        include_text=True,
        state_changes=True,
        network_source=True,
        derivative_terms=DerivativeTerms.SAME,
    ),
    "llama3.1": Terms(
        name="Llama 3.1 Community License",
        license_id="llama3.1",
        edition="3.1",
        kind=Kind.COMMUNITY,
        text=text_of("llama3.1"),
        rights=_ALL_BUT_SUBLICENSE,
        attribution=Attribution.DISPLAY,
        attribution_text="Built with Llama",
        include_text=True,
        derivative_terms=DerivativeTerms.CARRY_RESTRICTIONS,
        pass_to_users=True,
        prohibited_uses=_codes(_LLAMA_POLICY),
        name_prefix="Llama",
        max_monthly_users=700_000_000,
    ),
    "unknown": Terms(
        name="No license stated",
        license_id="unknown",
        kind=Kind.UNKNOWN,
        text="No license is stated for this model, so nothing may be done with it but to look at its page.",
        rights=denied(),
    ),
}

# What a vendor starts from when selling under terms of their own.
COMMERCIAL_TEMPLATE = Terms(
    name="Commercial license",
    license_id="other",
    kind=Kind.PROPRIETARY,
    text=(
        "The licensee may use the model and its outputs commercially, fine-tune it, and share and sell what it "
        "fine-tunes, under the terms shown on this page. The original weights stay with the licensee."
    ),
    rights={
        **_ALL,
        Right.REDISTRIBUTE: Answer.DENY,
        Right.SUBLICENSE: Answer.DENY,
        Right.TRAIN_OTHER_MODELS: Answer.DENY,
    },
    attribution=Attribution.NOTICE,
    price_minor=4900,
    royalty_bps=1000,
)
APPROVAL_TEMPLATE = Terms(
    name="Reviewed-access license",
    license_id="other",
    kind=Kind.PROPRIETARY,
    text=(
        "Access is given after the vendor has read what the model is wanted for. The licensee may use and "
        "fine-tune the model for the purpose stated in the request; results may be shared with the vendor's consent."
    ),
    rights={
        **denied(),
        Right.USE: Answer.ALLOW,
        Right.FINE_TUNE: Answer.ALLOW,
        Right.SHARE_DERIVATIVES: Answer.ASK,
        Right.PUBLISH_BENCHMARKS: Answer.ALLOW,
    },
    attribution=Attribution.NOTICE,
    approval=Approval.MANUAL,
    prohibited_uses=(Use.SURVEILLANCE.value,),
)
RESEARCH_TEMPLATE = Terms(
    name="Research license",
    license_id="other",
    kind=Kind.NONCOMMERCIAL,
    text=(
        "The licensee may use the model for research that earns no money and publish what was measured. To fine-tune "
        "it, or to share what was fine-tuned from it, the licensee asks the vendor first; what is shared stays under "
        "these terms. The weights are not passed on."
    ),
    rights={
        **denied(),
        Right.USE: Answer.ALLOW,
        Right.FINE_TUNE: Answer.ASK,
        Right.SHARE_DERIVATIVES: Answer.ASK,
        Right.PUBLISH_BENCHMARKS: Answer.ALLOW,
    },
    attribution=Attribution.NOTICE,
    include_text=True,
    state_changes=True,
    derivative_terms=DerivativeTerms.SAME,
    research_only=True,
)
TEMPLATES = {"commercial": COMMERCIAL_TEMPLATE, "reviewed": APPROVAL_TEMPLATE, "research": RESEARCH_TEMPLATE}

# What a vendor chooses from, by the key that forms and the API use.
OFFERS: dict[str, Terms] = {**PRESETS, **TEMPLATES}
OFFER_KEYS = tuple(sorted(OFFERS))

# What the owner of data says of them where they are the owner's own.
OWN_DATA = Terms(
    name="My own data: no limits of its own",
    license_id="own-data",
    kind=Kind.PERMISSIVE,
    text="The owner of these data sets no limits to models that are trained on them.",
    rights=_ALL,
)


def offer(key: str, *, price_minor: int, currency: str) -> Terms:
    """Returns the terms of an offer at the vendor's price."""
    return dataclasses.replace(OFFERS[key], price_minor=price_minor, currency=currency)
