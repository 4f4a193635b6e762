"""What may be done with listings and releases: a Decision each, asked by pages, API and services alike."""

from models_catalog.policies.grants import may_ask, may_renew, may_revoke, may_transfer, may_try, offering
from models_catalog.policies.law import may_offer
from models_catalog.policies.licenses import (
    actions,
    can_be_tuned,
    may_accept_for,
    may_declare_parent,
    may_download,
    may_fine_tune,
    may_fine_tune_for_some,
    may_license,
    may_predict,
    may_share_derivative,
)
from models_catalog.policies.orders import may_pay_out, may_receive, may_see_books, receiver_for
from models_catalog.policies.prices import may_price, split_of
from models_catalog.policies.releases import (
    has_obligations,
    is_vendor,
    may_bill,
    may_edit_release,
    may_fetch,
    may_lift,
    may_manage,
    may_publish,
    may_quarantine,
    may_state_figures,
    may_submit,
    may_yank,
)
from models_catalog.policies.reviews import may_appeal, may_moderate, may_post, may_review
from models_catalog.policies.seats import may_administer, may_use_grant, no_seat

__all__ = [
    "actions",
    "can_be_tuned",
    "has_obligations",
    "is_vendor",
    "may_accept_for",
    "may_administer",
    "may_appeal",
    "may_ask",
    "may_bill",
    "may_declare_parent",
    "may_download",
    "may_edit_release",
    "may_fetch",
    "may_fine_tune",
    "may_fine_tune_for_some",
    "may_license",
    "may_lift",
    "may_manage",
    "may_moderate",
    "may_offer",
    "may_pay_out",
    "may_post",
    "may_predict",
    "may_price",
    "may_publish",
    "may_quarantine",
    "may_receive",
    "may_renew",
    "may_review",
    "may_revoke",
    "may_see_books",
    "may_share_derivative",
    "may_state_figures",
    "may_submit",
    "may_transfer",
    "may_try",
    "may_use_grant",
    "may_yank",
    "no_seat",
    "offering",
    "receiver_for",
    "split_of",
]
