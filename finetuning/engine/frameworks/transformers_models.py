"""Transformers' text encoders and classifiers. Configuration comes from the release, code never."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from finetuning.engine.frameworks import transformers_configs
from finetuning.engine.frameworks.loaded import MULTI_LABEL, Loaded
from finetuning.engine.frameworks.tokenizer import tokenizer_of
from finetuning.engine.frameworks.transformers_configs import transformers
from finetuning.engine.problems import reject
from finetuning.engine.spec import LENGTH_FILE, POOLING_FILE, TOKENIZER_FILES, Framework, Task

ENCODERS = frozenset({"bert", "distilbert", "roberta", "electra", "mpnet", "albert", "deberta-v2", "xlm-roberta"})
# Constant position numbers that older versions of the library saved with the weights.
FORMER_BUFFERS = (
    "embeddings.position_ids",
    *(f"{prefix}.embeddings.position_ids" for prefix in ("bert", "roberta", "electra", "albert", "mpnet")),
)
# What a release carries beside its config and weights.
FILES = (*TOKENIZER_FILES, POOLING_FILE, LENGTH_FILE)
NATIVE_SUFFIX = "ForSequenceClassification"
MEAN, CLS, POOLER = "mean", "cls", "pooler"
_POOLER_CLASSES = {"bert": "BertForSequenceClassification", "albert": "AlbertForSequenceClassification"}
# Sizes that no encoder of these families reaches; a config beyond them would only exhaust the memory.
_LARGEST = {
    "hidden_size": 4096,
    "dim": 4096,
    "embedding_size": 4096,
    "intermediate_size": 32_768,
    "hidden_dim": 32_768,
    "num_hidden_layers": 96,
    "n_layers": 96,
    "vocab_size": 1_000_000,
    "max_position_embeddings": 32_768,
    "type_vocab_size": 64,
}


class PooledClassifier(nn.Module):
    """An encoder, its pooled output, and a linear head. The tensors are named as in the library's own
    classifiers: the encoder under its family's prefix (`bert.`), then `classifier.weight` and `.bias`."""

    def __init__(self, encoder: Any, classes: int, pooling: str) -> None:
        super().__init__()
        config = encoder.config
        self.prefix, self.pooling = encoder.base_model_prefix, pooling
        setattr(self, self.prefix, encoder)
        rate = getattr(config, "classifier_dropout", None)
        self.dropout = nn.Dropout(getattr(config, "hidden_dropout_prob", 0.1) if rate is None else rate)
        self.classifier = nn.Linear(config.hidden_size, classes)

    @property
    def encoder(self) -> Any:
        return getattr(self, self.prefix)

    def forward(self, input_ids: Tensor | None, attention_mask: Tensor, inputs_embeds: Tensor | None = None) -> Tensor:
        """Returns the logits (N, C) of token numbers (N, L), or of states (N, L, D) in place of their embeddings, and their
        mask (N, L), 1 where a token counts."""
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds)
        logits: Tensor = self.classifier(self.dropout(pool(output, attention_mask, self.pooling)))
        return logits


def pool(output: Any, attention_mask: Tensor, pooling: str) -> Tensor:
    """Returns one vector a text, (N, D) float32: the mean over its tokens, the first token's state, or that
    state through the encoder's own pooler."""
    if pooling == POOLER:
        pooled: Tensor = output.pooler_output
        return pooled.float()
    hidden: Tensor = output.last_hidden_state.float()
    if pooling == CLS:
        return hidden[:, 0]
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)


def build(architecture: str, config: dict[str, Any]) -> Loaded:
    """Returns the encoder, or where the config says so the classifier, without weights. Rejects
    (`architecture_unknown`, `config_invalid`)."""
    _check(config)
    is_native = architecture.endswith(NATIVE_SUFFIX)
    classifies = is_native or config.get("problem_type") in (transformers_configs.CLASSIFIES, MULTI_LABEL)
    labels = transformers_configs.labels_in(config) if classifies else ()
    kind: Any = transformers.AutoModelForSequenceClassification if is_native else transformers.AutoModel
    module = transformers_configs.module_from(config, lambda it: kind.from_config(it, trust_remote_code=False))
    if type(module).__name__ != architecture:
        raise reject(
            "architecture_unknown", f"config.json builds a {type(module).__name__}, the listing says {architecture}."
        )
    loaded = Loaded(
        module=module,
        framework=Framework.TRANSFORMERS,
        architecture=architecture,
        task=Task.TEXT_CLASSIFICATION,
        labels=labels,
        config=config,
    )
    if is_native:
        loaded.head_path = [name for name, child in module.named_modules() if isinstance(child, nn.Linear)][-1]
        return loaded
    return with_head(loaded, len(labels)) if labels else loaded


