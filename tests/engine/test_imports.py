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


def assert_prints_the_same_with_the_compiler(program: str) -> None:
    without = program.replace("PLAIN", "False")
    plain = program.replace("imports.without_compiler()", "").replace("PLAIN", "True")
    found = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        for script in (without, plain)
    ]

    assert found[0].stdout, found[0].stderr
    assert found[0].stdout == found[1].stdout, found[1].stderr


TRAINING = """
import sys
from finetuning.engine import imports

imports.without_compiler()
import torch
from torch import nn

losses = []
for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
    torch.manual_seed(0)
    layer = nn.Linear(3, 1)
    optimizer = kind(layer.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    for _ in range(4):
        optimizer.zero_grad()
        loss = layer(torch.ones(2, 3)).square().mean()
        loss.backward()
        optimizer.step()
        schedule.step()
    optimizer.load_state_dict(optimizer.state_dict())
    losses.append(loss.item())
if PLAIN:
    assert "torch._dynamo" in sys.modules
else:
    import timm
    from torchvision.transforms import v2

    assert "torch._dynamo" not in sys.modules
    assert torch.compile(nn.Linear(3, 1), backend="eager")(torch.ones(2, 3)).shape == (2, 1)
print(losses)
"""


def test_optimizers_take_the_same_steps_without_the_compiler_which_can_still_be_had() -> None:
    assert_prints_the_same_with_the_compiler(TRAINING)


ENCODING = """
import sys
from finetuning.engine import imports

imports.without_compiler()
import torch
from finetuning.engine.frameworks.transformers_configs import transformers

found = []
for family, kind in (("Bert", "SequenceClassification"), ("ViT", "ImageClassification")):
    torch.manual_seed(0)
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)
    config = getattr(transformers, f"{family}Config")(**sizes)
    model = getattr(transformers, f"{family}For{kind}")(config).eval()
    if family == "Bert":
        ids = torch.arange(8).reshape(2, 4) + 1
        found += model(input_ids=ids, attention_mask=torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])).logits.tolist()
    else:
        found += model(pixel_values=torch.ones(1, 3, 224, 224)).logits.tolist()
from finetuning.engine.frameworks import transformers_models

made = transformers_models.build("BertModel", {"model_type": "bert", **sizes}).module  # its sizes are counted first
assert float(made.embeddings.word_embeddings.weight.std()) > 0
loaded = {"torch._dynamo", "torch.distributed.tensor"} & sys.modules.keys()
assert bool(loaded) is PLAIN, loaded
mark = transformers.masking_utils.TransformGetItemToIndex()
with mark:
    assert torch.compile(torch.nn.Linear(3, 1), backend="eager")(torch.ones(2, 3)).shape == (2, 1)
import torch._dynamo

assert isinstance(mark, torch._dynamo._trace_wrapped_higher_order_op.TransformGetItemToIndex)
print(found)
"""


def test_transformers_answers_the_same_without_the_compiler_which_can_still_be_had() -> None:
    assert_prints_the_same_with_the_compiler(ENCODING)
