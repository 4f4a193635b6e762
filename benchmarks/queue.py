"""A full queue: whether every run ends once, and what the queue adds to a run's start.

`python -m benchmarks queue [--runs N] [--workers N]` starts the product, launches tiny runs over the API and lets the
workers empty the queue. The queue's own share is, between two runs of one worker, the time from the end of the first to
the `started` of the next one's engine, less what the same engine takes to say so when it is started by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import product
from benchmarks.processes import ROOT

LIMIT_MS = 100.0
SECONDS_A_RUN = 60.0  # at most, of one worker
STARTS = 10  # by hand


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks queue", description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="queue-") as folder:
        changes = {"MAX_ACTIVE_RUNS": str(options.runs), "RATE_LIMIT_USER": "100000/min"}
        with product.running(Path(folder), workers=options.workers, **changes) as world:
            began = time.monotonic()
            promised = [world.launch(strategy="head", hyper={"seed": number}) for number in range(options.runs)]
            launched = time.monotonic()
            from finetuning.models import Run  # noqa: PLC0415 - after the settings are known
            from finetuning.models.runs import ACTIVE  # noqa: PLC0415 - as above

            patience = SECONDS_A_RUN * options.runs / options.workers
            product.wait(lambda: not Run.objects.filter(status__in=ACTIVE).exists(), seconds=patience)
            emptied = time.monotonic()
        own = _own_start(Path(folder))
        _report(promised, own, launching=launched - began, emptying=emptied - began, workers=options.workers)


def _report(promised: list[str], own: float, *, launching: float, emptying: float, workers: int) -> None:
    from finetuning.models import Attempt, Run  # noqa: PLC0415 - as above

    statuses = Counter(Run.objects.values_list("status", flat=True))
    known = {str(uid) for uid in Run.objects.filter(status="succeeded").values_list("uid", flat=True)}
    lost = len(set(promised) - known)
    succeeded = Counter(Attempt.objects.filter(run__isnull=False, outcome="succeeded").values_list("run", flat=True))
    doubled = sum(count > 1 for count in succeeded.values()) + max(0, Run.objects.count() - len(promised))
    claims, starts = _gaps()
    added = [1000 * (claim + start - own) for claim, start in zip(claims, starts, strict=True)]
    figures: dict[str, Any] = {
        "runs": len(promised),
        "workers": workers,
        "lost": lost,
        "doubled": doubled,
        "attempts": Attempt.objects.filter(run__isnull=False).count(),
        "launch_ms": round(1000 * launching / len(promised), 1),
        "runs_a_minute": round(60 * len(promised) / emptying, 1),
        "engine_start_ms": round(1000 * own, 1),
        "claim_ms": round(1000 * statistics.median(claims), 1),
        "added_ms": round(statistics.median(added), 1),
        "added_p95_ms": round(sorted(added)[int(0.95 * (len(added) - 1))], 1),
        "limit_ms": LIMIT_MS,
        "load": round(os.getloadavg()[0], 1),  # above the number of processors, times are others' too
    }
    print(f"\n{len(promised)} runs, {workers} workers: {dict(statuses)}\n")
    for name, value in figures.items():
        print(f"{name:20} {value:>10}")
    is_met = not lost and not doubled and figures["added_ms"] < LIMIT_MS
    print(f"\n{'Met' if is_met else 'Missed'}: none lost, none doubled, less than {LIMIT_MS:.0f} ms added.\n")
    print(json.dumps({**figures, "is_met": is_met}))


def _gaps() -> tuple[list[float], list[float]]:
    """Returns, for each run that followed another in one worker, the seconds from that one's end to the claim, and
    from the claim to the engine's first word."""
    from finetuning.models import Attempt, RunEvent  # noqa: PLC0415 - as above

    spoke = {
        (run, attempt): at
        for run, attempt, at in RunEvent.objects.filter(kind="started", verb="train").values_list(
            "run", "attempt", "at"
        )
    }
    claims, starts = [], []
    before: dict[str, Any] = {}
    for one in Attempt.objects.filter(run__isnull=False).order_by("started_at"):
        earlier, said = before.get(one.slot), spoke.get((one.run_id, one.number))
        if earlier is not None and said is not None:
            claims.append((one.started_at - earlier).total_seconds())
            starts.append((said - one.started_at).total_seconds())
        before[one.slot] = one.ended_at
    return claims, starts


def _own_start(folder: Path) -> float:
    """Returns the median seconds from starting an engine by hand to its first word."""
    taken = []
    for number in range(STARTS):
        run_dir = folder / f"by-hand-{number}"
        run_dir.mkdir()
        began = time.time()
        command = [sys.executable, "-P", "-m", "finetuning.engine", "train", str(run_dir)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        # There is no spec: it says `started` before it looks for one.
        subprocess.run(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL, check=False)
        told = (run_dir / "events.jsonl").read_text(encoding="utf-8").splitlines()
        taken.append(json.loads(told[0])["at"] - began)
    return statistics.median(taken)
