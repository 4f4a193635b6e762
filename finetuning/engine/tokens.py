"""Texts as token numbers: the release's own tokenizer, cut to a length, padded batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from finetuning.engine import features, lone_threads, runtime
from finetuning.engine.events import EventWriter
from finetuning.engine.frameworks import Loaded
from finetuning.engine.frameworks.tokenizer import tokenizer_of
from finetuning.engine.frameworks.transformers_models import max_tokens_of

MAX_TOKENS = 256
LENGTH_PERCENTILE = 95  # longer texts of the training items are cut: padding to the longest costs more than it tells
BATCH = 64
AT_ONCE = 16  # texts that each thread of a CPU takes through the network at a time: a few, or many threads hold much
# A text is cut to this many characters before it is tokenized: 256 tokens never need them, and a text of a
# hundred thousand characters costs as much as a thousand short ones.
MAX_CHARACTERS = 10_000
_RESERVED_POSITIONS = 2  # RoBERTa's kind counts positions from its padding's number on
_POOL = 20  # batches whose texts are sorted by length together
Rows = list[list[int]]


class TextReader:
    """Turns texts into token numbers as one release wants them."""

    def __init__(self, loaded: Loaded, max_tokens: int | None = None) -> None:
        """`max_tokens` counts the special tokens too; None: what the release says, else 256."""
        limit = max_tokens or min(max_tokens_of(loaded) or MAX_TOKENS, MAX_TOKENS)
        positions = int(loaded.config.get("max_position_embeddings", 512)) - _RESERVED_POSITIONS
        self.max_tokens = max(1, min(limit, positions))
        self.padding = int(loaded.config.get("pad_token_id") or 0)
        self._tokenizer = tokenizer_of(loaded)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)

    def rows(self, texts: Sequence[str]) -> Rows:
        """Returns the token numbers of each text, special tokens included."""
        encodings = self._tokenizer.encode_batch_fast([text[:MAX_CHARACTERS] for text in texts])
        return [encoding.ids for encoding in encodings]

    def batch(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Returns token numbers and mask, (N, L) int64 each, padded on the right to the longest row."""
        length = max(len(row) for row in rows)
        ids = torch.full((len(rows), length), self.padding, dtype=torch.int64)
        mask = torch.zeros(len(rows), length, dtype=torch.int64)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = torch.tensor(row, dtype=torch.int64)
            mask[at, : len(row)] = 1
        return ids, mask


def fitted_length(loaded: Loaded, texts: Sequence[str]) -> int:
    """Returns the 95th percentile of the texts' numbers of tokens, at most what the release takes or 256."""
    lengths = [len(row) for row in TextReader(loaded).rows(texts)]
    return int(np.ceil(np.percentile(lengths, LENGTH_PERCENTILE)))


def by_length(rows: Rows, size: int = BATCH) -> list[list[int]]:
    """Returns the positions of the rows in batches of about equal lengths, longest first."""
    order = sorted(range(len(rows)), key=lambda at: (-len(rows[at]), at))
    return [order[start : start + size] for start in range(0, len(order), size)]


def outputs(
    module: nn.Module,
    reader: TextReader,
    rows: Rows,
    *,
    device: torch.device,
    dtype: torch.dtype,
    events: EventWriter | None = None,
    stage: str = "features",
) -> Tensor:
    """Returns what the module gives for each row, (N, D) float32 on the processor, in the order of `rows`."""
    module = module.to(device).eval()

    def computed(positions: Sequence[int]) -> Tensor:
        ids, mask = reader.batch([rows[at] for at in positions])
        with torch.inference_mode(), features.autocast(device, dtype):  # each thread has modes of its own
            return logits_of(module, ids.to(device), mask.to(device)).float().cpu()

    return assembled(over(rows, computed, device=device, events=events, stage=stage), len(rows))


def over(
    rows: Rows,
    compute: Callable[[Sequence[int]], Tensor],
    *,
    device: torch.device,
    events: EventWriter | None = None,
    stage: str = "features",
) -> Iterator[tuple[list[int], Tensor]]:
    """Yields positions of rows of about equal lengths with what `compute` makes of them, on a CPU several at a time in
    threads of their own."""
    done, started, is_cpu = 0, time.perf_counter(), device.type == "cpu"
    groups = by_length(rows, AT_ONCE if is_cpu else BATCH)
    found = lone_threads.each(compute, groups, torch.get_num_threads()) if is_cpu else map(compute, groups)
    for positions, values in zip(groups, found, strict=True):
        runtime.check_stop()
        yield positions, values
        done += len(positions)
        if events is not None:
            events.progress(stage, done, len(rows), rate=done / (time.perf_counter() - started))


def assembled(parts: Iterable[tuple[list[int], Tensor]], count: int) -> Tensor:
    """Returns (count, D): the rows of all parts, each at its position."""
    table: Tensor | None = None
    for positions, values in parts:
        if table is None:
            table = torch.empty(count, values.shape[1])
        table[positions] = values
    return table if table is not None else torch.empty(0, 0)


def logits_of(module: nn.Module, tokens: Tensor, mask: Tensor, *, given: bool = False) -> Tensor:
    """Returns the logits, whether the module is the library's own classifier or ours. `tokens` are numbers (N, L), or if
    `given` states (N, L, D) in place of their embeddings."""
    ids, instead = (None, {"inputs_embeds": tokens}) if given else (tokens, {})
    output = module(input_ids=ids, attention_mask=mask, **instead)
    logits: Tensor = getattr(output, "logits", output)
    return logits


def shuffled(rows: Rows, size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Yields the positions of an epoch's batches: random, but of about equal lengths within each batch, because
    a batch costs as much as its longest text."""
    order = torch.randperm(len(rows), generator=generator).tolist()
    pools = [order[start : start + size * _POOL] for start in range(0, len(order), size * _POOL)]
    batches: list[list[int]] = []
    for pool in pools:
        pool.sort(key=lambda at: len(rows[at]))
        batches += [pool[start : start + size] for start in range(0, len(pool), size)]
    for at in torch.randperm(len(batches), generator=generator).tolist():
        yield batches[at]
