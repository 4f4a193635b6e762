"""What each strategy lets learn, and that everything else stays as it was bought, byte for byte."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from shapes_factory import LABELS, SIDE, weights_at, write_pack, write_release
from torch.nn import functional

from finetuning.engine import boundary, features, frameworks, heads, loop, lora, runtime, strategies, train, weights
from finetuning.engine.checkpoints import Checkpoints
from finetuning.engine.events import EventWriter
from finetuning.engine.frameworks import Loaded
from finetuning.engine.frameworks.stage_head import POOLINGS
from finetuning.engine.hyper import Augmentation, Features, Hyper, Strategy
from finetuning.engine.labelling import ONE_CLASS
from finetuning.engine.packs import PackReader
from finetuning.engine.spec import Split, TrainSpec
from finetuning.engine.tasks import classification

CPU = torch.device("cpu")
STAGES = 2
FROZEN = ("conv_stem", "bn1", "blocks.0", "blocks.1", "blocks.2")
# Batches of 16 and 200 items: norms learn and their statistics move, wherever they are not frozen.
EACH = {Split.TRAIN: 67, Split.VALIDATION: 8}


@pytest.fixture(scope="module", autouse=True)
def _machine() -> Iterator[None]:
    threads = torch.get_num_threads()
    runtime.prepare(device="cpu", threads=1, seed=0)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=False)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("strategies") / "inputs"
    write_release(directory / "release")
    write_pack(directory / "train.pack", EACH)
    return directory


def order(strategy: Strategy, **hyper: object) -> TrainSpec:
    chosen = {"epochs": 1, "batch_size": 16, "augmentation": Augmentation.NONE, "stages": STAGES, **hyper}
    return TrainSpec(weights=weights_at("inputs/release"), strategy=strategy, labels=LABELS, hyper=Hyper(**chosen))


def trained(run_dir: Path, inputs: Path, spec: TrainSpec) -> dict[str, torch.Tensor]:
    """Runs the verb in this process; returns the tuned weights by the names of the bought ones."""
    run_dir.mkdir()
    (run_dir / "inputs").symlink_to(inputs)
    with EventWriter(run_dir / "events.jsonl") as events:
        train.run(spec, run_dir, events)
    after = weights.load_tensors(run_dir / "outputs/release/model.safetensors")
    return {name.removeprefix("backbone."): tensor for name, tensor in after.items()}


def log_of(run_dir: Path) -> str:
    return (run_dir / "events.jsonl").read_text()


def tuned(inputs: Path, read: Features = Features.LAST) -> Loaded:
    torch.manual_seed(7)
    bought = frameworks.load(weights_at("release"), inputs)
    if read in POOLINGS:
        bought = frameworks.with_stage_head(bought, POOLINGS[read])
    width = frameworks.head_of(bought).in_features
    return frameworks.replace_head(bought, LABELS, torch.randn(len(LABELS), width) / 16, torch.zeros(len(LABELS)))


def pictures(inputs: Path, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    pack = PackReader(inputs / "train.pack")
    data = classification.read(order(Strategy.FULL), inputs.parent, frameworks.load(weights_at("release"), inputs))
    items = pack.items[:count]
    images = torch.stack([data.evaluation_transform(item, pack.image(item)) for item in items])
    return images, ONE_CLASS.truth(items, len(LABELS))


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}  # another shape is unequal too


def is_frozen(name: str) -> bool:
    return name.startswith(tuple(f"{part}." for part in FROZEN))


def test_last_with_cached_activations_leaves_the_frozen_stages_byte_equal(tmp_path: Path, inputs: Path) -> None:
    after = trained(tmp_path / "run", inputs, order(Strategy.LAST, learning_rate=1e-3, start_from_probe=False))

    assert "Caching 1 view of each image" in log_of(tmp_path / "run")
    changed = moved(weights.load_tensors(inputs / "release/model.safetensors"), after)
    assert not [name for name in changed if is_frozen(name)]
    assert any(name.startswith("blocks.4.") and name.endswith("running_mean") for name in changed)
    assert "blocks.3.0.conv_pw.weight" in changed


@pytest.mark.parametrize("starts_from_probe", [True, False])
def test_what_starts_from_the_probe_keeps_the_statistics_that_the_probe_was_fitted_on(
    tmp_path: Path, inputs: Path, *, starts_from_probe: bool
) -> None:
    spec = order(Strategy.FULL, learning_rate=1e-3, start_from_probe=starts_from_probe)
    loaded = tuned(inputs)
    before = copy.deepcopy(loaded.module.state_dict())
    (tmp_path / "inputs").symlink_to(inputs)
    data = classification.read(spec, tmp_path, loaded)

    with EventWriter(tmp_path / "events.jsonl") as events:
        for _ in classification.begin(spec, loaded, data, tmp_path, device=CPU, events=events).epochs():
            pass

    changed = moved(before, loaded.module.state_dict())
    assert "blocks.3.0.conv_pw.weight" in changed
    assert any("running" in name for name in changed) is not starts_from_probe


def test_last_without_a_cache_leaves_the_frozen_stages_and_their_statistics_byte_equal(
    tmp_path: Path, inputs: Path
) -> None:
    spec = order(Strategy.LAST, learning_rate=1e-3)
    loaded = tuned(inputs)
    before = copy.deepcopy(loaded.module.state_dict())
    (tmp_path / "inputs").symlink_to(inputs)
    data = classification.read(spec, tmp_path, loaded)
    plan = strategies.plan(loaded.module, frameworks.stages(loaded), Strategy.LAST, spec.hyper, fresh_head=False)

    with EventWriter(tmp_path / "events.jsonl") as events:
        loop.fit(
            classification.Classifier(loaded.module, data, spec.hyper, CPU),
            plan,
            spec.hyper,
            device=CPU,
            events=events,
            checkpoints=Checkpoints(tmp_path / "checkpoints", identity="x"),
            keep_initial=False,
        )

    changed = moved(before, loaded.module.state_dict())
    assert not [name for name in changed if is_frozen(name)]
    assert any(name.startswith("blocks.4.") and name.endswith("running_var") for name in changed)


@pytest.mark.parametrize("read", list(Features))
@pytest.mark.parametrize("stages", [1, 2, 5])
def test_the_loss_behind_the_boundary_is_the_loss_of_the_whole_network(
    inputs: Path, stages: int, read: Features
) -> None:
    loaded = tuned(inputs, read)
    parts = frameworks.stages(loaded)
    plan = strategies.plan(loaded.module, parts, Strategy.LAST, Hyper(stages=stages), fresh_head=False)
    images, labels = pictures(inputs, 16)

    halves = boundary.cut(loaded.module, parts, plan.boundary, images[:2])

    assert halves is not None
    strategies.train_mode(loaded.module, plan.frozen, frozen_norms=False)
    with torch.no_grad():
        live = functional.cross_entropy(loaded.module(images), labels)
    with torch.inference_mode():
        activations = halves.prefix(images)
    cached = functional.cross_entropy(halves.suffix.train()(activations.clone()), labels)
    assert float(cached.detach()) == pytest.approx(float(live), rel=1e-4)


@pytest.mark.parametrize("read", list(Features))
def test_a_probe_on_cached_features_answers_as_the_network_that_carries_it(inputs: Path, read: Features) -> None:
    loaded = tuned(inputs, read)
    images, labels = pictures(inputs, 24)
    forward = features.Forward(frameworks.headless(loaded).eval(), CPU, torch.float32, is_fused=False)
    table = forward.run(images)

    probe = heads.fit(heads.Samples(table, labels), len(LABELS), 1.0)

    carrier = frameworks.replace_head(loaded, LABELS, probe.weight, probe.bias).module.eval()
    with torch.inference_mode():
        live = torch.cat([carrier(images[at : at + 1]) for at in range(len(images))])  # one by one, as somebody asks
    torch.testing.assert_close(probe.logits(table), live, atol=1e-5, rtol=1e-5)


def test_training_the_suffix_trains_the_network_it_was_cut_from(inputs: Path) -> None:
    loaded = tuned(inputs)
    parts = frameworks.stages(loaded)
    plan = strategies.plan(loaded.module, parts, Strategy.LAST, Hyper(stages=1), fresh_head=False)
    images, _ = pictures(inputs, 2)

    halves = boundary.cut(loaded.module, parts, plan.boundary, images)

    assert halves is not None
    whole = {id(parameter) for parameter in loaded.module.parameters()}
    learns = {id(parameter) for group in plan.groups for parameter in group["params"]}
    assert learns == {id(parameter) for parameter in halves.suffix.parameters()} & whole


def test_merging_lora_changes_no_output(inputs: Path) -> None:
    loaded = tuned(inputs)
    module = loaded.module
    before = copy.deepcopy(module.state_dict())
    updates = lora.attach(module, rank=4, skip=frameworks.stages(loaded)[-1][1])
    for update in updates:
        torch.nn.init.normal_(update.up, std=0.02)
    names = {id(child): name for name, child in module.named_modules()}
    deltas = {f"{names[id(update)]}.weight": update.delta().detach().clone() for update in updates}
    images = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        unmerged = module(images)

    lora.merge(module)

    with torch.inference_mode():
        merged = module(images)
    assert len(updates) > 10
    assert torch.allclose(merged, unmerged, rtol=1e-5, atol=1e-5 * float(unmerged.abs().max()))
    after = module.state_dict()
    assert set(after) == set(before)
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor + deltas[name] if name in deltas else tensor), name


def test_lora_training_saves_a_plain_network_with_frozen_parameters_kept(tmp_path: Path, inputs: Path) -> None:
    before = weights.load_tensors(inputs / "release/model.safetensors")

    after = trained(tmp_path / "run", inputs, order(Strategy.LORA, learning_rate=5e-3, start_from_probe=False))

    changed = moved(before, after)
    assert set(after) == set(before)
    assert "blocks.4.0.conv_pw.weight" in changed
    assert not [name for name in changed if name.endswith("conv_dw.weight")]


def test_scratch_keeps_nothing_of_what_was_bought(tmp_path: Path, inputs: Path) -> None:
    before = weights.load_tensors(inputs / "release/model.safetensors")

    after = trained(tmp_path / "run", inputs, order(Strategy.SCRATCH))

    kernels = [name for name, tensor in before.items() if tensor.dim() > 1]
    assert set(kernels) <= moved(before, after)
