"""Transformers' text encoders. Configuration comes from the release, code never."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import AutoConfig, AutoModel

from finetuning.engine.frameworks.loaded import Loaded
from finetuning.engine.problems import reject
from finetuning.engine.spec import Framework, Task

ENCODERS = frozenset({"bert", "distilbert", "roberta", "electra", "mpnet", "albert", "deberta-v2", "xlm-roberta"})
# Constant position numbers that older versions of the library saved with the weights.
FORMER_BUFFERS = ("embeddings.position_ids",)
MAX_PARAMETERS_HINT = 4096  # hidden size: more than any encoder of these families has


def build(architecture: str, config: dict[str, Any]) -> Loaded:
    """Returns the encoder without weights. Rejects (`architecture_unknown`, `config_invalid`)."""
    kind = config.get("model_type")
    if kind not in ENCODERS:
        raise reject(
            "architecture_unknown", f"Text encoders of these kinds are accepted: {', '.join(sorted(ENCODERS))}."
        )
    if "auto_map" in config:
        raise reject("config_invalid", "config.json asks for code from the repository (auto_map); this site runs none.")
    if not isinstance(config.get("hidden_size", 1), int) or config.get("hidden_size", 1) > MAX_PARAMETERS_HINT:
        raise reject("config_invalid", "config.json: hidden_size is out of range.")
    values = {key: value for key, value in config.items() if key not in {"model_type", "transformers_version"}}
    module = AutoModel.from_config(AutoConfig.for_model(kind, **values), trust_remote_code=False)
    if type(module).__name__ != architecture:
        raise reject(
            "architecture_unknown", f"config.json builds a {type(module).__name__}, the listing says {architecture}."
        )
    return Loaded(
        module=module,
        framework=Framework.TRANSFORMERS,
        architecture=architecture,
        task=Task.TEXT_CLASSIFICATION,
        config=config,
    )


def stages(loaded: Loaded) -> list[tuple[str, list[nn.Module]]]:
    return [(name, [child]) for name, child in loaded.module.named_children()]


def config(loaded: Loaded) -> dict[str, Any]:
    return loaded.config
