"""What a card says of how a result is loaded whose head reads several stages (docs/adr/0010): no library knows its layout."""

from __future__ import annotations

import json
from typing import Any

from finetuning.engine import spec as engine
from finetuning.models import Run
from finetuning.services import results
from marketplace import storage

_STAGES = "stages"  # `head.kind` of such a release's config.json
_BACKBONES = {
    engine.Framework.TIMM: ("timm", 'timm.create_model(config["architecture"], num_classes=config["num_classes"])'),
    engine.Framework.TORCHVISION: ("torchvision", 'torchvision.models.get_model(config["architecture"])'),
}
# Kept to what the two libraries, torch and safetensors have: a reader pastes it as it is.
_SECTION = """## How to load

The head reads {count} stages of `{library}`'s network, so that `{library}` alone cannot load `{weights}`: it misses its own names
and does not know `backbone.*` and `classifier.*`. This builds the model; images are prepared as `pretrained_cfg` in
`{config}` says, and `label_names` there are its classes.

```python
import json

import {library}
import torch
from safetensors.torch import load_file

folder = "."  # where the files of this release lie
config = json.load(open(f"{{folder}}/{config}", encoding="utf-8"))
tensors, head = load_file(f"{{folder}}/{weights}"), config["head"]
backbone = {create}.eval()
own = {{name[len("backbone."):]: value for name, value in tensors.items() if name.startswith("backbone.")}}
assert not backbone.load_state_dict(own, strict=False).unexpected_keys
seen = []
for name in head["stages"]:
    backbone.get_submodule(name).register_forward_hook(lambda _module, _inputs, output: seen.append(output))
pools = {{"average": lambda cell: cell.mean((2, 3)), "maximum": lambda cell: cell.amax((2, 3))}}


def cells(stage, grid):
    rows, columns = ([slice(i * n // grid, -(-(i + 1) * n // grid)) for i in range(grid)] for n in stage.shape[2:])
    return [stage[:, :, row, column] for row in rows for column in columns]


@torch.inference_mode()
def logits(images):  # (N, 3, S, S) -> (N, classes)
    seen.clear()
    backbone(images)
    parts = [cell for stage in seen for cell in cells(stage, head.get("grid", 1))]
    statistics = head.get("statistics", ["average", "maximum"])
    features = torch.cat([pools[name](cell) for name in statistics for cell in parts], 1)
    return features @ tensors["classifier.weight"].T + tensors["classifier.bias"]
```

A run with the setting `features: last` gives a file that `{library}` loads by itself.

"""


def section(run: Run) -> str:
    """Returns the card's section, or nothing where the framework loads the release as it is."""
    config = results.files_of(run).get(engine.CONFIG_FILE)
    if config is None:
        return ""
    with storage.open_blob(config.sha256) as file:
        return instructions(run.release.listing.framework, json.load(file))


def instructions(framework: str, config: dict[str, Any]) -> str:
    """Returns the section for a release of this `config.json`."""
    head = config.get("head") or {}
    if framework not in _BACKBONES or head.get("kind") != _STAGES:
        return ""
    library, create = _BACKBONES[engine.Framework(framework)]
    return _SECTION.format(
        count=len(head["stages"]),
        library=library,
        create=create,
        weights=engine.WEIGHTS_FILE,
        config=engine.CONFIG_FILE,
    )
