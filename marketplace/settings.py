"""Settings. The environment is read here and nowhere else; docs/operations.md has the table."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path

import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from finetuning.engine import crash_points
from marketplace import error_reports
from marketplace.log_settings import logging_config
from marketplace.queue_settings import q_cluster
from marketplace.rate_settings import plans, rate
from marketplace.storage_settings import storage
from marketplace.webhook_settings import allowed

env = environ.Env()
BASE_DIR = Path(__file__).resolve().parent.parent
MIN_KEY_CHARACTERS = 50  # as `check --deploy` asks

DATA_DIR = Path(env.str("DATA_DIR", default=str(BASE_DIR / "var"))).resolve()
DATA_DIR.mkdir(parents=True, exist_ok=True)
DEBUG = env.bool("DEBUG", default=False)
if DEBUG:
    crash_points.arm(env.str(crash_points.VARIABLE, default=""))
# A production site names its hosts; without that this is somebody's own machine.
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[])
PRODUCTION = env.bool("PRODUCTION", default=bool(ALLOWED_HOSTS))
HOST = env.str("HOST", default="127.0.0.1")
PORT = env.int("PORT", default=8000)
# The demo's accounts have known passwords: they are for a machine that nobody else reaches.
DEMO = env.bool("DEMO", default=not PRODUCTION and HOST in {"127.0.0.1", "::1", "localhost"})
# The one address whose word on the client's address and on TLS is believed: the proxy in front of `web`.
TRUSTED_PROXY = env.str("TRUSTED_PROXY", default="")


def _secret_key() -> str:
    """Returns SECRET_KEY, or one that is made once and kept with mode 0600 beside the data."""
    given: str = env.str("SECRET_KEY", default="")
    if given:
        return given
    path = DATA_DIR / "secret_key"
    if not path.exists():
        # Written aside and linked, so that of two first starts one wins and neither reads half a key.
        draft = DATA_DIR / f".secret_key.{os.getpid()}"
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(64))
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
        draft.unlink()
    return path.read_text().strip()


SECRET_KEY = _secret_key()
STORAGE_URL = env.str("STORAGE_URL", default=(DATA_DIR / "blobs").as_uri())


def _production_faults() -> list[str]:
    faults = []
    if DEBUG:
        faults.append("DEBUG must be off")
    if not env.str("SECRET_KEY", default=""):
        faults.append("SECRET_KEY must be set")
    elif len(SECRET_KEY) < MIN_KEY_CHARACTERS or SECRET_KEY.startswith("django-insecure"):
        faults.append(f"SECRET_KEY must have {MIN_KEY_CHARACTERS} random characters or more")
    if not ALLOWED_HOSTS or "*" in ALLOWED_HOSTS:
        faults.append("ALLOWED_HOSTS must name this site's hosts, not '*'")
    return faults


if PRODUCTION and (faults := _production_faults()):
    raise ImproperlyConfigured("Refusing to start in production: " + "; ".join(faults) + ".")
if not PRODUCTION:
    ALLOWED_HOSTS = [*ALLOWED_HOSTS, "localhost", "127.0.0.1", "[::1]", "testserver", HOST]

STORAGE_DIR, STORAGE_BUCKET = storage(STORAGE_URL, data_dir=DATA_DIR)
# Whether other machines may have the same blobs: a bucket, or a folder that was named.
STORAGE_IS_SHARED = bool(STORAGE_BUCKET) or not STORAGE_DIR.is_relative_to(DATA_DIR)
RUNS_DIR = Path(env.str("RUNS_DIR", default=str(DATA_DIR / "runs")))
SERVING_DIR = DATA_DIR / "serving"
PREDICTOR_DIR = DATA_DIR / "predictor"
EXAMPLES_DIR = DATA_DIR / "examples"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "csp",
    "django_filters",
    "django_htmx",
    "django_q",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "rest_framework",
    "marketplace",
    "marketplace.accounts",
    "marketplace.uploads",
    "marketplace.webhooks",
    "models_catalog",
    "finetuning",
]
MIDDLEWARE = [
    "marketplace.request_ids.RequestIds",
    "marketplace.metrics.TimedRequests",
    "marketplace.throttling.RateLimitHeaders",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "marketplace.shared_pages.SharedPages",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "allauth.usersessions.middleware.UserSessionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "marketplace.html.DomainErrorMiddleware",
]
ROOT_URLCONF = "marketplace.urls"
WSGI_APPLICATION = "marketplace.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "marketplace.accounts.inbox.unread",
            ],
            "builtins": ["marketplace.templatetags.market"],
        },
    },
]

DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{DATA_DIR / 'db.sqlite3'}")}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # IMMEDIATE and a long busy timeout: read-then-write transactions otherwise fail with "database is
    # locked"; FULL, because a paid-for run must survive a power cut.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;PRAGMA cache_size=-20000;",
    }
else:
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    # As long as SQLite waits: a transaction that was forgotten holds up no page for ever.
    DATABASES["default"].setdefault("OPTIONS", {}).setdefault("options", "-c lock_timeout=20s")
# To open a connection takes 1.6 ms of processor time on SQLite, as long as a dozen of its queries.
DATABASES["default"]["CONN_MAX_AGE"] = 60
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# `default` holds what must survive a restart and be shared, allauth's login counters above all: it must not be
# culled at Django's 300 entries. `throttles` is written at every call of the API, too often for a database
# that syncs each write; `up` runs one web process, so that its memory is shared by all who ask. Several web
# processes share them by CACHE_URL.
_MAX_ENTRIES = {"MAX_ENTRIES": 100_000}
if cache_url := env.str("CACHE_URL", default=""):
    _redis = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": cache_url}
    CACHES = {"default": _redis, "throttles": {**_redis, "KEY_PREFIX": "throttles"}}
else:
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.db.DatabaseCache",
            "LOCATION": "cache",
            "OPTIONS": _MAX_ENTRIES,
        },
        "throttles": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "LOCATION": "throttles",
            "OPTIONS": _MAX_ENTRIES,
        },
    }

# Public pages as they were made for one who is not signed in. Each process has its own: the database tells each of them
# when they are out of date, so that they need not be shared.
PAGE_CACHE_SECONDS = env.int("PAGE_CACHE_SECONDS", default=60)
CACHES["pages"] = {
    "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
    "LOCATION": "pages",
    "OPTIONS": {"MAX_ENTRIES": 300},
}

BROKER_URL = env.str("BROKER_URL", default="")
RUN_DEADLINE_SECONDS = env.int("RUN_DEADLINE_SECONDS", default=6 * 3600)
# The engine tells of its progress several times a second; what it does in silence takes minutes at most.
RUN_STALL_SECONDS = env.int("RUN_STALL_SECONDS", default=1800)
DRAIN_SECONDS = env.float("DRAIN_SECONDS", default=15.0)
Q_CLUSTER = q_cluster(
    slot=env.str("Q_CLUSTER_NAME", default="fast"), broker_url=BROKER_URL, run_deadline_seconds=RUN_DEADLINE_SECONDS
)

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_ADAPTER = "marketplace.accounts.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email*", "password1*", "password2*"]
ACCOUNT_USERNAME_MIN_LENGTH = 2
# "mandatory" once the site can really send mail; a machine of one's own prints it instead.
ACCOUNT_EMAIL_VERIFICATION = env.str("EMAIL_VERIFICATION", default="optional")
ACCOUNT_LOGOUT_ON_GET = False
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes", "webauthn"]
if email_url := env.str("EMAIL_URL", default=""):
    vars().update(env.email_url_config(email_url))
else:
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    EMAIL_FILE_PATH = DATA_DIR / "mail"
EMAIL_TIMEOUT = 10  # seconds; the slot that sends has other work
# Where links in emails lead: nobody's request is there to ask.
SITE_URL = env.str(
    "SITE_URL", default=f"https://{ALLOWED_HOSTS[0].lstrip('.')}" if PRODUCTION else f"http://{HOST}:{PORT}"
)
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="marketplace@localhost")

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English")]
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(DATA_DIR / "media")},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
# Uploads go to a file on the data disk from the first byte, never to memory.
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.TemporaryFileUploadHandler"]
FILE_UPLOAD_TEMP_DIR = DATA_DIR / "uploads"
FILE_UPLOAD_TEMP_DIR.mkdir(parents=True, exist_ok=True)
MAX_UPLOAD_BYTES = env.int("MAX_UPLOAD_BYTES", default=2 * 2**30)
MAX_ARTIFACT_BYTES = env.int("MAX_ARTIFACT_BYTES", default=20 * 2**30)
# What people send leaves so much of the disk to the database and to what runs write.
MIN_FREE_DISK_BYTES = env.int(
    "MIN_FREE_DISK_BYTES", default=min(2**30, shutil.disk_usage(FILE_UPLOAD_TEMP_DIR).total // 50)
)
MAX_REBUILDS = env.int("MAX_REBUILDS", default=2)
# Of one account: sent, or promised by an upload in pieces, and named by no release yet.
MAX_UNCOMMITTED_BYTES = env.int("MAX_UNCOMMITTED_BYTES", default=10 * MAX_ARTIFACT_BYTES)
LFS_PART_BYTES = env.int("LFS_PART_BYTES", default=256 * 2**20)
MAX_IMAGE_BYTES = 20 * 2**20

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "connect-src": [SELF],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
HTTPS = env.bool("HTTPS", default=PRODUCTION)
# No SECURE_PROXY_SSL_HEADER: the web server itself believes TRUSTED_PROXY, and nobody else.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics)$"]  # asked by this machine and by load balancers, without TLS
if HTTPS:
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
CSRF_TRUSTED_ORIGINS = [f"https://{host}" for host in ALLOWED_HOSTS if PRODUCTION]

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "marketplace.accounts.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["marketplace.rest.HasScope", "marketplace.rest.WithinReach"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["marketplace.inputs.JsonBody"],
    "DEFAULT_SCHEMA_CLASS": "marketplace.schema.Schema",
    "DEFAULT_PAGINATION_CLASS": "marketplace.rest.CursorPagination",
    "PAGE_SIZE": 20,
    "EXCEPTION_HANDLER": "marketplace.rest.exception_handler",
    "DEFAULT_THROTTLE_CLASSES": ["marketplace.throttling.CallLimit"],
    "NUM_PROXIES": 0,  # the client's address is the web server's word, never a header's
}
try:
    # By address: of those who are not signed in, and of calls that show a secret in the place of signing in.
    RATE_LIMITS = {
        "anonymous": rate(env.str("RATE_LIMIT_ANONYMOUS", default="120/min")),
        "credentials": rate(env.str("RATE_LIMIT_CREDENTIALS", default="30/min")),
        "license_key": rate(env.str("RATE_LIMIT_LICENSE_KEY", default="60/min")),
    }
    # Of each token, by its owner's plan.
    RATE_LIMIT_PLANS = plans(
        env.list("RATE_LIMIT_PLANS", default=[]), standard=rate(env.str("RATE_LIMIT_USER", default="1200/min"))
    )
except ValueError as error:
    raise ImproperlyConfigured(f"A limit of calls cannot be read: {error}.") from error
SPECTACULAR_SETTINGS = {
    "TITLE": "Model marketplace API",
    "VERSION": "1",
    "DESCRIPTION": "License models, upload datasets, fine-tune, evaluate and publish. See docs/api.md.",
    "SERVE_INCLUDE_SCHEMA": False,
    "OAS_VERSION": "3.1.1",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "marketplace.schema.with_problem",
        "marketplace.schema.with_sparse_answers",
        "marketplace.api_examples.with_examples",
    ],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "ENUM_NAME_OVERRIDES": {
        "TaskEnum": "models_catalog.models.listings.TASKS",
        "GrantStateEnum": "models_catalog.models.licensing.GrantState",
        "EstimateStatusEnum": "finetuning.models.estimates.EstimateStatus",
        "MessageStatusEnum": "marketplace.webhooks.models.MessageStatus",
        "SubjectEnum": "models_catalog.models.moderation.SUBJECTS",
        "OfferEnum": "models_catalog.presets.OFFER_KEYS",
        "StrategyEnum": "finetuning.api.serializers.STRATEGY_NAMES",
        "DataLicenseEnum": "finetuning.services.datasets.LICENSE_KEYS",
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}
# Card payments: offered where both secrets are set. The address is Stripe's own but in tests.
STRIPE_SECRET_KEY = env.str("STRIPE_SECRET_KEY", default="")
STRIPE_WEBHOOK_SECRET = env.str("STRIPE_WEBHOOK_SECRET", default="")
STRIPE_API_BASE = env.str("STRIPE_API_BASE", default="https://api.stripe.com")
# Receivers of webhooks beside public ones, which alone are told without it.
try:
    WEBHOOK_ALLOW = allowed(env.list("WEBHOOK_ALLOW", default=[]))
except ValueError as error:
    raise ImproperlyConfigured(f"WEBHOOK_ALLOW has networks, addresses and names of hosts: {error}.") from error
# What this site keeps of each paid order, in hundredths of a percent of the price.
SITE_FEE_BPS = env.int("SITE_FEE_BPS", default=0)
if not 0 <= SITE_FEE_BPS <= 10_000:  # noqa: PLR2004 - the whole, in basis points
    raise ImproperlyConfigured("SITE_FEE_BPS must be from 0 to 10000.")
# Limits of one account; a person can see them in the error that cites them.
MAX_ACTIVE_RUNS = env.int("MAX_ACTIVE_RUNS", default=4)
# Hours of compute a calendar month, 0 for no limit; the staff set others for one namespace in the admin.
COMPUTE_HOURS_PER_MONTH = env.int("COMPUTE_HOURS_PER_MONTH", default=0)
ORGANIZATION_COMPUTE_HOURS_PER_MONTH = env.int("ORGANIZATION_COMPUTE_HOURS_PER_MONTH", default=0)
COMPUTE_PRICE_MINOR_PER_HOUR = env.int("COMPUTE_PRICE_MINOR_PER_HOUR", default=0)
COMPUTE_CURRENCY = env.str("COMPUTE_CURRENCY", default="EUR")
if COMPUTE_PRICE_MINOR_PER_HOUR < 0:
    raise ImproperlyConfigured("COMPUTE_PRICE_MINOR_PER_HOUR must not be negative.")
MAX_DATASETS = env.int("MAX_DATASETS", default=200)
# Signs receipts and license files; machines of one site share it.
SIGNING_KEY_FILE = Path(env.str("SIGNING_KEY_FILE", default=str(DATA_DIR / "receipts.pem")))
MAX_OPEN_UPLOADS = env.int("MAX_OPEN_UPLOADS", default=20)
# Where the kernel cannot confine the engine: refuse to work, or do without and say so in /healthz.
SANDBOX = env.str("SANDBOX", default="required" if PRODUCTION else "degraded")
if SANDBOX not in {"required", "degraded"}:
    raise ImproperlyConfigured("SANDBOX must be required or degraded.")
ENGINE_MEMORY_BYTES = env.int("ENGINE_MEMORY_BYTES", default=0)
ENGINE_FILE_BYTES = env.int("ENGINE_FILE_BYTES", default=64 * 2**30)
ENGINE_THREADS = env.int("ENGINE_THREADS", default=0)
ENGINE_WARM_SECONDS = env.float("ENGINE_WARM_SECONDS", default=300.0)
_DAY_SECONDS = 86_400.0
if not 0 <= ENGINE_WARM_SECONDS <= _DAY_SECONDS:
    raise ImproperlyConfigured("ENGINE_WARM_SECONDS must be from 0, never, to 86400, a day.")

# Who may read /metrics; without it only this machine, and in production nobody.
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")

LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
LOG_FORMAT = env.str("LOG_FORMAT", default="plain")
if LOG_FORMAT not in {"plain", "json"}:
    raise ImproperlyConfigured("LOG_FORMAT must be plain or json.")
LOGGING = logging_config(style=LOG_FORMAT, level=LOG_LEVEL)
if SENTRY_DSN := env.str("SENTRY_DSN", default=""):
    error_reports.start(
        SENTRY_DSN,
        environment=env.str("SENTRY_ENVIRONMENT", default="production" if PRODUCTION else "development"),
        release=env.str("SENTRY_RELEASE", default=""),
    )
