"""Heads that read stages cell by cell: what they read, and that a release with one is served, exported and tuned on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import warm_engine
from shapes_factory import ARCHITECTURE, LABELS, SIDE, weights_at, write_pack, write_release
from torch.nn import functional

from finetuning.engine import frameworks, spec, tasks, weights
from finetuning.engine.frameworks import stage_head
from finetuning.engine.frameworks.stage_head import GRID, PLAIN, Pooling, StageHead
from finetuning.engine.packs import PackReader
from finetuning.engine.problems import Rejected
from finetuning.engine.spec import Features, Framework, Hyper, Split, Strategy, Verb

EACH = {Split.TRAIN: 12, Split.VALIDATION: 4}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("grid") / "inputs"
    write_release(directory / "release")
    write_pack(directory / "train.pack", EACH)
    write_pack(directory / "test.pack", {Split.TEST: 8})
    return directory


def engine(verb: Verb, run_dir: Path, order: Any) -> dict[str, Any]:
    spec.write(order, run_dir)
    return warm_engine.succeeded(warm_engine.run(verb, run_dir), run_dir)


def at(run_dir: Path, **inputs: Path) -> Path:
    """Makes a run directory with links to its inputs."""
    (run_dir / "inputs").mkdir(parents=True)
    for name, target in inputs.items():
        (run_dir / "inputs" / name.replace("_", ".")).symlink_to(target)
    return run_dir


@pytest.mark.parametrize("size", [(3, 3), (7, 5), (2, 2), (1, 1)])
@pytest.mark.parametrize("grid", [1, 2, 3])
def test_cells_are_those_of_adaptive_pooling(size: tuple[int, int], grid: int) -> None:
    stage = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))

    read = stage_head.pool([stage], Pooling(grid, ("average", "maximum")))

    averages, maxima = (part.unflatten(1, (grid, grid, 4)).movedim(3, 1) for part in read.chunk(2, dim=1))
    assert torch.allclose(averages, functional.adaptive_avg_pool2d(stage, grid), atol=1e-6)
    assert torch.equal(maxima, functional.adaptive_max_pool2d(stage, grid))


def test_a_wide_network_gets_fewer_cells() -> None:
    assert stage_head.narrowed(GRID, 744) == GRID
    assert stage_head.narrowed(GRID, 3840) == Pooling(2, GRID.statistics)
    assert stage_head.narrowed(GRID, 100_000) == Pooling(1, GRID.statistics)


def test_a_head_that_reads_cells_keeps_them_and_one_over_whole_stages_gets_them(inputs: Path) -> None:
    bought = frameworks.load(weights_at("release"), inputs)
    grid = frameworks.with_stage_head(bought, GRID)
    again = frameworks.with_stage_head(frameworks.with_stage_head(bought, PLAIN), GRID)

    assert frameworks.with_stage_head(grid, PLAIN) is grid
    assert isinstance(again.module, StageHead)
    assert isinstance(grid.module, StageHead)
    assert again.module.config == grid.module.config
    assert again.module.classifier.weight.shape == grid.module.classifier.weight.shape
    image = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(frameworks.headless(again)(image), frameworks.headless(grid)(image))


@pytest.mark.parametrize(
    "wish",
    [
        {"grid": 0},
        {"grid": 99},
        {"grid": True},
        {"grid": "3"},
        {"statistics": []},
        {"statistics": ["median"]},
        {"statistics": "maximum"},
        {"statistics": ["maximum", "maximum"]},
        {"statistics": [["maximum"]]},
    ],
)
def test_a_config_with_no_such_pooling_is_rejected(wish: dict[str, Any]) -> None:
    head = {"kind": "stages", "stages": ["blocks.1"], **wish}

    with pytest.raises(Rejected) as caught:
        frameworks.build(Framework.TIMM, ARCHITECTURE, {"architecture": ARCHITECTURE, "num_classes": 2, "head": head})

    assert caught.value.problems[0].code == "config_invalid"


def test_a_run_with_a_grid_is_served_evaluated_exported_and_tuned_further(tmp_path: Path, inputs: Path) -> None:
    order = spec.TrainSpec(
        weights=weights_at("inputs/release"), strategy=Strategy.HEAD, labels=LABELS, hyper=Hyper(features=Features.GRID)
    )
    trained = at(tmp_path / "train", release=inputs / "release", train_pack=inputs / "train.pack")
    engine(Verb.TRAIN, trained, order)
    release = trained / "outputs/release"
    head = json.loads((release / "config.json").read_text())["head"]
    assert (head["grid"], head["statistics"]) == (GRID.grid, list(GRID.statistics))
    fitted = weights.load_tensors(trained / "outputs/probe.safetensors")

    loaded = frameworks.load(weights_at("release"), release.parent)
    assert torch.equal(frameworks.head_of(loaded).weight, fitted["weight"])
    exported = at(tmp_path / "export", release=release, test_pack=inputs / "test.pack")
    result = engine(Verb.EXPORT, exported, spec.ExportSpec(weights=weights_at("inputs/release"), threads=1))
    assert (result["status"], result["parity"]["agreement"]) == ("exported", 1.0)
    session = onnxruntime.InferenceSession(exported / "outputs/model.onnx", providers=["CPUExecutionProvider"])
    answer, pack = tasks.module_of(loaded.task).answering(loaded), PackReader(inputs / "test.pack")
    for item in pack.items:
        with torch.inference_mode():
            best = answer(pack.image(item), 1)["predictions"][0]
        (index,) = session.run(["class_index"], {"image": np.asarray(pack.image(item))})
        assert index == best["index"]

    tuned = at(tmp_path / "tune", release=inputs / "release", train_pack=inputs / "train.pack")
    further = Hyper(features=Features.GRID, epochs=1, stages=1)
    engine(
        Verb.TRAIN,
        tuned,
        spec.TrainSpec(weights=weights_at("inputs/release"), strategy=Strategy.LAST, labels=LABELS, hyper=further),
    )
    judged = at(tmp_path / "judge", base=inputs / "release", train=tuned / "outputs", test_pack=inputs / "test.pack")
    evaluation = engine(
        Verb.EVALUATE,
        judged,
        spec.EvaluateSpec(
            strategy=Strategy.LAST,
            base=weights_at("inputs/base"),
            tuned=weights_at("inputs/train/release"),
            labels=LABELS,
        ),
    )["evaluation"]
    assert evaluation["baseline"]["kind"] == "bought_with_probe"
