"""The form of what a run tries before it trains, beside the fine-tune form of forms.py."""

from __future__ import annotations

import dataclasses
from typing import Any

from django import forms

from finetuning.engine import titles
from finetuning.engine.spec import MAX_TRIALS, STRATEGIES, Hyper, SearchMode, Strategy, Task, search_space
from finetuning.services.searches import DEFAULT_SPACE, DEFAULT_TRIALS, NONE, Wish, default_minutes

_MODES = {
    NONE: ("No, train once", "With the settings above."),
    SearchMode.SEARCH.value: ("Search", "Trials of the chosen strategy, each learning from the ones before it."),
    SearchMode.RACE.value: (
        "Race",
        "Several strategies start, whatever is chosen above; the best third goes on, twice.",
    ),
}
_RACERS = (Strategy.HEAD, Strategy.LAST, Strategy.FULL)  # ticked at first


class SearchForm(forms.Form):
    """Field names are those of the service's errors."""

    mode = forms.ChoiceField(
        choices=[(key, title) for key, (title, _) in _MODES.items()],
        initial=NONE,
        required=False,
        widget=forms.RadioSelect,
    )
    trials = forms.IntegerField(
        min_value=1,
        max_value=MAX_TRIALS,
        initial=DEFAULT_TRIALS,
        required=False,
        label="Trials",
        help_text="The first ones are the settings above. More trials find more, and flatter the winner's score more.",
    )
    minutes = forms.IntegerField(
        min_value=1,
        required=False,
        label="Minutes for the trials",
        help_text="The trials end after the epoch in which it runs out; the training with the winner's settings follows.",
    )
    strategies = forms.MultipleChoiceField(
        required=False, widget=forms.CheckboxSelectMultiple, label="Strategies of a race"
    )
    space = forms.MultipleChoiceField(
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label="Settings to vary",
        help_text="From the strategy's own default on: what stands above for them is not used.",
    )

    def __init__(self, posted: Any, *, task: Task) -> None:
        suited = STRATEGIES[task]
        racers = [strategy.value for strategy in suited if strategy in _RACERS]
        super().__init__(
            posted, initial={"strategies": racers, "space": list(DEFAULT_SPACE), "minutes": default_minutes()}
        )
        known = {name for strategy in suited for name in search_space(task, strategy)}
        varied = [(entry.name, entry.metadata["label"]) for entry in dataclasses.fields(Hyper) if entry.name in known]
        named = [(strategy.value, titles.STRATEGIES[strategy]) for strategy in suited]
        self.fields["strategies"].choices = named  # type: ignore[attr-defined]  # MultipleChoiceField's
        self.fields["space"].choices = varied  # type: ignore[attr-defined]  # MultipleChoiceField's

    def mode_cards(self) -> list[tuple[Any, str]]:
        """Returns (radio button, what it does)."""
        return [(radio, _MODES[radio.data["value"]][1]) for radio in self["mode"]]

    @property
    def wish(self) -> Wish | None:
        """Returns what was asked for; None for a training alone."""
        given = self.cleaned_data
        if given["mode"] in ("", NONE):
            return None
        mode = SearchMode(given["mode"])
        return Wish(
            mode=mode,
            trials=given["trials"] or DEFAULT_TRIALS,
            minutes=given["minutes"] or 0,
            strategies=tuple(given["strategies"]) if mode is SearchMode.RACE else (),
            space=tuple(given["space"]),
        )
