from models_catalog.models.incidents import Flag, Incident
from models_catalog.models.licensing import AccessRequest, Download, Grant, LicenseTerms, Order
from models_catalog.models.lineage import LineageEdge, WeightsOrigin
from models_catalog.models.listings import Artifact, Listing, Release

__all__ = [
    "AccessRequest",
    "Artifact",
    "Download",
    "Flag",
    "Grant",
    "Incident",
    "LicenseTerms",
    "LineageEdge",
    "Listing",
    "Order",
    "Release",
    "WeightsOrigin",
]
