"""The frozen layers of a text encoder, cut off so that they are computed once for each text and never again.

As in `boundary`, both halves are made from the module itself and compared with it: where they do not make the whole,
there is no cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from finetuning.engine import features
from finetuning.engine.activations import CACHE_FILE, MAX_CACHE_BYTES, ActivationCache
from finetuning.engine.boundary import TOLERANCE, Cut, Prefix, without
from finetuning.engine.events import EventWriter
from finetuning.engine.strategies import Stages
from finetuning.engine.tokens import Rows, TextReader, logits_of, over

FEWEST_STAGES = 2  # that a cut is worth: embeddings, the first stage, alone cost next to nothing


class _Given(nn.Module):
    """Stands for embeddings: gives back the states that the encoder was given in their place, (N, L, D)."""

    def forward(self, *arguments: Any, **named: Any) -> Tensor:
        values = (*arguments, *named.values())
        return next(value for value in values if isinstance(value, Tensor) and value.dim() == 3)


class _Passed(nn.Module):
    """Stands for a layer: gives back the states, alone or as the first of `length` results as the layer does."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._length = length

    def forward(self, hidden_states: Tensor, *_arguments: Any, **_named: Any) -> Tensor | tuple[Tensor | None, ...]:
        return (hidden_states, *[None] * (self._length - 1)) if self._length else hidden_states


# By the names that every family of encoders gives them; a projection follows embeddings of another width than the layers.
_STAND_INS: dict[str, Callable[[], nn.Module]] = {"embeddings": _Given, "embeddings_project": nn.Identity}
# What an encoder raises that no cut fits.
_NO_CUT = (AttributeError, LookupError, RuntimeError, StopIteration, TypeError, ValueError)


@torch.inference_mode()
def cut(module: nn.Module, stages: Stages, boundary: int, ids: Tensor, mask: Tensor) -> Cut | None:
    """Returns the encoder cut before stage number `boundary`, or None where the halves do not make the whole for the
    token numbers and mask, (N, L) each, and where fewer than FEWEST_STAGES would be left out.

    The prefix takes numbers and mask and gives states (N, L, D); the suffix takes `inputs_embeds`, these, and
    `attention_mask`, and shares the trainable modules with the network it was cut from."""
    if boundary < FEWEST_STAGES:
        return None
    first = stages[boundary][1][0]
    layers = [child for _, modules in stages[1:boundary] for child in modules]
    stand_ins: dict[nn.Module, nn.Module] = {}

    def note(layer: nn.Module, _inputs: Any, result: Any) -> None:
        stand_ins[layer] = _Passed(len(result) if isinstance(result, tuple) else 0)

    hooks = [layer.register_forward_hook(note) for layer in layers]
    training = module.training
    module.eval()
    try:
        prefix, wanted = Prefix(module, first), logits_of(module, ids, mask)
        for name, child in module.named_modules():
            own = name.rpartition(".")[2]
            if own in _STAND_INS:
                stand_ins[child] = _STAND_INS[own]()
        shared = [child for _, modules in stages[boundary:] for child in modules]
        suffix = without(module, stand_ins, sharing=shared, stand_in=stand_ins.__getitem__)
        suffix.eval()
        got = logits_of(suffix, prefix(input_ids=ids, attention_mask=mask), mask, given=True)
        difference = (got - wanted).norm() / wanted.norm().clamp(min=1e-12)
    except _NO_CUT:
        return None
    finally:
        for hook in hooks:
            hook.remove()
        module.train(training)
    return Cut(prefix, suffix) if difference <= TOLERANCE else None


class States:
    """What frozen layers give for each token of some texts, in one memory-mapped file."""

    def __init__(self, path: Path, rows: Rows, *, width: int, dtype: torch.dtype) -> None:
        self._lengths = [len(row) for row in rows]
        self._starts = [0, *accumulate(self._lengths)]
        self._width = width
        self._cache = ActivationCache(path, items=max(1, self._starts[-1]), views=1, shape=(width,), dtype=dtype)

    @property
    def bytes(self) -> int:
        return self._cache.bytes

    def put(self, positions: Sequence[int], states: Tensor) -> None:
        """Keeps (N, L, D): those of the texts at these positions, padded on the right."""
        for position, row in zip(positions, states, strict=True):
            self._cache.put(0, self._starts[position], row[: self._lengths[position]])

    def batch(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Returns states (N, L, D) float32 and mask (N, L) int64, padded on the right to the longest text."""
        lengths = [self._lengths[position] for position in positions]
        places = [at for position in positions for at in range(self._starts[position], self._starts[position + 1])]
        mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
        states = torch.zeros(*mask.shape, self._width)
        states[mask.bool()] = self._cache.get(0, places)
        return states, mask


@dataclass(frozen=True, slots=True)
class Frozen:
    """The states of the training and of the validation texts."""

    training: States
    validation: States

    @property
    def bytes(self) -> int:
        return self.training.bytes + self.validation.bytes


def computed(
    prefix: nn.Module,
    reader: TextReader,
    rows: tuple[Rows, Rows],
    *,
    device: torch.device,
    run_dir: Path,
    events: EventWriter,
) -> Frozen | None:
    """Runs the frozen `prefix` once over the texts of training and of validation. Returns None, and says why in the
    events, where their states would take more disk than `MAX_CACHE_BYTES`."""
    dtype = features.precision(device)
    prefix = prefix.to(device).eval()

    def forward(own: Rows, positions: Sequence[int]) -> Tensor:
        ids, mask = reader.batch([own[at] for at in positions])
        with torch.inference_mode(), features.autocast(device, dtype):
            states: Tensor = prefix(input_ids=ids.to(device), attention_mask=mask.to(device))
            return states.to("cpu", dtype)

    width = forward(rows[0], [0]).shape[2]
    size = width * dtype.itemsize * sum(len(row) for own in rows for row in own)
    if size > MAX_CACHE_BYTES:
        events.log(f"The frozen layers' states would take {size / 2**30:.0f} GiB: they are computed in every epoch.")
        return None
    events.stage("hidden_states", "Computing the frozen layers once")
    kept = []
    for own, told in zip(rows, (events, None), strict=True):  # one that is told of in two parts would begin again
        states = States(run_dir / CACHE_FILE, own, width=width, dtype=dtype)
        for positions, values in over(own, partial(forward, own), device=device, events=told, stage="hidden_states"):
            states.put(positions, values)
        kept.append(states)
    return Frozen(*kept)
