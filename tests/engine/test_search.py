"""The search of strategy and hyper-parameters: its trials, its winner, and that a kill repeats nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import warm_engine
from shapes_factory import LABELS as SHAPES
from shapes_factory import weights_at as image_weights_at
from shapes_factory import write_pack, write_release
from texts_factory import LABELS as TOPICS
from texts_factory import csv_of, inspected_texts, run_verb, sentences, tiny_encoder, weights_at

from finetuning.engine import plain_files, search, spec, train, trials
from finetuning.engine.failures import UserFault
from finetuning.engine.hyper import Hyper, Strategy, Task, search_space
from finetuning.engine.spec import SearchSpec, SpecError, Split, Verb

AT_EVERY_STEP = {"ENGINE_CHECKPOINT_SECONDS": "0"}
NAMES = tuple(sorted(TOPICS))
ALL = (Strategy.HEAD, Strategy.LAST, Strategy.FULL, Strategy.LORA)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    inputs = tmp_path_factory.mktemp("texts") / "inputs"
    tiny_encoder(inputs / "release")
    inspected = inspected_texts(inputs.parent / "inspect", csv_of(sentences(30)), salt="test")
    assert inspected["status"] == "valid"
    (inputs / "train.pack").symlink_to(inputs.parent / "inspect/outputs/train.pack")
    return inputs


def order(*strategies: Strategy, **choices: Any) -> SearchSpec:
    fixed = {"epochs": 2, "batch_size": 16, "patience": 9, **choices.pop("fixed", {})}
    return SearchSpec(
        weights=weights_at("inputs/release"),
        strategies=strategies,
        labels=NAMES,
        fixed=fixed,
        device="cpu",
        threads=1,
        **choices,
    )


def laid_out(run_dir: Path, inputs: Path) -> Path:
    run_dir.mkdir()
    (run_dir / "inputs").symlink_to(inputs)
    return run_dir


def searched(run_dir: Path, inputs: Path, wish: SearchSpec) -> dict[str, Any]:
    return run_verb(search, wish, laid_out(run_dir, inputs))


def without_seconds(result: dict[str, Any]) -> dict[str, Any]:
    rows = [{**row, "seconds": 0} for row in result["trials"]]
    return {**result, "spent_seconds": 0, "trials": rows, "winner": {**result["winner"], "seconds": 0}}


def test_a_search_tries_the_defaults_first_and_finds_a_better_rate(tmp_path: Path, texts: Path) -> None:
    wish = order(Strategy.FULL, space=("learning_rate", "warm_up"), trials=7, fixed={"start_from_probe": False})

    result = searched(tmp_path / "a", texts, wish)

    first, *others = result["trials"]
    assert result["mode"] == "search"
    assert first["values"] == {"learning_rate": 2e-5, "warm_up": 0.1}
    assert all(2e-6 <= row["values"]["learning_rate"] <= 2e-4 for row in others)
    assert len({row["values"]["learning_rate"] for row in result["trials"]}) == 7
    winner = result["winner"]
    assert winner["objective"] == min(row["objective"] for row in result["trials"]) < first["objective"]
    assert "best of 7 trials on the same" in result["caution"]
    assert f"{result['validation_items']} validation items" in result["caution"]
    assert not list((tmp_path / "a/trials").iterdir())


def test_the_winner_is_a_training_that_scores_what_it_scored(tmp_path: Path, texts: Path) -> None:
    result = searched(tmp_path / "a", texts, order(Strategy.FULL, trials=2, fixed={"start_from_probe": False}))

    document = json.loads((tmp_path / "a/outputs/spec.json").read_text())
    again = run_verb(train, spec.from_json(document), laid_out(tmp_path / "b", texts))

    assert document == json.loads(json.dumps(result["winner"]["spec"]))
    assert again["validation"] == pytest.approx(result["winner"]["validation"])
    assert again["best"]["epoch"] == result["winner"]["best_epoch"]


def test_the_same_seed_searches_the_same_and_another_seed_does_not(tmp_path: Path, texts: Path) -> None:
    wish = order(Strategy.LAST, trials=3)

    one, two = (searched(tmp_path / name, texts, wish) for name in ("a", "b"))
    other = searched(tmp_path / "c", texts, order(Strategy.LAST, trials=3, fixed={"seed": 1}))

    assert without_seconds(one) == without_seconds(two)
    assert one["trials"][1]["values"] != other["trials"][1]["values"]


def test_hopeless_trials_are_pruned_once_there_is_something_to_compare_with(tmp_path: Path, texts: Path) -> None:
    fixed = {"epochs": 6, "start_from_probe": False}

    rows = searched(tmp_path / "a", texts, order(Strategy.FULL, trials=9, fixed=fixed))["trials"]

    assert all(row["ended"] == "finished" and row["epochs"] == 6 for row in rows[:5])
    pruned = [row for row in rows if row["ended"] == "pruned"]
    assert pruned
    assert all(3 < row["epochs"] < 6 for row in pruned)


def test_a_race_drops_two_thirds_at_each_rung(tmp_path: Path, texts: Path) -> None:
    wish = order(*ALL, trials=8, space=("learning_rate",), fixed={"epochs": 9, "start_from_probe": False})

    result = searched(tmp_path / "a", texts, wish)

    rows = result["trials"]
    assert result["mode"] == "race"
    assert [row["strategy"] for row in rows] == [*ALL, *ALL]
    heads = [row for row in rows if row["strategy"] == "head"]
    assert all(row["epochs"] == 0 and row["ended"] == "finished" for row in heads)
    assert sorted(row["epochs"] for row in rows if row not in heads) == [1, 1, 1, 1, 3, 9]
    after_one = {row["trial"]: row for row in rows if row["epochs"] == 1}
    assert all(row["ended"] == "pruned" for row in after_one.values())
    assert result["winner"]["objective"] == min(row["objective"] for row in rows)


@pytest.mark.parametrize(("epochs", "expected"), [(9, [1, 3, 9]), (20, [2, 6, 20]), (3, [1, 3]), (1, [1])])
def test_rungs_are_a_ninth_a_third_and_all_of_the_epochs(epochs: int, expected: list[int]) -> None:
    assert search.rungs(epochs) == expected


@pytest.mark.parametrize("strategies", [(Strategy.FULL,), (Strategy.FULL, Strategy.LAST)])
def test_a_budget_ends_a_search_with_an_answer(tmp_path: Path, texts: Path, strategies: tuple[Strategy, ...]) -> None:
    wish = order(*strategies, trials=20, budget_seconds=1e-6, fixed={"epochs": 100})

    result = searched(tmp_path / "a", texts, wish)

    assert [(row["epochs"], row["ended"]) for row in result["trials"]] == [(1, "budget")]
    assert result["planned"] == 20
    assert result["winner"]["spec"]["hyper"]["epochs"] == 100
    assert "The budget is used up." in (tmp_path / "a/events.jsonl").read_text()


def test_frozen_activations_are_computed_once_for_all_trials(tmp_path: Path) -> None:
    inputs = tmp_path / "inputs"
    write_release(inputs / "release")
    write_pack(inputs / "train.pack", {Split.TRAIN: 8, Split.VALIDATION: 4})
    wish = SearchSpec(
        weights=image_weights_at("inputs/release"),
        strategies=(Strategy.LAST,),
        space=("learning_rate", "stage_decay"),
        fixed={"epochs": 1, "batch_size": 8, "cached_views": 1},
        labels=SHAPES,
        trials=3,
    )

    result = searched(tmp_path / "a", inputs, wish)

    log = (tmp_path / "a/events.jsonl").read_text()
    assert log.count("Computing the frozen features once") == 1
    assert log.count("Computing the frozen stages once") == 1
    document = json.loads((tmp_path / "a/outputs/spec.json").read_text())
    again = run_verb(train, spec.from_json(document), laid_out(tmp_path / "b", inputs))
    assert again["validation"] == pytest.approx(result["winner"]["validation"])


@pytest.mark.parametrize("strategies", [(Strategy.FULL,), (Strategy.LAST, Strategy.FULL, Strategy.LORA)])
def test_a_killed_search_goes_on_and_repeats_no_trial(
    tmp_path: Path, texts: Path, strategies: tuple[Strategy, ...]
) -> None:
    wish = order(*strategies, trials=6, fixed={"epochs": 9})
    for name in ("whole", "cut"):
        spec.write(wish, laid_out(tmp_path / name, texts))
    cut, events = tmp_path / "cut", tmp_path / "cut/events.jsonl"

    assert warm_engine.cold(Verb.SEARCH, tmp_path / "whole", **AT_EVERY_STEP).code == 0
    # In the middle of a trial that others have ended before.
    running, deadline = warm_engine.start(Verb.SEARCH, cut, **AT_EVERY_STEP), time.monotonic() + 120
    while f'trial_{4}_loss", "split": "validation", "step": 2,' not in (events.read_text() if events.exists() else ""):
        assert running.exitcode is None
        assert time.monotonic() < deadline
        time.sleep(0.002)  # much shorter than a step
    running.kill()
    running.join()
    before = events.read_text()
    assert warm_engine.run(Verb.SEARCH, cut, **AT_EVERY_STEP).code == 0

    whole, resumed = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "cut"))
    keys = ("trials", "winner", "caution", "validation_items")
    strip = {"budget_seconds": 0.0}
    assert without_seconds({**strip, **{key: resumed[key] for key in keys}}) == without_seconds(
        {**strip, **{key: whole[key] for key in keys}}
    )
    after = events.read_text()[len(before) :]
    epochs = [
        (event["name"], event["step"])
        for event in map(json.loads, events.read_text().splitlines())
        if event.get("split") == "train" and event["kind"] == "metric" and event["name"].endswith("_loss")
    ]
    # A last epoch whose checkpoint the kill forestalled may be there twice; nothing else is.
    assert len(epochs) - len(set(epochs)) <= 1
    assert "Going on after" in after


def test_the_test_items_are_refused(tmp_path: Path, texts: Path) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    (inputs / "release").symlink_to(texts / "release")
    (inputs / "train.pack").symlink_to(texts.parent / "inspect/outputs/test.pack")

    with pytest.raises(UserFault) as caught:
        searched(tmp_path / "a", inputs, order(Strategy.HEAD, trials=1, space=()))

    assert caught.value.code in {"test_items_present", "too_few_texts"}


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"strategies": ()}, "strategies", "Name one strategy"),
        ({"strategies": (Strategy.FULL, Strategy.FULL)}, "strategies", "each once"),
        ({"trials": 0}, "trials", "at least one for each"),
        ({"trials": 1000}, "trials", "at most 200"),
        ({"budget_seconds": -1.0}, "budget_seconds", "0 for none"),
        ({"budget_seconds": float("nan")}, "budget_seconds", "0 for none"),
        ({"space": ("seed",)}, "space", "seed cannot be searched"),
        ({"space": ("augmentation",)}, "space", "choose among"),  # texts have none
        ({"space": ("learning_rate",), "fixed": {"learning_rate": 1e-3}}, "fixed", "both fixed and searched"),
        ({"fixed": {"epochs": 10_000}}, "epochs", "between 1 and 200"),
        ({"fixed": {"speed": 1}}, "speed", "Unknown field"),
        ({"labels": ("one",)}, "labels", "two classes"),
    ],
)
def test_a_contradictory_search_is_refused_by_field(changes: dict[str, Any], field: str, message: str) -> None:
    given = {"weights": weights_at("inputs/release"), "strategies": (Strategy.FULL,), "labels": NAMES, **changes}

    with pytest.raises(SpecError, match=message) as caught:
        SearchSpec(**given)

    assert caught.value.field == field


def test_a_search_survives_its_document() -> None:
    wish = order(*ALL, trials=9, fixed={"epochs": 9})

    assert spec.from_json(json.loads(json.dumps(spec.to_json(wish)))) == wish


@pytest.mark.parametrize(("task", "strategy"), [(task, one) for task in Task for one in spec.STRATEGIES[task]])
def test_every_range_lies_within_the_choice_s_own(task: Task, strategy: Strategy) -> None:
    for name, entry in search_space(task, strategy).items():
        for value in entry.choices or (entry.low, entry.high):
            fits = round(value) if entry.is_whole else value
            assert getattr(spec.hyper_from({name: fits}, task=task, strategy=strategy), name) == fits
        assert entry.choices or entry.low < entry.high
        assert not entry.log or entry.low > 0
    assert "seed" not in search_space(task, strategy)
    assert Hyper().seed == 0


def test_what_a_search_that_dies_in_its_journal_leaves_is_no_reason_to_clear_its_directory(tmp_path: Path) -> None:
    """A site clears a run directory that has links in it."""
    tried = trials.Trials(order(Strategy.FULL), tmp_path)
    lock = tried._study._storage._backend._lock  # type: ignore[attr-defined]  # as while it writes

    assert lock.acquire()

    assert plain_files.are_plain(tmp_path)
    trials.Trials(order(Strategy.FULL), tmp_path)  # which does not wait for the lock
    assert not list(tmp_path.glob("*.lock*"))
