from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from finetuning.engine.imports import torchvision_without_compiler

torchvision_without_compiler()
import torch
from torchvision.ops import roi_align

assert not [name for name in sys.modules if name.startswith("torch._dynamo")]
boxes = torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]])
pooled = roi_align(torch.ones(1, 1, 8, 8), boxes, output_size=2)

from torchvision.ops.roi_align import is_compile_supported
from torch._dynamo.utils import is_compile_supported as asked

assert asked is not is_compile_supported
assert is_compile_supported("cpu") == asked("cpu")
print(pooled.flatten().tolist())
"""


def test_torchvision_works_without_the_compiler_which_whoever_needs_it_still_gets() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)

    assert done.stdout == "[1.0, 1.0, 1.0, 1.0]\n", done.stderr
