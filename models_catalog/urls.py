"""Addresses of the catalog's pages."""

from django.urls import path

from models_catalog.web import (
    books,
    catalog,
    checkout,
    desk,
    incidents,
    lineage,
    moderation,
    orders,
    payments,
    reviews,
    vendor,
)

_MODEL = "models/<str:namespace>/<str:name>/"
_VENDOR = "vendor/<str:namespace>/<str:name>/"
_RELEASE = _VENDOR + "<str:version>/"

urlpatterns = [
    path("models/", catalog.catalog, name="catalog"),
    path("models/compare/", catalog.compare, name="compare"),
    path(_MODEL, catalog.listing, name="listing"),
    path(_MODEL + "license/", checkout.checkout, name="checkout"),
    path(_MODEL + "versions/<str:version>/", catalog.listing, name="release"),
    path(_MODEL + "versions/<str:version>/quarantine/", incidents.begin, name="quarantine"),
    path(_MODEL + "versions/<str:version>/lift/", incidents.lift, name="quarantine_lift"),
    path(_MODEL + "lineage/", lineage.lineage, name="lineage"),
    path(_MODEL + "versions/<str:version>/lineage/", lineage.lineage, name="release_lineage"),
    path(_MODEL + "versions/<str:version>/obligations/", lineage.documents, name="obligations"),
    path(_MODEL + "versions/<str:version>/obligations/<path:path>", lineage.document, name="obligation"),
    path(_MODEL + "versions/<str:version>/obligations.zip", lineage.bundle, name="obligations_zip"),
    path(_MODEL + "versions/<str:version>/everything.zip", lineage.everything, name="everything_zip"),
    path("incidents/<int:pk>/", incidents.incident, name="incident"),
    path(_MODEL + "files/<str:version>/<path:path>", catalog.download, name="download"),
    path(_MODEL + "reviews/", reviews.reviews, name="reviews"),
    path(_MODEL + "questions/", reviews.questions, name="questions"),
    path("reviews/<int:pk>/answer/", reviews.review_answer, name="review_answer"),
    path("questions/<int:pk>/answers/", reviews.question_answer, name="question_answer"),
    path("evaluations/<uuid:uid>/", reviews.cited_evaluation, name="cited_evaluation"),
    path("reports/", moderation.reports, name="reports"),
    path("reports/new/", moderation.report_new, name="report_new"),
    path("reports/<uuid:uid>/", moderation.report, name="report"),
    path("reports/<uuid:uid>/dismiss/", moderation.report_dismiss, name="report_dismiss"),
    path("reports/<uuid:uid>/uphold/", moderation.report_uphold, name="report_uphold"),
    path("takedowns/", moderation.takedowns, name="takedowns"),
    path("takedowns/<uuid:uid>/", moderation.takedown, name="takedown"),
    path("takedowns/<uuid:uid>/decide/", moderation.takedown_decide, name="takedown_decide"),
    path("moderation/", moderation.queue, name="moderation"),
    path("moderation/new/", moderation.takedown_new, name="takedown_new"),
    path("licenses/", checkout.licenses, name="licenses"),
    path("licenses/<uuid:pk>/", checkout.grant, name="grant"),
    path("orders/<uuid:pk>/", orders.order, name="order"),
    path("orders/<uuid:pk>/settle/", orders.settle, name="order_settle"),
    path("orders/<uuid:pk>/cancel/", orders.cancel, name="order_cancel"),
    path("orders/<uuid:pk>/pay/", orders.pay, name="order_pay"),
    path("orders/<uuid:pk>/refund/", orders.refund, name="order_refund"),
    path("payments/stripe/webhook/", payments.stripe, name="stripe_webhook"),
    path("statements/", books.books, name="statements"),
    path("statements/<str:namespace>/", books.statement, name="statement"),
    path("statements/<str:namespace>/csv/", books.statement_csv, name="statement_csv"),
    path("payouts/", books.payout_list, name="payouts"),
    path("payouts/<uuid:pk>/", books.payout, name="payout"),
    path("payouts/<uuid:pk>/csv/", books.payout_csv, name="payout_csv"),
    path("payouts/<uuid:pk>/sent/", books.payout_sent, name="payout_sent"),
    path("payouts/<uuid:pk>/cancel/", books.payout_cancel, name="payout_cancel"),
    path("vendor/", vendor.desk, name="vendor_desk"),
    *(
        path(f"vendor/{name}/", desk.section, {"name": name}, name=f"vendor_{name}")
        for name in ("listings", "releases", "requests", "grants", "sales", "reviews", "questions")
    ),
    path("vendor/downloads/", desk.downloads, name="vendor_downloads"),
    path("vendor/new/", vendor.listing_new, name="vendor_listing_new"),
    path("vendor/requests/<uuid:pk>/", vendor.request_decide, name="request_decide"),
    path(_VENDOR, vendor.listing, name="vendor_listing"),
    path(_RELEASE, vendor.release, name="vendor_release"),
    path(_RELEASE + "files/", vendor.artifact, name="vendor_artifact"),
    path(_RELEASE + "text/<str:kind>/", vendor.text, name="vendor_text"),
    path(_RELEASE + "act/<str:verb>/", vendor.act, name="vendor_act"),
]
