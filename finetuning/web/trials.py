"""The trials of a run's search, as its page shows them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, get_type_hints

from finetuning import selectors
from finetuning.engine import headlines, titles
from finetuning.engine.spec import Hyper, SearchMode, Strategy
from finetuning.models import Run

_FIELDS = Hyper.__dataclass_fields__
_ENDINGS = {
    "": "Under way",
    "finished": "Finished",
    "pruned": "Stopped: others were better",
    "budget": "The budget was used up",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One trial; `score` and `loss` are text, a dash where there is none yet."""

    number: int
    strategy: str
    values: str
    loss: str
    score: str
    epochs: int
    seconds: float
    ended: str
    is_winner: bool


def page(run: Run) -> dict[str, Any] | None:
    """Returns what the run's page says of its search, or None where none was asked for."""
    if not run.search:
        return None
    tried, found = selectors.trials_of(run), run.searched
    winner = found["winner"]["trial"] if found else None
    _, title = headlines.named(run.task, _scores(tried))
    return {
        "is_race": run.search["mode"] == SearchMode.RACE,
        "is_live": not found and not run.is_terminal,
        "score_title": title,
        "compared_by": title if run.task in headlines.CHOSEN_BY_HEADLINE else "loss",
        "rows": [_row(run, trial, is_winner=trial["trial"] == winner) for trial in tried],
        "planned": run.search["trials"],
        "budget_seconds": run.search["budget_seconds"],
        "varied": ", ".join(_FIELDS[name].metadata["label"].lower() for name in run.search["space"]),
        "winner": winner,
        "caution": found.get("caution", ""),
    }


def _scores(tried: list[dict[str, Any]]) -> dict[str, Any]:
    return next((trial["validation"] for trial in tried if trial["validation"]), {})


def _row(run: Run, trial: dict[str, Any], *, is_winner: bool) -> Row:
    scores = trial["validation"]
    score, loss = scores.get(headlines.named(run.task, scores)[0]), scores.get("loss")
    return Row(
        number=trial["trial"],
        strategy=titles.STRATEGIES[Strategy(trial["strategy"])],
        values=", ".join(
            f"{_FIELDS[name].metadata['label']} {_plain(name, value)}" for name, value in trial["values"].items()
        )
        or "its defaults",
        loss="–" if loss is None else f"{loss:.4f}",
        score="–" if score is None else f"{score:.1%}",
        epochs=trial["epochs"],
        seconds=trial["seconds"],
        ended=_ENDINGS[trial["ended"]],
        is_winner=is_winner,
    )


def _plain(name: str, value: Any) -> str:
    kind = get_type_hints(Hyper)[name]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if issubclass(kind, StrEnum):
        return titles.title_of(kind(value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
