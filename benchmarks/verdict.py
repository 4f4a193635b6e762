"""The verdict over a lineage: how long it takes to judge an offer by a thousand ancestors, on one core.

`python -m benchmarks verdict [--ancestors N] [--repeats N]`. The lineage is drawn with a fixed seed: every model has two
parents, so that ways meet again, and terms of its own after one of five presets. Database reads are not part of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import statistics
import time

from models_catalog.presets import PRESETS
from models_catalog.verdict import Edge, Lineage, Node, effective, judge_offer

LIMIT_MS = 10.0
KEYS = ("mit", "apache-2.0", "cc-by-4.0", "cc-by-nc-4.0", "bigscience-openrail-m")
NEARBY = 20


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks verdict")
    parser.add_argument("--ancestors", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args(arguments)
    lineage = drawn(options.ancestors)
    bound = effective(lineage, "child")
    verdict = judge_offer(bound, bound.limit)
    taken = [_seconds(lineage) * 1000 for _ in range(options.repeats)]
    facts = {
        "ancestors": len({row.node.key for row in bound.ancestors}),
        "generations": max(row.generations for row in bound.ancestors),
        "outcome": verdict.outcome.value,
        "obligations": len(verdict.obligations),
        "median_ms": round(statistics.median(taken), 2),
        "best_ms": round(min(taken), 2),
        "limit_ms": LIMIT_MS,
    }
    print("\nThe verdict over a lineage, processor time of one core\n")
    for name, value in facts.items():
        print(f"{name:14} {value:>28}")
    print()
    print(json.dumps(facts))


def drawn(count: int) -> Lineage:
    """Returns a lineage in which the child has `count` ancestors."""
    rng = random.Random(7)  # noqa: S311 - the same lineage each time
    nodes, edges = {}, {"child": [Edge("0")]}
    for number in range(count):
        preset = PRESETS[KEYS[number % len(KEYS)]]
        terms = dataclasses.replace(preset, attribution_text=f"Made by vendor {number}", rights=dict(preset.rights))
        nodes[str(number)] = Node(str(number), f"vendor{number}/net@1.0", terms)
        above = range(number + 1, min(number + NEARBY, count))
        parents = {number + 1, rng.choice(above)} if above else set()
        edges[str(number)] = [Edge(str(parent)) for parent in sorted(parents)]
    return Lineage(nodes, edges)


def _seconds(lineage: Lineage) -> float:
    started = time.process_time()
    bound = effective(lineage, "child")
    judge_offer(bound, bound.limit)
    return time.process_time() - started
