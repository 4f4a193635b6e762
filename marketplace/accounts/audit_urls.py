"""Mounted at /audit/."""

from django.urls import path

from marketplace.accounts import audit_pages

urlpatterns = [
    path("", audit_pages.log, name="audit"),
    path("audit.<str:kind>", audit_pages.export, name="audit_export"),
]
