"""Two processes under torchrun, by gloo on the processor, train what one process trains."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import warm_engine
from shapes_factory import LABELS, weights_at, write_pack, write_release
from test_resume import at_step, killed_when
from texts_factory import LABELS as TOPICS
from texts_factory import csv_of, inspected_texts, sentences, tiny_encoder
from texts_factory import weights_at as text_weights_at
from warm_engine import Ended

from finetuning.engine import spec as specs
from finetuning.engine import weights
from finetuning.engine.hyper import Hyper, Loss, Strategy
from finetuning.engine.packs import PackReader
from finetuning.engine.spec import Split, TrainSpec, Verb

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-5
TUNED = "outputs/release/model.safetensors"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("images") / "inputs"
    write_release(directory / "release")
    # 42 items in batches of 8: the last has 2; and few enough that one process keeps the norms' statistics too.
    write_pack(directory / "train.pack", {Split.TRAIN: 14, Split.VALIDATION: 6})
    return directory


def laid_out(run_dir: Path, inputs: Path, strategy: Strategy, **hyper: Any) -> Path:
    # From a new head, so that what is kept is what was trained, not the beginning.
    chosen = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "start_from_probe": False, **hyper}
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


def under_torchrun(run_dir: Path) -> subprocess.Popen[str]:
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, "-m", "finetuning.engine", Verb.TRAIN, str(run_dir)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def ranks(run_dir: Path) -> list[Ended]:
    """Runs the two processes with the environment that torchrun gives to them, without the seconds of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": "2"}
    logs = [run_dir.with_name(f"{run_dir.name}.{rank}.log") for rank in ("0", "1")]
    started = [
        warm_engine.start(Verb.TRAIN, run_dir, log=log, RANK=rank, LOCAL_RANK=rank, **meeting)
        for rank, log in zip(("0", "1"), logs, strict=True)
    ]
    for process in started:
        process.join(warm_engine.DEADLINE_SECONDS)
    return [Ended(process.exitcode, log.read_text()) for process, log in zip(started, logs, strict=True)]


def trained(run_dir: Path, *, processes: int) -> dict[str, Any]:
    ended = [warm_engine.run(Verb.TRAIN, run_dir)] if processes == 1 else ranks(run_dir)
    first, *others = ended
    assert all(other.code == 0 for other in others), others
    return warm_engine.succeeded(first, run_dir)


def differences(one: Path, other: Path, bought: Path) -> tuple[float, float]:
    """Returns the largest difference of a weight between two trainings, and to what was bought."""
    ours, theirs, before = (weights.load_tensors(path) for path in (one / TUNED, other / TUNED, bought))
    assert set(ours) == set(theirs)
    between = max(float((ours[name].double() - theirs[name].double()).abs().max()) for name in ours)
    stripped = {name.removeprefix("backbone.").removeprefix("bert."): tensor for name, tensor in ours.items()}
    kept = [name for name in before if name in stripped and stripped[name].shape == before[name].shape]
    moved = max(float((stripped[name].double() - before[name].double()).abs().max()) for name in kept)
    return between, moved


def test_two_processes_tune_all_weights_as_one_does(tmp_path: Path, images: Path) -> None:
    hyper = {"loss": Loss.WEIGHTED, "label_smoothing": 0.1, "average_weights": True, "accumulation": 2}
    one, two = (laid_out(tmp_path / name, images, Strategy.FULL, **hyper) for name in ("one", "two"))

    alone = trained(one, processes=1)
    launched = under_torchrun(two)
    _, errors = launched.communicate(timeout=240)
    shared = warm_engine.succeeded(Ended(launched.returncode, errors), two)

    between, moved = differences(one, two, images / "release/model.safetensors")
    assert between <= TOLERANCE
    assert moved > 100 * TOLERANCE  # else equality would say nothing
    assert (alone["processes"], shared["processes"]) == (1, 2)
    assert shared["validation"]["loss"] == pytest.approx(alone["validation"]["loss"], abs=1e-4)
    losses = [
        [event["value"] for event in map(json.loads, (run / "events.jsonl").open()) if is_training_loss(event)]
        for run in (one, two)
    ]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


def is_training_loss(event: dict[str, Any]) -> bool:
    return event.get("name") == "loss" and event.get("split") == "train"