def with_head(loaded: Loaded, classes: int) -> Loaded:
    """Returns the same encoder under a linear head with random weights; a classifier stays as it is."""
    if loaded.head_path:
        return loaded
    pooling = pooling_of(loaded)
    if pooling == POOLER and getattr(loaded.module, "pooler", None) is None:
        raise reject("config_invalid", "config.json asks for the encoder's pooler, and this encoder has none.")
    head = PooledClassifier(loaded.module, classes, pooling)
    changed = loaded.changed(module=head.train(loaded.module.training), labels=loaded.labels)
    changed.head_path = "classifier"
    return changed


def pooling_of(loaded: Loaded) -> str:
    """Returns how the encoder's states become one vector: what config.json says, else the file of
    sentence-transformers, else the mean, which serves frozen encoders best. Rejects (`config_invalid`)."""
    given = loaded.config.get("pooling")
    if given is not None:
        if given not in {MEAN, CLS, POOLER}:
            raise reject("config_invalid", f"config.json: pooling must be {MEAN}, {CLS} or {POOLER}.")
        return str(given)
    modes = _document(loaded.files.get(POOLING_FILE))
    return CLS if modes.get("pooling_mode_cls_token") is True else MEAN


def max_tokens_of(loaded: Loaded) -> int | None:
    """Returns after how many tokens the release cuts a text, or None where it does not say."""
    given = loaded.config.get("max_tokens", _document(loaded.files.get(LENGTH_FILE)).get("max_seq_length"))
    return given if isinstance(given, int) and given > 0 else None


def take_files(loaded: Loaded) -> None:
    """Rejects (`tokenizer_invalid`) a tokenizer that this release cannot use; an encoder may come without."""
    if "tokenizer.json" in loaded.files or "vocab.txt" in loaded.files:
        tokenizer_of(loaded)


def stages(loaded: Loaded) -> list[tuple[str, list[nn.Module]]]:
    """Embeddings, the encoder's layers, head. What else stands in the encoder learns like its embeddings, but
    for the pooler, which belongs to the last layer."""
    module: Any = loaded.module
    encoder = module.encoder if isinstance(module, PooledClassifier) else module.base_model
    layers = list(transformers_configs.layers_of(encoder))
    pooler = getattr(encoder, "pooler", None)
    apart = {id(child) for child in (*layers, pooler)}
    parts = [("embeddings", list(_outside(encoder, apart)))]
    parts += [(f"layer {number}", [layer]) for number, layer in enumerate(layers)]
    parts[-1][1].extend([pooler] if pooler is not None else [])
    head = [child for child in module.children() if child is not encoder]
    return [*parts, ("head", head)] if head else parts


def _outside(module: nn.Module, apart: set[int]) -> Iterator[nn.Module]:
    """Yields the largest parts of the module that hold none of those set apart."""
    for child in module.children():
        if id(child) in apart:
            continue
        if any(id(part) in apart for part in child.modules()):
            yield from _outside(child, apart)
        else:
            yield child


def config(loaded: Loaded) -> dict[str, Any]:
    """Returns the model's own document; a classifier's with its labels, pooling and length inside."""
    if not loaded.head_path:
        return loaded.config
    document = transformers_configs.with_labels(loaded.config, loaded.labels)
    module: Any = loaded.module
    if isinstance(module, PooledClassifier):
        document["pooling"] = module.pooling
        if module.pooling == POOLER and loaded.config["model_type"] in _POOLER_CLASSES:
            document["architectures"] = [_POOLER_CLASSES[loaded.config["model_type"]]]
    return document


def _check(config: dict[str, Any]) -> None:
    kind = config.get("model_type")
    if kind not in ENCODERS:
        raise reject(
            "architecture_unknown", f"Text encoders of these kinds are accepted: {', '.join(sorted(ENCODERS))}."
        )
    transformers_configs.check(config, largest=_LARGEST)


def _document(content: bytes | None) -> dict[str, Any]:
    """Returns the object in a small file of the release, or an empty one where it is no such thing."""
    try:
        document = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
