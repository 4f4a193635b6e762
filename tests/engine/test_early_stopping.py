"""When a training that gets no better is stopped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tiny_trainee import TinyTrainee, fitted
from torch import nn

from finetuning.engine.hyper import Hyper
from finetuning.engine.trainee import Validation


class Stubborn(TinyTrainee):
    """Its best validation is that of one epoch, whatever is learned."""

    def __init__(self, hyper: Hyper, *, best: int) -> None:
        super().__init__(hyper, items=64)
        self._epoch, self._best = -1, best  # the first validation is of the beginning

    def validate(self, module: nn.Module) -> Validation:
        self._epoch += 1
        loss = 0.5 if self._epoch == self._best else 1.0
        return Validation(loss, loss, {"accuracy": 0.0})


@pytest.mark.parametrize(
    ("choices", "best", "epochs"),
    [
        ({"epochs": 10}, 1, 4),  # the warm-up is one epoch, the default three
        ({"epochs": 50}, 1, 15),  # five and ten: not stopped while the rate still rises
        ({"epochs": 50}, 9, 19),
        ({"epochs": 50, "warm_up": 0.0}, 1, 11),
        ({"epochs": 50, "patience": 2}, 1, 7),
        ({"epochs": 50, "patience": 2, "warm_up": 0.0}, 2, 4),
        ({"epochs": 6, "patience": 6}, 1, 6),
    ],
)
def test_waiting_begins_after_the_warm_up_and_grows_with_the_epochs(
    tmp_path: Path, choices: dict[str, Any], best: int, epochs: int
) -> None:
    found = fitted(Stubborn(Hyper(batch_size=32, **choices), best=best), tmp_path / "run")

    assert (found.best_epoch, found.epochs) == (best, epochs)
    told = (tmp_path / "run/events.jsonl").read_text()
    assert (f"nothing better for {epochs - best} epochs" in told) is (epochs < choices["epochs"])


@pytest.mark.parametrize(("epochs", "warm_up", "expected"), [(10, 0.1, 1), (30, 0.1, 3), (12, 0.1, 2), (3, 0.0, 0)])
def test_a_warm_up_is_whole_epochs(epochs: int, warm_up: float, expected: int) -> None:
    hyper = Hyper(epochs=epochs, warm_up=warm_up)

    assert hyper.warm_epochs == expected
    assert hyper.longest_wait == max(3, math.ceil(epochs / 5))
