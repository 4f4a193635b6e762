"""The code that a card gives for a head that reads several stages loads the release and answers as it does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from finetuning.engine import frameworks
from finetuning.engine.frameworks.stage_head import GRID, PLAIN, Pooling
from finetuning.engine.spec import CONFIG_FILE, Framework
from finetuning.services import loading

SIDE = 64
CONFIG = {
    "num_classes": 3,
    "label_names": list("abc"),
    "pretrained_cfg": {"input_size": [3, SIDE, SIDE], "crop_pct": 1.0},
}


@pytest.mark.parametrize(
    ("framework", "architecture", "pooling"),
    [
        (Framework.TIMM, "test_efficientnet", PLAIN),
        (Framework.TIMM, "test_efficientnet", GRID),
        (Framework.TORCHVISION, "mobilenet_v3_small", PLAIN),
    ],
)
def test_the_code_on_the_card_answers_as_the_release_does(
    tmp_path: Path, framework: Framework, architecture: str, pooling: Pooling
) -> None:
    torch.manual_seed(0)
    plain = frameworks.build(framework, architecture, {**CONFIG, "architecture": architecture})
    loaded = frameworks.with_stage_head(plain, pooling)
    frameworks.write_release(tmp_path, loaded)
    images = torch.rand(2, 3, SIDE, SIDE)
    text = loading.instructions(framework, json.loads((tmp_path / CONFIG_FILE).read_text()))

    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1].replace('folder = "."', f"folder = {str(tmp_path)!r}"), names)  # noqa: S102 - it is ours
    with torch.inference_mode():
        expected = loaded.module.eval()(images)

    assert torch.allclose(names["logits"](images), expected, atol=1e-5)
    assert "loads by itself" in text.replace("\n", " ")
    assert "features: last" in text


def test_what_its_library_loads_needs_no_words() -> None:
    assert loading.instructions(Framework.TIMM, {"architecture": "x"}) == ""
    assert loading.instructions(Framework.KERAS, {"head": {"kind": "stages", "stages": ["a"]}}) == ""
