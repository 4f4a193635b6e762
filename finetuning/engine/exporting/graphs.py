"""The parts of an ONNX graph: a network as torch's exporters write it, and what is written by hand around it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
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


class Exporter(StrEnum):
    """Which of torch's two exporters wrote the network."""

    DYNAMO = "dynamo"
    TORCHSCRIPT = "torchscript"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A graph, and who wrote the network in it."""

    model: onnx.ModelProto
    exporter: Exporter


def network(
    loaded: Loaded,
    module: nn.Module,
    sample: dict[str, Tensor],
    outputs: Sequence[str],
    dynamic: dict[str, dict[int, str]] | None = None,
) -> Drawn:
    """Returns the module as a graph of the named inputs (in the order of `forward`) and outputs. `dynamic` names
    the dimensions of inputs that may have any size; all others are those of `sample`.

    Raises UserFault (`export_unsupported`) where neither exporter knows every operation, or where the weights
    are larger than an ONNX file can be."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    if size > MAX_BYTES:
        raise UserFault("export_unsupported", f"The weights take {size / 2**30:.1f} GiB; an ONNX file holds 2 GiB.")
    faults = []
    for exporter, write in ((Exporter.DYNAMO, _by_dynamo), (Exporter.TORCHSCRIPT, _by_torchscript)):
        try:
            with warnings.catch_warnings(), torch.inference_mode():
                warnings.simplefilter("ignore")  # what the exporters say to their own developers
                model = write(module.eval(), sample, outputs, dynamic or {})
            model.ir_version = IR_VERSION
            _forget_origins(model)
            return Drawn(compose.add_prefix(model, "network/", rename_inputs=False, rename_outputs=False), exporter)
        except Exception as error:  # each of their many stages raises what it likes
            faults.append(f"{exporter}: {_first_line(error)}")
    raise UserFault(
        "export_unsupported", f"{loaded.architecture} uses operations that ONNX export does not know.", faults
    )


def _by_dynamo(
    module: nn.Module, sample: dict[str, Tensor], outputs: Sequence[str], dynamic: dict[str, dict[int, str]]
) -> onnx.ModelProto:
    shapes: Any = tuple(dict.fromkeys(dynamic.get(name, {}), torch.export.Dim.DYNAMIC) for name in sample)
    program = torch.onnx.export(
        module,
        tuple(sample.values()),
        dynamo=True,
        opset_version=OPSET,
        input_names=list(sample),
        output_names=list(outputs),
        dynamic_shapes=shapes if dynamic else None,
        external_data=False,
        verbose=False,
    )
    assert program is not None  # noqa: S101 - None is returned by the other exporter alone
    model: onnx.ModelProto = program.model_proto
    if model.opset_import[0].version != OPSET:  # where no conversion down from the exporter's own exists
        raise ValueError(f"opset {model.opset_import[0].version}")
    return model


def _by_torchscript(
    module: nn.Module, sample: dict[str, Tensor], outputs: Sequence[str], dynamic: dict[str, dict[int, str]]
) -> onnx.ModelProto:
    buffer = io.BytesIO()
    torch.onnx.export(
        module,
        tuple(sample.values()),
        buffer,  # type: ignore[arg-type]  # this exporter writes into buffers too
        dynamo=False,
        opset_version=OPSET,
        input_names=list(sample),
        output_names=list(outputs),
        dynamic_axes=dynamic or None,
    )
    return onnx.load_model_from_string(buffer.getvalue())


def _forget_origins(model: onnx.ModelProto) -> None:
    """Removes what the exporters note of every node: source lines and paths of this machine."""
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
