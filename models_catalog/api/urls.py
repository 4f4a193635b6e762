"""Mounted at /api/v1/."""

from django.urls import path

from models_catalog.api import community, desks, incidents, lineage, views

_LISTING = "listings/<str:namespace>/<str:name>/"
_RELEASE = _LISTING + "releases/<str:version>/"

urlpatterns = [
    path("listings/", views.ListingsView.as_view(), name="api_listings"),
    path(_LISTING, views.ListingView.as_view(), name="api_listing"),
    path(_LISTING + "grants/", views.Grants.as_view(), name="api_grants"),
    path(_LISTING + "statistics/", desks.StatisticsView.as_view(), name="api_statistics"),
    path(_LISTING + "reviews/<int:pk>/answer/", community.ReviewAnswerView.as_view(), name="api_review_answer"),
    path(_LISTING + "questions/", community.QuestionsView.as_view(), name="api_questions"),
    path(_LISTING + "questions/<int:pk>/answers/", community.AnswersView.as_view(), name="api_answers"),
    path("vendor/listings/", desks.DeskListings.as_view(), name="api_vendor_listings"),
    path("vendor/releases/", desks.DeskReleases.as_view(), name="api_vendor_releases"),
    path("vendor/requests/", desks.DeskRequests.as_view(), name="api_vendor_requests"),
    path("vendor/grants/", desks.DeskGrants.as_view(), name="api_vendor_grants"),
    path("vendor/orders/", desks.DeskOrders.as_view(), name="api_vendor_orders"),
    path("vendor/reviews/", desks.DeskReviews.as_view(), name="api_vendor_reviews"),
    path("vendor/questions/", desks.DeskQuestions.as_view(), name="api_vendor_questions"),
    path("reports/", community.ReportsView.as_view(), name="api_reports"),
    path("reports/<uuid:uid>/dismiss/", community.ReportDismissView.as_view(), name="api_report_dismiss"),
    path("takedowns/", community.TakedownsView.as_view(), name="api_takedowns"),
    path("takedowns/<uuid:uid>/appeal/", community.AppealView.as_view(), name="api_appeal"),
    path("takedowns/<uuid:uid>/decide/", community.TakedownDecideView.as_view(), name="api_takedown_decide"),
    path(_LISTING + "releases/", views.ReleasesView.as_view(), name="api_releases"),
    path(_RELEASE, views.ReleaseView.as_view(), name="api_release"),
    path(_RELEASE + "submit/", views.Submit.as_view(), name="api_submit"),
    path(_RELEASE + "publish/", views.Publish.as_view(), name="api_publish"),
    path(_RELEASE + "parents/", views.Parents.as_view(), name="api_parents"),
    path(_RELEASE + "yank/", views.Yank.as_view(), name="api_yank"),
    path(_RELEASE + "quarantine/", incidents.Quarantine.as_view(), name="api_quarantine"),
    path(_RELEASE + "lift/", incidents.Lift.as_view(), name="api_lift"),
    path(_RELEASE + "lineage/", lineage.Lineage.as_view(), name="api_lineage"),
    path(_RELEASE + "obligations/", lineage.Obligations.as_view(), name="api_obligations"),
    path(_RELEASE + "obligations/<path:path>", lineage.Document.as_view(), name="api_obligation"),
    path(_RELEASE + "obligations.zip", lineage.Bundle.as_view(), name="api_obligations_zip"),
    path(_RELEASE + "everything.zip", lineage.Everything.as_view(), name="api_everything_zip"),
    path("incidents/<int:pk>/", incidents.IncidentView.as_view(), name="api_incident"),
    path("incidents/<int:pk>/affected/", incidents.Affected.as_view(), name="api_affected"),
    path(_RELEASE + "artifacts/<path:path>", views.ArtifactUpload.as_view(), name="api_artifact"),
]
