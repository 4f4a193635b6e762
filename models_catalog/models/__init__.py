from models_catalog.models.changes import CatalogChange
from models_catalog.models.commits import Commit
from models_catalog.models.consent import Acceptance
from models_catalog.models.incidents import Flag, Incident
from models_catalog.models.ledger import LedgerAccount, LedgerEntry, LedgerTransaction, Payout, PayoutBatch
from models_catalog.models.licensing import AccessRequest, ClauseSet, Download, Grant, LicenseTerms
from models_catalog.models.lineage import LineageEdge, WeightsOrigin
from models_catalog.models.listings import Artifact, Listing, Release
from models_catalog.models.moderation import Report, Takedown
from models_catalog.models.orders import Order, PaymentEvent
from models_catalog.models.reviews import Answer, CitedEvaluation, Question, Review, ReviewVersion
from models_catalog.models.seats import LicenseKey, Seat
from models_catalog.models.sent_files import SentFile
from models_catalog.models.transfers import GrantTransfer

__all__ = [
    "Acceptance",
    "AccessRequest",
    "Answer",
    "Artifact",
    "CatalogChange",
    "CitedEvaluation",
    "ClauseSet",
    "Commit",
    "Download",
    "Flag",
    "Grant",
    "GrantTransfer",
    "Incident",
    "LedgerAccount",
    "LedgerEntry",
    "LedgerTransaction",
    "LicenseKey",
    "LicenseTerms",
    "LineageEdge",
    "Listing",
    "Order",
    "PaymentEvent",
    "Payout",
    "PayoutBatch",
    "Question",
    "Release",
    "Report",
    "Review",
    "ReviewVersion",
    "Seat",
    "SentFile",
    "Takedown",
    "WeightsOrigin",
]
