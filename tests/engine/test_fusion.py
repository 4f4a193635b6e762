"""The faster form of a network gives the original's outputs, or is not used."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.layers import Conv2dSame
from torch import nn
from torchvision import models

from finetuning.engine import features, fusion


def with_lived_in_norms(module: nn.Module) -> nn.Module:
    """Gives every batch norm statistics of its own: at their defaults folding would be trivial."""
    generator = torch.Generator().manual_seed(0)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            for tensor in (child.weight, child.bias, child.running_mean, child.running_var):
                assert tensor is not None
                tensor.detach().copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return module.eval()


NETWORKS = {
    "timm, TensorFlow padding, norm with activation": lambda: timm.create_model("tf_efficientnet_lite0"),
    "timm, residual": lambda: timm.create_model("test_resnet"),
    "torchvision, norm apart": models.mobilenet_v3_small,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_fused_network_gives_the_same_outputs(name: str) -> None:
    module = with_lived_in_norms(NETWORKS[name]())
    sample = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))

    with torch.inference_mode():
        quick = fusion.fused(module, sample, torch.float32)
        assert quick is not None
        wanted, got = module(sample), quick(sample)

    assert sum(isinstance(child, fusion.FusedConvolution) for child in quick.modules()) > 5
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2)])
def test_a_convolution_padded_as_tensorflow_pads_is_the_same_when_fused(
    stride: int, dilation: int, kernel: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    convolution = Conv2dSame(4, 4, kernel, stride=stride, dilation=dilation, groups=4)
    norm = with_lived_in_norms(nn.BatchNorm2d(4))
    with torch.inference_mode():
        whole = fusion.FusedConvolution(convolution, norm).to(dtype)
        for side in (15, 16, 17, 16):
            images = torch.randn(2, 4, side, side + 1)
            wanted = norm(convolution(images))
            allowed = 1e-5 if dtype is torch.float32 else 0.05 * float(wanted.abs().max())
            torch.testing.assert_close(whole(images.to(dtype)).float(), wanted, rtol=0, atol=allowed)


@pytest.mark.parametrize("size", [(96, 96), (97, 97), (96, 97), (95, 64)], ids=str)
def test_padding_as_tensorflow_pads_is_that_of_every_size(size: tuple[int, int]) -> None:
    """One more at the right and the bottom of an even side, the same at both ends of an odd one; after each other."""
    module = with_lived_in_norms(timm.create_model("tf_efficientnet_lite0"))
    generator = torch.Generator().manual_seed(1)

    with torch.inference_mode():
        quick = fusion.fused(module, torch.randn(2, 3, 96, 96, generator=generator), torch.float32)
        assert quick is not None
        images = torch.randn(3, 3, *size, generator=generator)
        wanted = module(images)
        torch.testing.assert_close(quick(images), wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


def test_what_rounding_costs_anyway_speaks_against_no_network() -> None:
    class Differences(nn.Module):
        """Small differences of large numbers, which bfloat16 gets wrong with and without fusion."""

        def __init__(self) -> None:
            super().__init__()
            self.body = timm.create_model("test_resnet", num_classes=0)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen: torch.Tensor = self.body(images)
            return (seen + 100) - 100

    module = with_lived_in_norms(Differences())
    sample = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))

    with torch.inference_mode():
        quick = fusion.fused(module, sample, torch.bfloat16)
        wanted = module(sample)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = module(sample)
        assert quick is not None
        ours, torchs = (
            float((got.float() - wanted).norm() / wanted.norm()) for got in (quick(sample.bfloat16()), rounded)
        )

    assert torchs > 0.05
    assert ours <= 1.5 * torchs


def test_a_copy_that_gives_no_number_is_not_used() -> None:
    """Weights that are finite one by one, and not when they are multiplied."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)).eval()
    images = 1e-20 * torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        module[0].weight.fill_(1e15)
        module[1].weight.fill_(1e30)
        module[1].running_var.zero_()

    with torch.inference_mode():
        assert module(images).isfinite().all()
        assert fusion.fused(module, images, torch.float32) is None


def test_a_network_without_convolutions_is_left_alone() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4)).eval()

    with torch.inference_mode():
        assert fusion.fused(module, torch.randn(2, 3, 8, 8), torch.float32) is None


def test_a_norm_that_reads_a_convolution_shared_with_others_is_not_folded() -> None:
    class Shared(nn.Module):
        """Both norms read one convolution: folding either would change the other."""

        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 4, 3)
            self.one, self.other = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen = self.convolution(images)
            return self.one(seen) - 2 * self.other(seen)

    with torch.inference_mode():
        assert fusion.fused(with_lived_in_norms(Shared()), torch.randn(2, 3, 8, 8), torch.float32) is None


def test_the_original_is_used_where_the_rewriting_changes_the_outputs() -> None:
    class Skipping(nn.Module):
        """Reads the convolution's output beside the norm's, which no watching of norms can see."""

        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen = self.convolution(images)
            return self.norm(seen) + 10 * seen

    module, images = with_lived_in_norms(Skipping()), torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        assert fusion.fused(module, images, torch.float32) is None
        forward = features.ready(module, images, device=torch.device("cpu"))
        torch.testing.assert_close(forward.run(images), module(images), rtol=0.05, atol=0.2)


def test_the_precision_is_a_property_of_the_device() -> None:
    assert len({features.precision(torch.device("cpu")) for _ in range(5)}) == 1
