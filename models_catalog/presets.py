"""Well-known licences as reviewed terms. A row is the site's reading of a licence, not legal advice.

Unknown licences stay closed: every right is denied until a vendor attests it.
"""

from __future__ import annotations

import dataclasses

from models_catalog.terms import Answer, Approval, Attribution, DerivativeTerms, Kind, Right, Terms

_ALL = dict.fromkeys(Right, Answer.ALLOW)
_NONCOMMERCIAL = {
    **_ALL,
    Right.COMMERCIAL_USE: Answer.DENY,
    Right.COMMERCIAL_OUTPUTS: Answer.DENY,
    Right.SELL_DERIVATIVES: Answer.DENY,
    Right.SUBLICENSE: Answer.DENY,
}

PRESETS: dict[str, Terms] = {
    "apache-2.0": Terms(
        name="Apache License 2.0",
        license_id="apache-2.0",
        spdx_id="Apache-2.0",
        kind=Kind.PERMISSIVE,
        text="Apache License, Version 2.0. The full text: https://www.apache.org/licenses/LICENSE-2.0",
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
        text="MIT License. The full text: https://opensource.org/license/mit",
        rights=_ALL,
        attribution=Attribution.NOTICE,
        include_text=True,
    ),
    "bsd-3-clause": Terms(
        name="BSD 3-Clause License",
        license_id="bsd-3-clause",
        spdx_id="BSD-3-Clause",
        kind=Kind.PERMISSIVE,
        text="BSD 3-Clause License. The full text: https://opensource.org/license/bsd-3-clause",
        rights=_ALL,
        attribution=Attribution.NOTICE,
        include_text=True,
    ),
    "cc-by-4.0": Terms(
        name="Creative Commons Attribution 4.0",
        license_id="cc-by-4.0",
        spdx_id="CC-BY-4.0",
        kind=Kind.PERMISSIVE,
        text="CC BY 4.0. The full text: https://creativecommons.org/licenses/by/4.0/legalcode",
        rights={**_ALL, Right.SUBLICENSE: Answer.DENY},
        attribution=Attribution.DISPLAY,
        state_changes=True,
    ),
    "cc-by-nc-4.0": Terms(
        name="Creative Commons Attribution-NonCommercial 4.0",
        license_id="cc-by-nc-4.0",
        spdx_id="CC-BY-NC-4.0",
        kind=Kind.NONCOMMERCIAL,
        text="CC BY-NC 4.0. The full text: https://creativecommons.org/licenses/by-nc/4.0/legalcode",
        rights=_NONCOMMERCIAL,
        attribution=Attribution.DISPLAY,
        state_changes=True,
        derivative_terms=DerivativeTerms.CARRY_RESTRICTIONS,
    ),
    "cc-by-nd-4.0": Terms(
        name="Creative Commons Attribution-NoDerivatives 4.0",
        license_id="cc-by-nd-4.0",
        spdx_id="CC-BY-ND-4.0",
        kind=Kind.NO_DERIVATIVES,
        text="CC BY-ND 4.0. The full text: https://creativecommons.org/licenses/by-nd/4.0/legalcode",
        rights={
            **_ALL,
            Right.SHARE_DERIVATIVES: Answer.DENY,
            Right.SELL_DERIVATIVES: Answer.DENY,
            Right.SUBLICENSE: Answer.DENY,
        },
        attribution=Attribution.DISPLAY,
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
        **dict.fromkeys(Right, Answer.DENY),
        Right.USE: Answer.ALLOW,
        Right.FINE_TUNE: Answer.ALLOW,
        Right.SHARE_DERIVATIVES: Answer.ASK,
        Right.PUBLISH_BENCHMARKS: Answer.ALLOW,
    },
    attribution=Attribution.NOTICE,
    approval=Approval.MANUAL,
    prohibited_uses=("surveillance",),
)

# What a vendor chooses from, by the key that forms and the API use.
OFFERS: dict[str, Terms] = {**PRESETS, "commercial": COMMERCIAL_TEMPLATE, "reviewed": APPROVAL_TEMPLATE}


CURRENCIES = ("EUR", "USD", "GBP", "CHF", "CNY", "JPY")


def offer(key: str, *, price_minor: int, currency: str) -> Terms:
    """Returns the terms of an offer at the vendor's price."""
    return dataclasses.replace(OFFERS[key], price_minor=price_minor, currency=currency)
