"""What webhooks tell of: every type with what its `data` is about. A type's meaning never changes; its data only gains
fields, or VERSION is counted up."""

from __future__ import annotations

from django.db import models

VERSION = 1


class EventType(models.TextChoices):
    RELEASE_PUBLISHED = "release.published", "A release of yours is in the catalog"
    RELEASE_VERIFIED = "release.verified", "A release of yours has passed its verification"
    RELEASE_REJECTED = "release.verification_failed", "A release of yours has not passed its verification"
    RELEASE_YANKED = "release.yanked", "A release that you offer or license was withdrawn"
    RELEASE_QUARANTINED = "release.quarantined", "A release that you offer or license was quarantined"
    RELEASE_LIFTED = "release.lifted", "A release that was quarantined is served again"
    LINEAGE_FLAGGED = "lineage.flagged", "A model that yours comes from was withdrawn or quarantined"
    LINEAGE_CLEARED = "lineage.cleared", "A model that yours comes from is served again"
    ACCESS_REQUESTED = "access.requested", "Somebody asks for access to a model of yours"
    ACCESS_DECIDED = "access.decided", "A request for access, yours or to you, was approved or rejected"
    ORDER_PLACED = "order.placed", "An order was placed, by you or of a model of yours"
    ORDER_PAID = "order.paid", "An order was paid"
    ORDER_CANCELED = "order.canceled", "An order was canceled"
    ORDER_REFUNDED = "order.refunded", "An order was refunded"
    GRANT_GIVEN = "grant.given", "A license was given: new, renewed, as a trial, or taken over"
    GRANT_EXPIRING = "grant.expiring", "A license ends within 14 days"
    GRANT_EXPIRED = "grant.expired", "A license has come to the end of its term"
    GRANT_REVOKED = "grant.revoked", "A license was revoked, or ended by a refund"
    GRANT_TRANSFERRED = "grant.transferred", "A license was passed on to somebody else"
    RUN_SUCCEEDED = "run.succeeded", "A fine-tune of yours has finished"
    RUN_FAILED = "run.failed", "A fine-tune of yours has failed"
    RUN_CANCELED = "run.canceled", "A fine-tune of yours was canceled"
    DATASET_VALID = "dataset.valid", "A dataset of yours was inspected and can be used"
    DATASET_INVALID = "dataset.invalid", "A dataset of yours was inspected and cannot be used"
    QUESTION_ASKED = "question.asked", "Somebody asks about a model of yours"
    QUESTION_ANSWERED = "question.answered", "A question of yours was answered"
    TAKEDOWN_BEGUN = "takedown.begun", "Something of yours was taken down"
    TAKEDOWN_DECIDED = "takedown.decided", "A takedown of something of yours was confirmed or lifted"
    REVIEW_WRITTEN = "review.written", "Somebody reviewed a model of yours, or changed their review"
    PAYOUT_CREATED = "payout.created", "Your balance is in a batch of payouts"
    PAYOUT_SENT = "payout.sent", "A payout to you was sent"
    PAYOUT_CANCELED = "payout.canceled", "A payout to you was canceled; the amount is in your balance again"


TEST = "webhook.test"  # what the test button sends; nobody subscribes to it
