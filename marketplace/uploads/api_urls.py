"""Mounted at /api/v1/."""

from django.urls import path

from marketplace.uploads import api

urlpatterns = [
    path("uploads/", api.UploadsView.as_view(), name="api_uploads"),
    path("uploads/<uuid:uid>/", api.UploadView.as_view(), name="api_upload"),
]
