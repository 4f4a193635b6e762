"""All accuracy floors, one after the other, each a process of its own: its table, and one line of JSON in the end."""

from __future__ import annotations

import argparse
import json

from benchmarks.processes import peer

NAMES = ("floor_digits", "floor_fashion", "floor_text", "floor_detection", "floor_segmentation")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks floors", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, help="run some of them")
    options = parser.parse_args(arguments)
    found = {}
    for name in options.only:
        measured = peer("benchmarks", name)
        found[name] = {**measured.result, "meets": meets(measured.result), "all_seconds": measured.seconds}
        print(f"{name:20} {'meets' if found[name]['meets'] else 'MISSES':7} {measured.seconds:7.1f} s", flush=True)
    print(json.dumps({"floors": found, "meets": all(entry["meets"] for entry in found.values())}))


def meets(result: dict[str, object]) -> bool:
    """Reads what each floor says of itself."""
    floor = result.get("floor")
    reached = floor.get("reached") if isinstance(floor, dict) else None
    return bool(next(said for said in (result.get("meets"), result.get("passed"), reached) if said is not None))
