"""Addresses of the catalog's pages."""

from django.urls import path

from models_catalog.web import catalog, checkout, desk, vendor

_MODEL = "models/<str:namespace>/<str:name>/"
_VENDOR = "vendor/<str:namespace>/<str:name>/"
_RELEASE = _VENDOR + "<str:version>/"

urlpatterns = [
    path("models/", catalog.catalog, name="catalog"),
    path("models/compare/", catalog.compare, name="compare"),
    path(_MODEL, catalog.listing, name="listing"),
    path(_MODEL + "license/", checkout.checkout, name="checkout"),
    path(_MODEL + "versions/<str:version>/", catalog.listing, name="release"),
    path(_MODEL + "files/<str:version>/<path:path>", catalog.download, name="download"),
    path("licenses/", checkout.licenses, name="licenses"),
    path("licenses/<uuid:pk>/", checkout.grant, name="grant"),
    path("orders/<uuid:pk>/", checkout.order, name="order"),
    path("orders/<uuid:pk>/settle/", checkout.order_settle, name="order_settle"),
    path("orders/<uuid:pk>/cancel/", checkout.order_cancel, name="order_cancel"),
    path("vendor/", vendor.desk, name="vendor_desk"),
    path("vendor/downloads/", desk.downloads, name="vendor_downloads"),
    path("vendor/new/", vendor.listing_new, name="vendor_listing_new"),
    path("vendor/requests/<uuid:pk>/", vendor.request_decide, name="request_decide"),
    path(_VENDOR, vendor.listing, name="vendor_listing"),
    path(_RELEASE, vendor.release, name="vendor_release"),
    path(_RELEASE + "files/", vendor.artifact, name="vendor_artifact"),
    path(_RELEASE + "text/<str:kind>/", vendor.text, name="vendor_text"),
    path(_RELEASE + "act/<str:verb>/", vendor.act, name="vendor_act"),
]
