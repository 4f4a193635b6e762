"""Text classifiers: token numbers in, logits, probabilities and class out. The tokenizer stays outside: ONNX has no
operators for it."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from finetuning.engine.events import EventWriter
from finetuning.engine.exporting import classes, graphs, parity
from finetuning.engine.exporting.parity import Parity
from finetuning.engine.frameworks import Loaded
from finetuning.engine.packs import Item, PackReader
from finetuning.engine.tokens import TextReader, logits_of

_SAMPLE = (2, 16)  # texts and tokens while the network is traced; both may have any number afterwards
_AXES = {0: "texts", 1: "tokens"}


class _Logits(nn.Module):
    """The library's own classifiers and ours, called alike: (N, L) int64 twice -> (N, C)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return logits_of(self.module, input_ids, attention_mask)


def build(loaded: Loaded) -> onnx.ModelProto:
    """Returns (input_ids (texts, tokens), attention_mask (texts, tokens), int64) => (logits (texts, C),
    probabilities (texts, C), class_index (texts,) or found (texts, C)). Raises UserFault (`export_unsupported`)."""
    ids, mask = torch.ones(_SAMPLE, dtype=torch.int64), torch.ones(_SAMPLE, dtype=torch.int64)
    mask[1, _SAMPLE[1] // 2 :] = 0
    network = graphs.network(
        loaded,
        _Logits(loaded.module),
        {"input_ids": ids, "attention_mask": mask},
        ["scores"],
        dynamic={"input_ids": _AXES, "attention_mask": _AXES},
    )
    answer = classes.answer(loaded, batch=_AXES[0])
    return graphs.joined(network, answer, classes.outputs(loaded))


def notes(loaded: Loaded) -> dict[str, str]:
    """Returns what a client must know to make token numbers of a text."""
    reader = TextReader(loaded)
    return {
        "input": "token numbers of the release's tokenizer, special tokens included, padded on the right",
        "max_tokens": str(reader.max_tokens),
        "padding": str(reader.padding),
        **classes.notes(loaded),
    }


@torch.inference_mode()
def compare(
    loaded: Loaded,
    session: onnxruntime.InferenceSession,
    _pack: PackReader,
    items: Sequence[Item],
    events: EventWriter,
) -> Parity:
    """Compares with what `serve` answers: the network in float32 on one text at a time. The file is given the same
    texts side by side, padded, as a client would for speed."""
    reader, module = TextReader(loaded), loaded.module.eval()
    found = Parity(classes.unit(loaded))
    for part in parity.chunks(items, events):
        rows = reader.rows([item.text for item in part])
        wanted = torch.cat([logits_of(module, *reader.batch([row])) for row in rows])
        ids, mask = reader.batch(rows)
        given = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        classes.tally(found, loaded, wanted, session.run(list(classes.outputs(loaded)), given))
    return found
