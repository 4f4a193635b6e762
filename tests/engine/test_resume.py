"""`kill -9` at any point and the same verb again end with the same weights, bit for bit."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch
import warm_engine
from kills import DEADLINE_SECONDS, at_event, at_step, finished, killed_when, steps_saved
from shapes_factory import LABELS, weights_at, write_pack, write_release
from tiny_trainee import TinyTrainee, fitted

from finetuning.engine import spec as specs
from finetuning.engine.checkpoints import KEPT, Checkpoints
from finetuning.engine.events import EventWriter
from finetuning.engine.failures import EXIT_PAUSED
from finetuning.engine.hyper import Hyper, Precision, Strategy
from finetuning.engine.spec import Split, TrainSpec, Verb

EACH = {Split.TRAIN: 34, Split.VALIDATION: 8}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("resume") / "inputs"
    write_release(directory / "release")
    write_pack(directory / "train.pack", EACH)
    return directory


def laid_out(run_dir: Path, inputs: Path, strategy: Strategy, **hyper: object) -> Path:
    chosen = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "cached_views": 2, **hyper}
    run_dir.mkdir()
    (run_dir / "inputs").symlink_to(inputs)
    spec = TrainSpec(
        weights=weights_at("inputs/release"),
        strategy=strategy,
        labels=LABELS,
        hyper=Hyper(**chosen),
        device="cpu",
        threads=1,
    )
    specs.write(spec, run_dir)
    return run_dir


def test_a_full_run_killed_at_four_points_ends_with_the_weights_of_one_that_was_not(
    tmp_path: Path, inputs: Path
) -> None:
    steps = -(-EACH[Split.TRAIN] * len(LABELS) // 8)  # an epoch
    whole = finished(laid_out(tmp_path / "whole", inputs, Strategy.FULL), run=warm_engine.cold)
    cut = laid_out(tmp_path / "cut", inputs, Strategy.FULL)

    killed_when(at_event('"stage": "features"'), cut)  # during the extraction of features
    assert steps_saved(cut) == []
    killed_when(at_step(4), cut)  # in the middle of an epoch, right after a checkpoint
    assert 4 <= max(steps_saved(cut)) < steps
    # In the second epoch, behind a checkpoint that the run itself had gone on from.
    killed_when(at_step(steps + 3), cut)
    assert steps < max(steps_saved(cut)) < 2 * steps
    killed_when(at_event('"name": "save"'), cut)  # after the last epoch
    (cut / "result.json").unlink(missing_ok=True)  # writing it is the last act: the kill may have come too late

    assert finished(cut) == whole
    log = (cut / "events.jsonl").read_text()
    assert log.count("Going on from epoch 1") == 1
    assert log.count("Going on from epoch 2") == 1
    assert log.count("Going on from epoch 3") == 1


def test_a_last_stages_run_survives_a_killed_cache_and_a_torn_checkpoint(tmp_path: Path, inputs: Path) -> None:
    choices = {"average_weights": True, "accumulation": 2}
    whole = finished(laid_out(tmp_path / "whole", inputs, Strategy.LAST, **choices), run=warm_engine.cold)
    cut = laid_out(tmp_path / "cut", inputs, Strategy.LAST, **choices)

    killed_when(at_event("Computing the frozen stages once, view 2"), cut)
    killed_when(at_step(4), cut)
    newest = max((cut / "checkpoints").glob("*.ckpt"))
    newest.write_bytes(newest.read_bytes()[:-100])

    assert finished(cut) == whole
    log = (cut / "events.jsonl").read_text()
    assert f"The checkpoint {newest.stem} is damaged" in log
    assert "Going on from epoch 1" in log


def test_a_run_in_bfloat16_that_was_killed_ends_with_the_weights_of_one_that_was_not(
    tmp_path: Path, inputs: Path
) -> None:
    choices = {"start_from_probe": False}  # which would win
    rounded = {**choices, "precision": Precision.BFLOAT16}
    whole = finished(laid_out(tmp_path / "whole", inputs, Strategy.FULL, **rounded))
    cut = laid_out(tmp_path / "cut", inputs, Strategy.FULL, **rounded)

    killed_when(at_step(4), cut)

    assert finished(cut) == whole
    assert finished(laid_out(tmp_path / "exact", inputs, Strategy.FULL, **choices)) != whole  # it did round
    assert "Going on from epoch 1" in (cut / "events.jsonl").read_text()


def test_a_pause_keeps_the_step_it_stopped_at_and_changes_no_weight(tmp_path: Path, inputs: Path) -> None:
    """Without the checkpoints of every minute: what is there to go on from, the pause has written."""
    rarely = {"ENGINE_CHECKPOINT_SECONDS": "3600"}
    choices = {"epochs": 8, "patience": 8}
    cut = laid_out(tmp_path / "cut", inputs, Strategy.FULL, **choices)
    engine = warm_engine.start(Verb.TRAIN, cut, **rarely)
    reached, deadline = at_event('"name": "learning_rate"'), time.monotonic() + DEADLINE_SECONDS
    while not reached(cut):
        assert engine.exitcode is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGUSR1)
    engine.join(DEADLINE_SECONDS)

    assert engine.exitcode == EXIT_PAUSED
    stopped_at = max(steps_saved(cut))
    assert finished(cut) == finished(laid_out(tmp_path / "whole", inputs, Strategy.FULL, **choices))
    log = (cut / "events.jsonl").read_text()
    assert f"step {stopped_at}." in log


def saved(directory: Path, identity: str, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(directory, identity=identity)
    for step in steps:
        checkpoints.save({"value": torch.tensor([float(step)])}, step=step)
    return checkpoints


def test_a_truncated_checkpoint_falls_back_to_the_older_one(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path / "c", "this", 1, 2, 3)
    (tmp_path / "c/000000000003.ckpt").write_bytes(b"torn")

    with EventWriter(tmp_path / "events.jsonl") as events:
        state = checkpoints.load(events)

    assert state is not None
    assert state["value"].item() == 2.0
    assert len(list((tmp_path / "c").iterdir())) == KEPT


def test_without_a_whole_checkpoint_a_run_starts_again(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path / "c", "this", 1, 2)
    for path in (tmp_path / "c").iterdir():
        path.write_bytes(path.read_bytes()[:40])

    with EventWriter(tmp_path / "events.jsonl") as events:
        assert checkpoints.load(events) is None


def test_a_checkpoint_of_another_spec_is_not_used(tmp_path: Path) -> None:
    saved(tmp_path / "c", "another", 5)

    with EventWriter(tmp_path / "events.jsonl") as events:
        assert Checkpoints(tmp_path / "c", identity="this").load(events) is None
    assert "belongs to another run" in (tmp_path / "events.jsonl").read_text()


def test_what_is_saved_after_one_that_is_of_no_use_is_found_before_it(tmp_path: Path) -> None:
    saved(tmp_path / "c", "another", 940, 1000)

    own = saved(tmp_path / "c", "this", 5, 6)

    with EventWriter(tmp_path / "events.jsonl") as events:
        state = own.load(events)
    assert state is not None
    assert state["value"].item() == 6.0
    assert (tmp_path / "events.jsonl").read_text() == ""


def test_a_checkpoint_of_a_network_that_was_cut_elsewhere_is_told_and_the_next_ones_are_used(tmp_path: Path) -> None:
    """As where one machine kept the frozen activations and the other did not."""
    hyper = Hyper(epochs=2, batch_size=32, patience=2)
    wanted = fitted(TinyTrainee(hyper), tmp_path / "alone")
    other = TinyTrainee(hyper)
    other.module = other.body  # its checkpoint knows no head
    state = {"module": other.module.state_dict(), "progress": {}}
    (tmp_path / "run").mkdir()
    Checkpoints(tmp_path / "run/checkpoints", identity="tiny").save(state, step=1000)

    found = fitted(TinyTrainee(hyper), tmp_path / "run")
    again = TinyTrainee(hyper)
    fitted(again, tmp_path / "run")

    assert (found.best_epoch, found.validation) == (wanted.best_epoch, wanted.validation)
    log = (tmp_path / "run/events.jsonl").read_text()
    assert log.count("of another part of the network") == 1
    assert log.count("Going on from epoch 3") == 1


def test_a_half_written_checkpoint_is_not_seen(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path / "c", "this", 1)
    (tmp_path / "c/.000000000002.ckpt.123.tmp").write_bytes(b"half")

    with EventWriter(tmp_path / "events.jsonl") as events:
        state = checkpoints.load(events)

    assert state is not None
    assert state["value"].item() == 1.0
