"""timm's image classifiers."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from finetuning.engine.frameworks.loaded import Loaded, hub_config, labels_in, preprocessing_in
from finetuning.engine.problems import reject
from finetuning.engine.spec import Framework, Task


def build(architecture: str, config: dict[str, Any]) -> Loaded:
    """Returns the named model without weights. Rejects (`architecture_unknown`, `config_invalid`)."""
    if not timm.is_model(architecture):
        raise reject("architecture_unknown", f"timm has no model named {architecture}.")
    if config.get("architecture", architecture) != architecture:
        raise reject("config_invalid", f"config.json names {config['architecture']!r}, the listing {architecture!r}.")
    labels = labels_in(config)
    module = timm.create_model(architecture, pretrained=False, num_classes=len(labels))
    settings: Any = module.pretrained_cfg
    head_path = settings.get("classifier") or "classifier"
    return Loaded(
        module=module,
        framework=Framework.TIMM,
        architecture=architecture,
        task=Task.IMAGE_CLASSIFICATION,
        labels=labels,
        preprocessing=preprocessing_in(config),
        head_path=head_path if isinstance(head_path, str) else head_path[0],
        config=config,
    )


def stages(loaded: Loaded) -> list[tuple[str, list[nn.Module]]]:
    """Stem, the model's own stages, head. What stands between the last stage and the head belongs to it."""
    module = loaded.module
    blocks_name = next((name for name in ("blocks", "stages", "layers") if hasattr(module, name)), None)
    if blocks_name is None:
        body = [child for name, child in module.named_children() if not loaded.head_path.startswith(name)]
        return [("body", body), ("head", [module.get_submodule(loaded.head_path)])]
    names = [name for name, _ in module.named_children()]
    position = names.index(blocks_name)
    head_top = loaded.head_path.partition(".")[0]
    stem = [module.get_submodule(name) for name in names[:position]]
    tail = [module.get_submodule(name) for name in names[position + 1 :] if name != head_top]
    stages_ = [(f"stage {index}", [block]) for index, block in enumerate(module.get_submodule(blocks_name).children())]
    stages_[-1][1].extend(tail)
    return [("stem", stem), *stages_, ("head", [module.get_submodule(head_top)])]


def config(loaded: Loaded) -> dict[str, Any]:
    return hub_config(loaded)
