"""Mounted at /api/v1/."""

from django.urls import path

from models_catalog.api import desks, views

_LISTING = "listings/<str:namespace>/<str:name>/"
_RELEASE = _LISTING + "releases/<str:version>/"

urlpatterns = [
    path("listings/", views.ListingsView.as_view(), name="api_listings"),
    path(_LISTING, views.ListingView.as_view(), name="api_listing"),
    path(_LISTING + "grants/", views.Grants.as_view(), name="api_grants"),
    path(_LISTING + "statistics/", desks.StatisticsView.as_view(), name="api_statistics"),
    path(_LISTING + "releases/", views.ReleasesView.as_view(), name="api_releases"),
    path(_RELEASE, views.ReleaseView.as_view(), name="api_release"),
    path(_RELEASE + "submit/", views.Submit.as_view(), name="api_submit"),
    path(_RELEASE + "publish/", views.Publish.as_view(), name="api_publish"),
    path(_RELEASE + "parents/", views.Parents.as_view(), name="api_parents"),
    path(_RELEASE + "yank/", views.Yank.as_view(), name="api_yank"),
    path(_RELEASE + "artifacts/<path:path>", views.ArtifactUpload.as_view(), name="api_artifact"),
]
