"""The product's settings with a data directory of the test run's own: one for each worker of pytest-xdist."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

_folder = tempfile.mkdtemp(prefix="marketplace-test-")
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
os.environ["DATA_DIR"] = _folder
for name in ("ALLOWED_HOSTS", "SECRET_KEY", "DATABASE_URL", "BROKER_URL", "CACHE_URL", "STORAGE_URL", "PRODUCTION"):
    os.environ.pop(name, None)
for name in ("STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "SITE_FEE_BPS", "SITE_URL", "WEBHOOK_ALLOW"):
    os.environ.pop(name, None)
# The same tests on another database; each run of the suite has one of its own there, which Django removes.
if _url := os.environ.get("TEST_DATABASE_URL"):
    os.environ["DATABASE_URL"] = _url
if _broker := os.environ.get("TEST_BROKER_URL"):
    # One of Redis' numbered databases for each worker of pytest-xdist: gw0, gw1, ...
    _server, _, _number = _broker.rpartition("/")
    _worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    os.environ["BROKER_URL"] = f"{_server}/{int(_number) + int(_worker)}"

# One thread for each process, those that the product starts included: the workers share the processors already,
# and threads that wait for one another on a busy machine cost more than they give. Read when torch is loaded.
os.environ["OMP_NUM_THREADS"] = os.environ["ENGINE_THREADS"] = "1"

from marketplace.settings import *  # noqa: E402, F403

# A file, as in production: threads and processes of a test then meet SQLite's real locks.
_name = f"test_market_{os.getpid()}" if _url else os.path.join(_folder, "test.sqlite3")
DATABASES["default"]["TEST"] = {"NAME": _name}  # noqa: F405
if not _url:
    # No test cuts the power. The running product keeps FULL, and its tests meet it.
    _options = DATABASES["default"]["OPTIONS"]  # noqa: F405
    _options["init_command"] = _options["init_command"].replace("synchronous=FULL", "synchronous=OFF")
else:
    DATABASES["default"]["OPTIONS"]["options"] += " -c synchronous_commit=off"  # noqa: F405
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
_memory = "django.core.cache.backends.locmem.LocMemCache"
CACHES = {alias: {"BACKEND": _memory, "LOCATION": alias} for alias in ("default", "throttles", "pages")}
# All tests of a worker ask from one address, and many of them as nobody.
RATE_LIMITS["anonymous"] = RATE_LIMITS["anonymous"].times(1000)  # noqa: F405
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
if os.environ.get("RECORD_EXAMPLES"):
    MIDDLEWARE = [*MIDDLEWARE, "exchanges.middleware"]  # noqa: F405
