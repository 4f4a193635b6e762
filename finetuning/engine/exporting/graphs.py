"""The parts of an ONNX graph: a network as torch's exporter writes it, and what is written by hand around it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import onnx
import torch
from onnx import compose, parser
from torch import Tensor, nn

from finetuning.engine.failures import UserFault
from finetuning.engine.frameworks import Loaded

OPSET = 18  # the first whose Resize can antialias
IR_VERSION = 10  # what onnxruntime reads since 1.18 (May 2024)
MAX_BYTES = 2**31 - 2**20  # protobuf's limit of one message, less room for the graph itself


def network(
    loaded: Loaded,
    module: nn.Module,
    sample: dict[str, Tensor],
    outputs: Sequence[str],
    dynamic: dict[str, dict[int, str]] | None = None,
) -> onnx.ModelProto:
    """Returns the module as a graph of the named inputs (in the order of `forward`) and outputs. `dynamic` names
    the dimensions of inputs that may have any size; all others are those of `sample`.

    Raises UserFault (`export_unsupported`) where the exporter does not know every operation, or where the weights
    are larger than an ONNX file can be."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    if size > MAX_BYTES:
        raise UserFault("export_unsupported", f"The weights take {size / 2**30:.1f} GiB; an ONNX file holds 2 GiB.")
    shapes: Any = tuple(dict.fromkeys((dynamic or {}).get(name, {}), torch.export.Dim.DYNAMIC) for name in sample)
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # what the exporter says to its own developers
            program = torch.onnx.export(
                module.eval(),
                tuple(sample.values()),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(sample),
                output_names=list(outputs),
                dynamic_shapes=shapes if dynamic else None,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # each of the exporter's many stages raises what it likes
        message = f"{loaded.architecture} uses operations that ONNX export does not know."
        raise UserFault("export_unsupported", message, [_first_line(error)]) from error
    assert program is not None  # noqa: S101 - only the older exporter returns None
    model: onnx.ModelProto = program.model_proto
    model.ir_version = IR_VERSION
    _forget_origins(model)
    return compose.add_prefix(model, "network/", rename_inputs=False, rename_outputs=False)


def _forget_origins(model: onnx.ModelProto) -> None:
    """Removes what the exporter notes of every node: source lines and paths of this machine."""
    model.graph.ClearField("doc_string")
    model.graph.ClearField("metadata_props")
    for entry in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        entry.ClearField("doc_string")
        entry.ClearField("metadata_props")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def written(name: str, signature: str, body: str) -> onnx.ModelProto:
    """Returns a graph from ONNX's own text form: `signature` is `(inputs) => (outputs)`."""
    text = f'<ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}]>\n{name} {signature} {{\n{body}\n}}'
    graph: onnx.ModelProto = parser.parse_model(text)
    return compose.add_prefix(graph, f"{name}/", rename_inputs=False, rename_outputs=False)


def joined(first: onnx.ModelProto, second: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """Returns both as one graph: outputs of the first feed the inputs of the second that have their names, and
    `outputs` of either remain."""
    given = {entry.name for entry in first.graph.output}
    wires = [(entry.name, entry.name) for entry in second.graph.input if entry.name in given]
    own = {entry.name for entry in second.graph.output}
    return compose.merge_models(first, second, io_map=wires, outputs=[name for name in outputs if name in own | given])
