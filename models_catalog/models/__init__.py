from models_catalog.models.incidents import Flag, Incident
from models_catalog.models.licensing import AccessRequest, Download, Grant, LicenseTerms, Order
from models_catalog.models.lineage import LineageEdge, WeightsOrigin
from models_catalog.models.listings import Artifact, Listing, Release
from models_catalog.models.moderation import Report, Takedown
from models_catalog.models.reviews import Answer, CitedEvaluation, Question, Review, ReviewVersion

__all__ = [
    "AccessRequest",
    "Answer",
    "Artifact",
    "CitedEvaluation",
    "Download",
    "Flag",
    "Grant",
    "Incident",
    "LicenseTerms",
    "LineageEdge",
    "Listing",
    "Order",
    "Question",
    "Release",
    "Report",
    "Review",
    "ReviewVersion",
    "Takedown",
    "WeightsOrigin",
]
