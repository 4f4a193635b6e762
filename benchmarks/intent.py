"""The catalog's search by intent over many listings, on one core: what is allowed, how many, and why not.

`python -m benchmarks intent [--listings N] [--repeats N]` fills a database of its own, in a temporary directory, with
listings under terms of as many names and prices, then answers what the catalog's page asks of the database: the first
page of what allows the intents, both counts, and the first page of what does not, with its reasons.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from itertools import product
from typing import Any

LIMIT_MS = 150.0
PAGE, EXCLUDED = 24, 10
QUERIES = {
    "sell a product": ["sell_product"],
    "publish, 5,000 users, Germany": ["fine_tune", "publish_derivative", "users:5000", "country:DE"],
    "sell derivatives in medicine": ["sell_derivative", "field:medical_advice"],
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks intent")
    parser.add_argument("--listings", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="intent-") as folder:
        os.environ |= {"DJANGO_SETTINGS_MODULE": "marketplace.settings", "DATA_DIR": folder}
        import django  # noqa: PLC0415 - after its settings are known

        django.setup()
        _fill(options.listings)
        _report(options.listings, options.repeats)


def _fill(count: int) -> None:
    """Writes rows in bulk, past the services: 10,000 publications through them take minutes."""
    from django.core.management import call_command  # noqa: PLC0415 - as above
    from django.utils import timezone  # noqa: PLC0415

    from marketplace.accounts.models import Namespace, User  # noqa: PLC0415
    from models_catalog.models import Listing, Release  # noqa: PLC0415
    from models_catalog.services.licensing import terms_row  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    user = User.objects.create_user("vendor", "vendor@example.com")
    owner = Namespace.objects.create(name="vendor", user=user)
    rows = [terms_row(terms) for terms in _terms()]
    made = Listing.objects.bulk_create(
        Listing(
            namespace=owner,
            name=f"net{number}",
            title=f"Net {number}",
            task="image-classification",
            framework="timm",
            architecture="resnet18",
        )
        for number in range(count)
    )
    now = timezone.now()
    releases = Release.objects.bulk_create(
        Release(
            listing=listing,
            version="1.0",
            status="published",
            terms=rows[number % len(rows)],
            manifest_sha256=f"{number:064x}",
            published_at=now,
        )
        for number, listing in enumerate(made)
    )
    for listing, release in zip(made, releases, strict=True):
        listing.latest_release = release
    Listing.objects.bulk_update(made, ["latest_release"], batch_size=500)


def _terms() -> list[Any]:
    """Every preset and template under 100 prices and names, with and without a cap and a closed country."""
    from models_catalog.presets import OFFERS  # noqa: PLC0415

    narrowed: list[dict[str, Any]] = [{}, {"max_monthly_users": 1000}, {"denied_territories": ("DE",)}]
    return [
        dataclasses.replace(terms, name=f"{terms.name} {number}", license_id="other", price_minor=number, **changes)
        for terms, changes, number in product(OFFERS.values(), narrowed, range(40))
    ]


def _report(count: int, repeats: int) -> None:
    from models_catalog.models import ClauseSet, LicenseTerms  # noqa: PLC0415

    facts: dict[str, Any] = {
        "listings": count,
        "terms": LicenseTerms.objects.count(),
        "clause_sets": ClauseSet.objects.count(),
        "limit_ms": LIMIT_MS,
    }
    print(f"\nSearch by intent over {count:,} listings, processor time of one core\n")
    print(f"{'':32} {'allowed':>9} {'left out':>9} {'median ms':>10} {'best ms':>9}")
    for name, stated in QUERIES.items():
        allowed, left_out = _search(stated)
        taken = [_milliseconds(stated) for _ in range(repeats)]
        median, best = round(statistics.median(taken), 1), round(min(taken), 1)
        print(f"{name:32} {allowed:>9} {left_out:>9} {median:>10} {best:>9}")
        facts[name] = {"allowed": allowed, "left_out": left_out, "median_ms": median, "best_ms": best}
    print()
    print(json.dumps(facts))
    sys.stdout.flush()


def _milliseconds(stated: list[str]) -> float:
    started = time.process_time()
    _search(stated)
    return (time.process_time() - started) * 1000


def _search(stated: list[str]) -> tuple[int, int]:
    from django.contrib.auth.models import AnonymousUser  # noqa: PLC0415

    from models_catalog import intents, selectors  # noqa: PLC0415
    from models_catalog.intent_search import judge  # noqa: PLC0415

    judged = judge(intents.read(stated))
    rows = selectors.catalog(AnonymousUser())
    found = selectors.order_catalog(judged.allowing(rows), "newest")
    shown = selectors.catalog_page(found, size=PAGE, number="1")
    left_out = selectors.order_catalog(judged.excluded(rows), "newest")
    told = selectors.catalog_page(left_out, size=EXCLUDED, number="1")
    for listing in told:
        judged.explain(listing)
    return shown.paginator.count, told.paginator.count