def test_only_the_first_process_writes(tmp_path: Path, images: Path) -> None:
    run_dir = laid_out(tmp_path / "run", images, Strategy.LAST, epochs=1, cached_views=1)

    trained(run_dir, processes=2)

    assert {path.name for path in run_dir.iterdir()} == {
        "checkpoints", "events.jsonl", "inputs", "lock", "outputs", "result.json", "spec.json",
    }  # fmt: skip
    kinds = [json.loads(line)["kind"] for line in (run_dir / "events.jsonl").read_text().splitlines()]
    assert kinds.count("started") == kinds.count("finished") == 1
    assert "2 processes share every batch" in (run_dir / "events.jsonl").read_text()


def test_a_batch_that_has_nothing_for_a_process_is_trained_all_the_same(tmp_path: Path) -> None:
    inputs = tmp_path / "inputs"
    tiny_encoder(inputs / "release")
    inspected = inspected_texts(tmp_path / "inspect", csv_of(sentences(20)), salt="test")
    (inputs / "train.pack").symlink_to(tmp_path / "inspect/outputs/train.pack")
    items = sum(item.split is Split.TRAIN for item in PackReader(inputs / "train.pack").items)
    size = next(size for size in range(4, items) if items % size == 1)  # the last batch has one item
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "inputs").symlink_to(inputs)
        spec = TrainSpec(
            weights=text_weights_at("inputs/release"),
            strategy=Strategy.FULL,
            labels=tuple(sorted(TOPICS)),
            hyper=Hyper(
                epochs=2, batch_size=size, learning_rate=1e-3, loss=Loss.CLASS_BALANCED, start_from_probe=False
            ),
            device="cpu",
            threads=1,
        )
        # Dropout differs between processes by intent: without it there is nothing but the sum to differ.
        config = json.loads((inputs / "release/config.json").read_text())
        config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        (inputs / "release/config.json").write_text(json.dumps(config))
        specs.write(spec, tmp_path / name)

    trained(tmp_path / "one", processes=1)
    trained(tmp_path / "two", processes=2)

    assert inspected["status"] == "valid"
    between, moved = differences(tmp_path / "one", tmp_path / "two", inputs / "release/model.safetensors")
    assert between <= TOLERANCE
    assert moved > 100 * TOLERANCE


def test_two_processes_go_on_where_one_was_killed(tmp_path: Path, images: Path) -> None:
    whole, cut = (laid_out(tmp_path / name, images, Strategy.FULL) for name in ("whole", "cut"))
    trained(whole, processes=1)
    killed_when(at_step(4), cut)  # in the first of two epochs of 6 steps

    trained(cut, processes=2)

    between, _ = differences(whole, cut, images / "release/model.safetensors")
    assert between <= TOLERANCE
    assert "Going on from epoch" in (cut / "events.jsonl").read_text()


def test_images_from_scratch_are_refused_with_advice(tmp_path: Path, images: Path) -> None:
    run_dir = laid_out(tmp_path / "run", images, Strategy.SCRATCH)

    ended = ranks(run_dir)

    assert all(one.code != 0 for one in ended)
    log = (run_dir / "events.jsonl").read_text()
    assert "user:needs_one_process" in log
    assert "Start without torchrun" in log


def test_other_verbs_refuse_several_processes(tmp_path: Path, images: Path) -> None:
    run_dir = laid_out(tmp_path / "run", images, Strategy.HEAD)

    refused = subprocess.run(
        [sys.executable, "-m", "finetuning.engine", "evaluate", str(run_dir)],
        cwd=ROOT,
        env={**os.environ, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert refused.returncode == 64
    assert "start it without torchrun" in refused.stderr


def test_a_stop_reaches_every_process(tmp_path: Path, images: Path) -> None:
    run_dir = laid_out(tmp_path / "run", images, Strategy.FULL, epochs=200, patience=200)
    running = under_torchrun(run_dir)
    events = run_dir / "events.jsonl"
    while '"loss"' not in (events.read_text() if events.exists() else ""):
        assert running.poll() is None
        time.sleep(0.01)  # leaves the processor to the two

    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=120)

    assert "Stopped as asked." in events.read_text()
    assert not (run_dir / "result.json").exists()
    assert not list(run_dir.glob(".rank*"))


@pytest.mark.gpu
def test_two_gpus_train_what_one_trains(tmp_path: Path, images: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("fewer than two CUDA devices")
    one, two = (laid_out(tmp_path / name, images, Strategy.FULL, precision="float32") for name in ("one", "two"))
    for run_dir in (one, two):
        spec = json.loads((run_dir / "spec.json").read_text())
        (run_dir / "spec.json").write_text(json.dumps({**spec, "device": "cuda"}))

    trained(one, processes=1)
    trained(two, processes=2)

    between, _ = differences(one, two, images / "release/model.safetensors")
    assert between <= 1e-4  # a convolution's sum on CUDA depends on the batch's size
