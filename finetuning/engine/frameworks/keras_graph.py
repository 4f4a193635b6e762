"""A Keras model as a torch module: Keras computes each layer, torch holds the numbers.

The layers' variables become the module's own parameters and buffers, and Keras is called without state
(`Layer.stateless_call`), so that freezing, copying, averaging, checkpoints and devices work as for any other module.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from finetuning.engine.frameworks.keras_library import keras

_DROPS = ("Dropout", "SpatialDropout2D")


@dataclass(frozen=True, slots=True)
class Ref:
    """The value that step `number` computes; 0 is the model's input."""

    number: int


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a layer. `path` names it from the outermost model on; `args` and `kwargs` hold Refs."""

    number: int
    path: tuple[str, ...]
    layer: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def kind(self) -> str:
        return type(self.layer).__name__


def steps_of(model: Any) -> list[Step]:
    """Returns the calls of the model's layers in an order that can be computed, nested models taken apart."""
    steps: list[Step] = []

    def run(nested: Any, given: Any, path: tuple[str, ...]) -> Any:
        inner = getattr(nested, "_functional", None) or nested  # what a Sequential is made of

        def calling(layer: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                place = (*path, layer.name)
                if isinstance(layer, keras.Model):
                    return run(layer, args[0], place)
                # What a call says of these counts only where the model's caller says nothing.
                kept = {name: value for name, value in kwargs.items() if name not in {"training", "mask"}}
                step = Step(len(steps) + 1, place, layer, args, kept)
                steps.append(step)
                return Ref(step.number)

            return call

        # Keras' own walk: which call reads what is told by its file in a way that only Keras knows.
        return inner._run_through_graph(given, operation_fn=calling)  # noqa: SLF001 - there is no public walk

    run(model, Ref(0), ())
    return steps


class _Held:
    """Keeps a Keras layer out of torch's sight: copies of a module share it, for it holds no state that counts."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def __deepcopy__(self, _memo: dict[int, Any]) -> _Held:
        return self


class Leaf(nn.Module):
    """One layer of Keras with its numbers: trainable variables are parameters, statistics are buffers. A batch norm
    follows this module's mode; everything else computes as at inference, but for `Drop`."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self._held = _Held(layer)
        self.is_norm = type(layer).__name__ == "BatchNormalization"
        self._takes_training = "training" in inspect.signature(layer.call).parameters
        self.trainable, self.statistics = [], []
        for variable, name in zip(layer.trainable_variables, _names(layer.trainable_variables), strict=True):
            self.register_parameter(name, nn.Parameter(variable.value.detach().clone()))
            self.trainable.append(name)
        for variable, name in zip(layer.non_trainable_variables, _names(layer.non_trainable_variables), strict=True):
            self.register_buffer(name, variable.value.detach().clone())
            self.statistics.append(name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self._takes_training:
            kwargs["training"] = self.is_norm and self.training
        outputs, updated = self._held.layer.stateless_call(
            [getattr(self, name) for name in self.trainable],
            [getattr(self, name) for name in self.statistics],
            *args,
            **kwargs,
        )
        if self.is_norm and self.training:
            with torch.no_grad():
                for name, value in zip(self.statistics, updated, strict=True):
                    getattr(self, name).copy_(value)
        return outputs


class Drop(nn.Module):
    """Dropout by torch's generator, which the loop seeds at each step; a mask's side of 1 drops the whole side."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.rate = float(layer.rate)
        spatial = type(layer).__name__ == "SpatialDropout2D"
        self.shape = (None, 1, 1, None) if spatial else layer.noise_shape

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return inputs
        shape = (
            inputs.shape
            if self.shape is None
            else [own if wish is None else wish for own, wish in zip(inputs.shape, self.shape, strict=True)]
        )
        return inputs * functional.dropout(inputs.new_ones(tuple(shape)), self.rate)


def _names(variables: Sequence[Any]) -> list[str]:
    """Returns a name for each variable that torch takes and that tells where in its layer it is."""
    names: list[str] = []
    for variable in variables:
        name = re.sub(r"\W", "_", variable.path.partition("/")[2] or variable.name)
        names.append(name if name not in names else f"{name}_{len(names)}")
    return [
        f"seed_{name}" if "int" in str(variable.dtype) else name
        for name, variable in zip(names, variables, strict=True)
    ]


class Segment(nn.Module):
    """A stretch of the model that reads one value and gives one: `steps` are (layer's key, args, kwargs, number)."""

    def __init__(self, steps: Sequence[Step], leaves: dict[int, tuple[str, nn.Module]], reads: int) -> None:
        super().__init__()
        self.reads = reads
        self.layers = nn.ModuleDict(dict(leaves[id(step.layer)] for step in steps))
        self._steps = [(leaves[id(step.layer)][0], step.args, step.kwargs, step.number) for step in steps]

    def forward(self, value: Any) -> Any:
        values: dict[int, Any] = {self.reads: value}
        for key, args, kwargs, number in self._steps:
            values[number] = self.layers[key](*_filled(args, values), **_filled(kwargs, values))
        return values[self._steps[-1][-1]]


def _filled(template: Any, values: dict[int, Any]) -> Any:
    if isinstance(template, Ref):
        return values[template.number]
    if isinstance(template, dict):
        return {key: _filled(entry, values) for key, entry in template.items()}
    if isinstance(template, list | tuple):
        return type(template)(_filled(entry, values) for entry in template)
    return template


def _refs(template: Any) -> Iterable[int]:
    if isinstance(template, Ref):
        yield template.number
    elif isinstance(template, dict | list | tuple):
        for entry in template.values() if isinstance(template, dict) else template:
            yield from _refs(entry)


def segments_of(steps: Sequence[Step]) -> list[Segment]:
    """Returns the steps cut wherever a single value goes on, each layer with its numbers as they stand in Keras."""
    leaves: dict[int, tuple[str, nn.Module]] = {}
    for step in steps:
        if id(step.layer) not in leaves:
            made = Drop(step.layer) if step.kind in _DROPS else Leaf(step.layer)
            leaves[id(step.layer)] = f"{len(leaves):03d}_{re.sub(r'[^0-9A-Za-z_]', '_', step.layer.name)}", made
    last_use = {number: step.number for step in steps for number in _refs([step.args, step.kwargs])}
    segments, waiting, reads = [], [], 0
    for step in steps:
        waiting.append(step)
        inside = [reads, *(other.number for other in waiting[:-1])]
        if all(last_use.get(number, 0) <= step.number for number in inside):
            segments.append(Segment(waiting, leaves, reads))
            waiting, reads = [], step.number
    return segments


class ToChannelsLast(nn.Module):
    """(N, C, H, W), as every framework here is given its images, -> (N, H, W, C), as Keras reads them."""

    def forward(self, images: Tensor) -> Tensor:
        return images.permute(0, 2, 3, 1)


class KerasClassifier(nn.Module):
    """(N, 3, H, W) -> logits (N, C): the model up to its last Dense, whose place a linear layer of torch takes.
    `document` is Keras' description of the model as bought, `head` the path of that Dense in it."""

    def __init__(
        self, segments: Sequence[Segment], classifier: nn.Linear, *, document: dict[str, Any], head: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.document, self.head = document, head
        self.entry: nn.Module = ToChannelsLast()
        self.body = nn.Sequential(*segments)
        self.classifier: nn.Module = classifier

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.body(self.entry(images)))
        return logits
