"""Every call of the schema shows what was really sent and answered (recorded: CONTRIBUTING.md)."""

from __future__ import annotations

import api_calls

from marketplace.api_examples import examples


def test_every_call_has_an_example_that_fits_it_and_no_example_is_of_a_call_that_is_gone() -> None:
    calls, recorded = api_calls.declared(), examples()

    faults = [f"{name} {fault}" for name, call in calls.items() for fault in call.faults(recorded.get(name, {}))]
    gone = sorted(recorded.keys() - calls.keys())
    assert (faults, gone) == ([], []), "Record again: see CONTRIBUTING.md"
