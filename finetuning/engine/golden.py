"""A fixed input and the output that these weights give for it: the pair that proves a copy unchanged."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from finetuning.engine import weights
from finetuning.engine.frameworks import Loaded, detectors
from finetuning.engine.problems import reject
from finetuning.engine.spec import GOLDEN_FILE, Preprocessing, Task

SEED = 20_240_101
# timm compares its stored pairs at rtol 1e-3, atol 1e-4; other processors round in another order.
RTOL, ATOL = 1e-3, 1e-4
TOKENS = 16


def inputs_for(loaded: Loaded) -> dict[str, Tensor]:
    """Returns the seeded input: `input` (1, 3, S, S) float32, or `input_ids`, `attention_mask` (1, L)."""
    generator = torch.Generator().manual_seed(SEED)
    if loaded.task is Task.TEXT_CLASSIFICATION:
        vocabulary = int(loaded.config.get("vocab_size", 1000))
        ids = torch.randint(0, vocabulary, (1, TOKENS), generator=generator)
        return {"input_ids": ids, "attention_mask": torch.ones(1, TOKENS, dtype=torch.int64)}
    size = (loaded.preprocessing or Preprocessing()).size
    return {"input": torch.randn(1, 3, size, size, generator=generator)}


@torch.inference_mode()
def output_of(loaded: Loaded, inputs: dict[str, Tensor]) -> Tensor:
    """Returns `forward` without gradients."""
    return forward(loaded, inputs)


def forward(loaded: Loaded, inputs: dict[str, Tensor]) -> Tensor:
    """Returns the logits (1, C), for a segmenter (1, C, S, S), for an encoder without a head the mean of its last
    hidden states (1, D), for a detector what its heads say before boxes are chosen (1, M)."""
    if "input_ids" in inputs:
        output = loaded.module(**inputs)
        if loaded.head_path:
            logits: Tensor = getattr(output, "logits", output)
            return logits
        hidden: Tensor = output.last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        return (hidden * mask).sum(1) / mask.sum(1)
    if loaded.task is Task.OBJECT_DETECTION:
        return detectors.raw_outputs(loaded.module, inputs["input"])
    result = loaded.module(inputs["input"])
    scores: Tensor = result["out"] if isinstance(result, dict) else result
    return scores


def compute(loaded: Loaded) -> dict[str, Tensor]:
    inputs = inputs_for(loaded)
    return {**inputs, "output": output_of(loaded, inputs)}


def compare(loaded: Loaded, path: Path) -> float:
    """Returns the largest absolute difference to the stored output. Rejects (`golden_mismatch`)."""
    stored = weights.load_tensors(path)
    expected = inputs_for(loaded)
    if "output" not in stored or not set(expected) <= set(stored):
        raise reject("golden_mismatch", f"{GOLDEN_FILE} needs the tensors {', '.join([*expected, 'output'])}.")
    inputs = {name: stored[name] for name in expected}
    for name, tensor in inputs.items():
        if tensor.dim() != expected[name].dim() or tensor.numel() > 4 * max(expected[name].numel(), 3 * 1024**2):
            raise reject("golden_mismatch", f"{GOLDEN_FILE}: {name} has an unexpected shape.")
    try:
        output = output_of(loaded, inputs)
    except (RuntimeError, IndexError) as error:
        raise reject("golden_mismatch", f"{GOLDEN_FILE}: the model cannot read its input.") from error
    if output.shape != stored["output"].shape:
        raise reject("golden_mismatch", f"{GOLDEN_FILE}: the output's shape differs from the model's.")
    difference = (output - stored["output"]).abs().max().item()
    if not torch.allclose(output, stored["output"].float(), rtol=RTOL, atol=ATOL):
        raise reject("golden_mismatch", f"The model's output differs from {GOLDEN_FILE} by up to {difference:.2g}.")
    return difference
