"""Gradients of depthwise convolutions: what torch itself gives in bfloat16, only sooner."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import timm
import torch
from tiny_trainee import WIDTH, TinyTrainee
from torch import Tensor, nn

from finetuning.engine import strategies
from finetuning.engine.depthwise import FastGradients
from finetuning.engine.hyper import Hyper, Precision, Strategy
from finetuning.engine.stepping import Stepper

CONVOLUTIONS = {
    "stride 2": {"kernel_size": 3, "stride": 2, "padding": 1},
    "stride 2 as TensorFlow pads": {"kernel_size": 3, "stride": 2},
    "stride 3 that leaves pixels over": {"kernel_size": 2, "stride": 3},
    "kernel 4": {"kernel_size": 4, "padding": 2},
    "kernel 5": {"kernel_size": 5, "padding": 2},
    "kernel 7": {"kernel_size": 7, "padding": 3},
    "another kernel and stride each way": {"kernel_size": (5, 2), "stride": (1, 2), "padding": (4, 1)},
    "padded by more than it reaches": {"kernel_size": 1, "stride": 2, "padding": 2},
    "dilated, with another stride each way": {
        "kernel_size": 5,
        "stride": (1, 2),
        "padding": (4, 2),
        "dilation": (2, 1),
    },
    "padding by its name, left as it is": {"kernel_size": 5, "padding": "same"},
    "small, left as it is": {"kernel_size": 3, "padding": 1},
}


def gradients(module: nn.Module, images: Tensor, *, is_fast: bool) -> list[Tensor]:
    """Returns the output, and the gradients of its squares by the images and by each parameter."""
    images = images.clone().requires_grad_()
    module.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16), FastGradients() if is_fast else nullcontext():
        output = module(images)
    output.float().square().mean().backward()
    assert images.grad is not None
    found = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return [output, images.grad, *(grad.clone() for grad in found)]


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_gradients_are_those_of_torch(name: str, *, has_bias: bool) -> None:
    torch.manual_seed(0)
    module = nn.Conv2d(8, 8, groups=8, bias=has_bias, **CONVOLUTIONS[name])  # type: ignore[arg-type]
    images = torch.randn(6, 8, 14, 14)

    ours, torchs = (gradients(module, images, is_fast=is_fast) for is_fast in (True, False))

    is_quick = "left as it is" not in name
    with torch.autocast("cpu", dtype=torch.bfloat16), FastGradients():
        assert any("_Depthwise" in node for node in _names(module(images).grad_fn)) is is_quick
    assert len(ours) == len(torchs) == 3 + has_bias
    for got, wanted in zip(ours, torchs, strict=True):
        assert got.dtype is wanted.dtype
        torch.testing.assert_close(got, wanted, rtol=0.02, atol=0.02 * float(wanted.abs().max()))


@pytest.mark.parametrize(("dtype", "enabled"), [(torch.float32, False), (torch.float64, True)])
def test_what_autocast_leaves_alone_is_left_alone(dtype: torch.dtype, *, enabled: bool) -> None:
    module, images = nn.Conv2d(8, 8, 5, groups=8).to(dtype), torch.randn(2, 8, 9, 9, dtype=dtype)

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled), FastGradients():
        assert module(images).dtype is dtype


def test_a_step_in_bfloat16_on_a_cpu_takes_the_quick_way() -> None:
    class Depthwise(TinyTrainee):
        """Its points go through a depthwise convolution, of which it notes how the gradients will come."""

        def __init__(self, hyper: Hyper) -> None:
            super().__init__(hyper)
            self.module = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 5, padding=2, groups=WIDTH), nn.Flatten())
            self.made_by: set[str] = set()

        def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            made = self.module(batch[0][:, :, None, None])
            self.made_by |= _names(made.grad_fn)
            return nn.functional.cross_entropy(made.float(), batch[1])

    hyper = Hyper(precision=Precision.BFLOAT16, batch_size=8)
    trainee = Depthwise(hyper)
    stages: strategies.Stages = [("body", [trainee.module[0]])]
    plan = strategies.plan(trainee.module, stages, Strategy.FULL, hyper, fresh_head=True)
    before = trainee.module[0].weight.clone()

    stepper = Stepper(trainee, plan, hyper, device=torch.device("cpu"))
    stepper.train_mode()
    stepper.backward(next(trainee.batches(1, start=0)), place=(1, 0))
    stepper.step(1.0)

    assert any("_Depthwise" in name for name in trainee.made_by)
    assert not torch.equal(trainee.module[0].weight, before)


def test_a_frozen_convolution_passes_gradients_on_and_gets_none() -> None:
    torch.manual_seed(0)
    below, frozen = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 5, groups=8)
    frozen.requires_grad_(False)

    output, _, *found = gradients(nn.Sequential(below, frozen), torch.randn(2, 3, 9, 9), is_fast=True)

    assert output.shape == (2, 8, 5, 5)
    assert len(found) == 2  # the weight and bias of the one below
    assert all(float(grad.abs().max()) > 0 for grad in found)
    assert frozen.weight.grad is None


def test_a_network_of_timm_takes_the_quick_way_and_learns_the_same() -> None:
    """Its padding as TensorFlow's calls torch.conv2d by itself, not through nn.Conv2d."""
    torch.manual_seed(0)
    module = timm.create_model("tf_efficientnet_lite0", num_classes=4).eval()  # norms of their own statistics
    images = torch.randn(2, 3, 64, 64)

    ours, torchs = (gradients(module, images, is_fast=is_fast) for is_fast in (True, False))
    with torch.autocast("cpu", dtype=torch.bfloat16), FastGradients():
        made_by = list(_names(module(images).grad_fn))

    assert sum("_Depthwise" in name for name in made_by) == sum(
        module.groups > 1 and (max(module.stride) > 1 or max(module.kernel_size) > 3)
        for module in module.modules()
        if isinstance(module, nn.Conv2d)
    )
    whole = [torch.cat([grad.flatten() for grad in found[1:]]) for found in (ours, torchs)]
    assert float((whole[0] - whole[1]).norm() / whole[1].norm()) < 0.05


def _names(node: torch.autograd.graph.Node | None) -> set[str]:
    """Returns the nodes of the graph, each as its name and identity."""
    found: dict[str, torch.autograd.graph.Node] = {}
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if node is not None and (key := f"{node.name()} {id(node)}") not in found:
            found[key] = node
            waiting += [following for following, _ in node.next_functions]
    return set(found)
