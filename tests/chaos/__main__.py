"""`python -m chaos --seed 1 --faults 100`: see `make chaos`. The last line is one JSON object; exit 1 where a rule was
broken."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from chaos.disk import small_disk
from chaos.saying import say

SETTLE_SECONDS = 600
PAUSE_SECONDS = (0.3, 2.5)
PATIENCE_SECONDS = 90.0  # for the product to be whole again, before the next fault comes all the same
CALM_SHARE = 0.7  # of the faults wait until the one before is overcome; the others strike into the recovery
ENVIRONMENT = {
    "MAX_ACTIVE_RUNS": "50",
    "RATE_LIMIT_USER": "100000/min",
    "ENGINE_THREADS": "1",
    "ENGINE_CHECKPOINT_SECONDS": "0.5",
    "LOG_LEVEL": "INFO",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--busy", type=int, default=4, help="runs that are on their way all the time")
    parser.add_argument("--epochs", type=int, default=0, help="of each run; default: enough to be hit at work")
    parser.add_argument("--only", default="", help="faults whose names hold this text")
    parser.add_argument("--database-url", default="", help="an empty PostgreSQL database; default: SQLite")
    parser.add_argument("--broker-url", default="", help="a Redis database; default: the database")
    parser.add_argument("--keep", type=Path, help="a folder for the data, which stays")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    changes = {**ENVIRONMENT, "DATABASE_URL": options.database_url, "BROKER_URL": options.broker_url}
    changes = {name: value for name, value in changes.items() if value}
    os.environ.update({"DATA_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "marketplace.settings", **changes})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # whoever ends this leaves no product behind
    with small_disk(folder):
        return _told(_run(folder, options, changes))


def _run(folder: Path, options: argparse.Namespace, changes: dict[str, str]) -> dict[str, Any]:
    from chaos.product import Product, strays  # noqa: PLC0415 - settings.py reads the environment when it is imported

    started = time.monotonic()
    product = Product(folder, **changes)
    product.start()
    try:
        figures = _under_faults(product, options)
    finally:
        code = product.stop()
    orphans = [process.command for process in strays(folder)]
    figures["orphans"] = len(orphans)
    figures["broken"] += [f"left behind: {command}" for command in orphans]
    figures["broken"] += [f"`up` ended with {code}"] if code else []
    return {**figures, "seed": options.seed, "seconds": round(time.monotonic() - started)}


def _under_faults(product: Any, options: argparse.Namespace) -> dict[str, Any]:
    import django  # noqa: PLC0415

    django.setup()
    from django.db import connections  # noqa: PLC0415

    from chaos import faults, invariants, sending, watching, world  # noqa: PLC0415
    from finetuning.models import Run  # noqa: PLC0415
    from finetuning.models.runs import ACTIVE  # noqa: PLC0415

    token, dataset = world.build()
    buyer = world.Buyer(product, token, dataset, options.busy, options.epochs or world.EPOCHS)
    sender = sending.Sender(product, token)
    watch = watching.Watch(product)
    over = threading.Event()
    targets = [(watch.run, ()), (_launch, (buyer, over)), (sender.run, ())]
    threads = [threading.Thread(target=target, args=given) for target, given in targets]
    for thread in threads:
        thread.start()
    struck = Counter[str]()
    try:
        struck = _strike(product, watch, options, faults)
        over.set()
        threads[1].join()
        connections.close_all()  # the last fault may have cut our own
        _settle(lambda: not Run.objects.filter(status__in=ACTIVE).exists() and not watch.is_waiting)
    finally:
        over.set()
        watch.stop()
        sender.over.set()
        for thread in threads:
            thread.join()
    rows = Run.objects.all()
    lost, doubled = invariants.lost(buyer.promised), invariants.doubled()
    return {
        "faults": sum(struck.values()),
        "runs": rows.count(),
        "succeeded": rows.filter(status="succeeded").count(),
        "failed": rows.filter(status="failed").count(),
        "lost": len(lost),
        "doubled": len(doubled),
        "uploads": sender.whole,
        "attempts": max((run.attempts.count() for run in rows), default=0),
        "recovery_p50_s": round(watching.quantile(watch.recovered, 0.5), 1),
        "recovery_p95_s": round(watching.quantile(watch.recovered, 0.95), 1),
        "recovery_max_s": round(max(watch.recovered, default=0.0), 1),
        "kinds": dict(sorted(struck.items())),
        "broken": [*lost, *doubled, *invariants.broken(), *buyer.refused, *sender.refused],
    }


def _strike(product: Any, watch: Any, options: argparse.Namespace, faults: Any) -> Counter[str]:
    draw = random.Random(options.seed)
    kinds = [fault for fault in faults.all_of(product, draw) if options.only in fault.name]
    struck = Counter[str]()
    while sum(struck.values()) < options.faults:
        time.sleep(draw.uniform(*PAUSE_SECONDS))
        deadline = time.monotonic() + (PATIENCE_SECONDS if draw.random() < CALM_SHARE else 0)
        while watch.is_waiting and time.monotonic() < deadline:
            time.sleep(0.1)
        fault = draw.choices(kinds, [kind.weight for kind in kinds])[0]
        began = time.monotonic()
        if hit := fault.strike():
            watch.struck(fault.name, began)
            struck[fault.name] += 1
            say(f"{sum(struck.values()):4d} {fault.name}: {hit}")
    return struck


def _launch(buyer: Any, over: threading.Event) -> None:
    while not over.wait(0.5):
        if not buyer.is_busy():
            buyer.launch()


def _settle(is_over: Any) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while not is_over() and time.monotonic() < deadline:
        time.sleep(0.5)


def _told(figures: dict[str, Any]) -> int:
    broken = figures.pop("broken")
    for breach in broken:
        say(f"BROKEN {breach}")
    say(json.dumps({**figures, "broken": len(broken)}))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
