"""Keras' image classifiers: one `.keras` file in, one out, its own preprocessing kept inside.

The release's `model.keras` says what the network is, our config.json beside it what its classes are called and how
an image becomes its input.
"""

from __future__ import annotations

import copy
import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from finetuning.engine import results
from finetuning.engine.frameworks import keras_files
from finetuning.engine.frameworks.keras_graph import KerasClassifier, Leaf, Step, segments_of, steps_of
from finetuning.engine.frameworks.keras_library import keras
from finetuning.engine.frameworks.loaded import Loaded, hub_config, labels_in, preprocessing_in
from finetuning.engine.problems import Rejected, reject
from finetuning.engine.spec import KERAS_FILE, Framework, Preprocessing, Task

MAX_PARAMETERS = 2 * 10**9
MAX_ACTIVATION = 2**28  # numbers that one layer gives for one image: 1 GiB in float32
_SIDE = 224  # pixels, where neither the file nor config.json says
_PIXELS = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))  # stored values, 0 to 255


def read_release(directory: Path, architecture: str, config: dict[str, Any]) -> Loaded:
    """Returns the model with its weights, its last layer a linear layer of torch. Rejects (`weights_missing`,
    `config_invalid`, `keras_...`, `keys_mismatch`, `shape_mismatch`, `non_finite`)."""
    if config.get("architecture", architecture) != architecture:
        raise reject("config_invalid", f"config.json names {config['architecture']!r}, the listing {architecture!r}.")
    labels = labels_in(config)
    if not (directory / KERAS_FILE).is_file():
        raise reject("weights_missing", f"Upload {KERAS_FILE}.")
    file = keras_files.read(directory / KERAS_FILE)
    model = _model_with_weights(file)
    steps = steps_of(model)
    head = _head_of(steps)
    if head.layer.units != len(labels):
        text = f"config.json names {len(labels)} classes, the model's last Dense has {head.layer.units} outputs."
        raise reject("config_invalid", text)
    return Loaded(
        module=_module_of(steps, head, document=file.document),
        framework=Framework.KERAS,
        architecture=architecture,
        task=Task.IMAGE_CLASSIFICATION,
        labels=labels,
        preprocessing=_preprocessing(model, steps, config),
        head_path="classifier",
        config=config,
    )


def _model_with_weights(file: keras_files.KerasFile) -> Any:
    _check_size(file.document)
    model = _built(file.document)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / keras_files.WEIGHTS
        path.write_bytes(file.weights)
        keras_files.check_arrays(path, expected=[tuple(variable.shape) for variable in _weights_of(model)])
        try:
            model.load_weights(path)
        except Exception as error:  # Keras raises whatever foreign bytes lead to
            raise reject("keras_invalid", f"Keras cannot read the weights in {KERAS_FILE}: {_first(error)}") from error
    broken = [variable.path for variable in _weights_of(model) if not torch.isfinite(variable.value).all()]
    if broken:
        raise reject("non_finite", "Some weights are NaN or infinite.", broken)
    return model


def _built(document: dict[str, Any]) -> Any:
    """Returns the model with random weights, everything trainable. Rejects (`keras_invalid`)."""
    try:
        model = keras.saving.deserialize_keras_object(copy.deepcopy(document), safe_mode=True)
        model.trainable = True  # what learns is the strategy's business
    except Rejected:
        raise
    except Exception as error:  # Keras raises whatever foreign values lead to
        raise reject("keras_invalid", f"Keras cannot build the model in {KERAS_FILE}: {_first(error)}") from error
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.inputs[0].shape) != 4:
        raise reject("keras_invalid", f"{KERAS_FILE} must read one batch of images and give one answer for each.")
    if model.inputs[0].shape[-1] != 3:
        raise reject("keras_invalid", f"{KERAS_FILE} must read images as (height, width, 3): RGB, channels last.")
    return model


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _check_size(document: dict[str, Any]) -> None:
    """Builds the model without memory. Rejects (`keras_invalid`) what would not fit into any."""
    with keras.device("meta"):
        model = _built(document)
    if model.count_params() > MAX_PARAMETERS:
        raise reject("keras_invalid", f"{KERAS_FILE} has more than {MAX_PARAMETERS:,} parameters.")
    for layer in _layers_of(model):
        for node in layer._inbound_nodes:  # noqa: SLF001 - a shared layer's outputs have no public name
            for tensor in node.output_tensors:
                count = torch.Size([size or _SIDE for size in tensor.shape[1:]]).numel()
                if count > MAX_ACTIVATION:
                    raise reject("keras_invalid", f"{KERAS_FILE}: a layer gives too much for one image.", [layer.name])


def _layers_of(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers_of(layer)


def _weights_of(model: Any) -> list[Any]:
    """Returns the model's arrays of fractions; whole numbers are the states of random generators."""
    return [variable for variable in model.weights if "float" in str(variable.dtype)]


def _head_of(steps: list[Step]) -> Step:
    """Returns the last Dense. Rejects (`keras_head`) a model that does not end in one with softmax, or without an
    activation."""
    last = steps[-1]
    if last.kind == "Softmax" or (last.kind == "Activation" and last.layer.activation.__name__ == "softmax"):
        last = next((step for step in steps if step.number in {ref.number for ref in last.args}), last)
    uses = [step for step in steps if step.layer is last.layer]
    fits = last.kind == "Dense" and len(last.args[0:1]) == 1 and len(last.layer.kernel.shape) == 2 and len(uses) == 1
    if not fits or (last is steps[-1] and last.layer.activation.__name__ not in {"softmax", "linear"}):
        text = "The model must end in a Dense layer with softmax or without an activation: one answer for each class."
        raise reject("keras_head", text, ["/".join(last.path)])
    if last is not steps[-1] and last.layer.activation.__name__ != "linear":
        raise reject("keras_head", "The last Dense has an activation before the softmax.", ["/".join(last.path)])
    return last


def _module_of(steps: list[Step], head: Step, *, document: dict[str, Any]) -> KerasClassifier:
    segments = segments_of(steps[: steps.index(head)])
    if not segments or head.args[0].number != steps[steps.index(head) - 1].number:
        raise reject("keras_head", "The last Dense must read what the layer before it gives.", ["/".join(head.path)])
    dense = head.layer
    classifier = nn.Linear(dense.kernel.shape[0], dense.units, bias=dense.use_bias)
    with torch.no_grad():
        classifier.weight.copy_(dense.kernel.value.T)
        if dense.use_bias:
            classifier.bias.copy_(dense.bias.value)
    return KerasClassifier(segments, classifier, document=document, head=head.path)


def _preprocessing(model: Any, steps: list[Step], config: dict[str, Any]) -> Preprocessing:
    """Returns config.json's preprocessing. Where the model scales its pixels itself, and config.json does not say
    otherwise, it gets them as they are stored, 0 to 255. Rejects (`config_invalid`)."""
    entry = config.get("pretrained_cfg")
    entry = dict(entry) if isinstance(entry, dict) else {}
    height, width = model.inputs[0].shape[1:3]
    if height != width:
        raise reject("keras_invalid", f"{KERAS_FILE} must read square images, it reads {height} x {width}.")
    if height is not None:
        entry.setdefault("input_size", [3, height, width])
    stated = "mean" in entry and "std" in entry
    if not stated and not any(step.kind in keras_files.SCALING for step in steps):
        text = (
            "config.json needs pretrained_cfg with mean and std: the model has no layer that scales pixels. "
            "Values from 0 to 255 are mean 0, 0, 0 and std 0.00392157 (1/255) three times; from -1 to 1 all 0.5."
        )
        raise reject("config_invalid", text)
    if not stated:
        entry |= {"mean": _PIXELS.mean, "std": _PIXELS.std}
    prep = preprocessing_in({**config, "pretrained_cfg": entry})
    if height is not None and prep.size != height:
        raise reject("config_invalid", f"config.json says {prep.size} pixels, {KERAS_FILE} reads {height}.")
    return prep


def reinitialized(loaded: Loaded, labels: tuple[str, ...]) -> Loaded:
    """Returns the same architecture for other classes with random weights, drawn from torch's generator."""
    # Keras' initializers draw their seeds from Python's generator.
    keras.utils.set_random_seed(int(torch.randint(2**31, ())))
    module: Any = loaded.module
    document = _with_head(module.document, module.head, classes=len(labels), use_bias=True)
    steps = steps_of(_built(document))
    return loaded.changed(module=_module_of(steps, _head_of(steps), document=document).eval(), labels=labels)


def stages(loaded: Loaded) -> list[tuple[str, list[nn.Module]]]:
    """The stretches of the model whose feature maps have one size, and the head. What has nothing to learn belongs
    to the stage after it, at the end to the one before."""
    module: Any = loaded.module
    groups: list[list[nn.Module]] = [[module.entry]]
    size: Any = None
    for segment, shape in zip(module.body, _shapes(loaded), strict=True):
        if shape is not None and shape != size and _learns(groups[-1]) and _learns([segment]):
            groups.append([])
        size = shape if shape is not None and _learns([segment]) else size
        groups[-1].append(segment)
    parts = [(f"stage {number}", group) for number, group in enumerate(groups)]
    return [*parts, ("head", [module.classifier])]


def _learns(modules: list[nn.Module]) -> bool:
    return any(True for module in modules for _ in module.parameters())


@torch.no_grad()
def _shapes(loaded: Loaded) -> list[torch.Size | None]:
    """Returns height and width of what each stretch gives for one image, None where it gives no image."""
    module: Any = loaded.module
    side = (loaded.preprocessing or Preprocessing()).size
    device = next(module.parameters()).device
    was_training, shapes = module.training, []
    value = module.eval().entry(torch.zeros(1, 3, side, side, device=device))
    for segment in module.body:
        value = segment(value)
        shapes.append(value.shape[1:3] if value.dim() == 4 else None)
    module.train(was_training)
    return shapes


def config(loaded: Loaded) -> dict[str, Any]:
    return {"library": "keras", **hub_config(loaded)}


def write_weights(loaded: Loaded, directory: Path) -> None:
    """Writes `model.keras`: the bought model's own description with the head for these classes, in the bytes that
    the same weights always have."""
    module: Any = loaded.module
    head: nn.Linear = module.classifier
    document = _with_head(module.document, module.head, classes=head.out_features, use_bias=head.bias is not None)
    model = _built(document)
    _hand_over(module, steps_of(model))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / keras_files.WEIGHTS
        model.save_weights(path)
        weights = path.read_bytes()
    target = directory / KERAS_FILE
    partial = target.with_name(f".{target.name}.partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        # Keras writes the time of saving here; the same run must give the same bytes.
        metadata = {"keras_version": keras.__version__, "date_saved": "1980-01-01@00:00:00"}
        archive.writestr(zipfile.ZipInfo(keras_files.METADATA), json.dumps(metadata))
        archive.writestr(zipfile.ZipInfo(keras_files.CONFIG), json.dumps(document))
        archive.writestr(zipfile.ZipInfo(keras_files.WEIGHTS), weights)
    results.write_durably(target, partial.read_bytes())
    partial.unlink()


def _hand_over(module: Any, steps: list[Step]) -> None:
    """Copies the module's numbers into the layers of a Keras model of the same description."""
    head = _head_of(steps)
    leaves = {id(leaf): leaf for segment in module.body for leaf in segment.layers.values()}
    layers = {id(step.layer): step.layer for step in steps if step is not head}
    # Both in the order of their first calls; a softmax behind the head has no leaf.
    for layer, leaf in zip(layers.values(), leaves.values(), strict=False):
        if isinstance(leaf, Leaf):
            _assign(layer.trainable_variables, [getattr(leaf, name) for name in leaf.trainable])
            _assign(layer.non_trainable_variables, [getattr(leaf, name) for name in leaf.statistics])
    _assign([head.layer.kernel], [module.classifier.weight.T])
    if module.classifier.bias is not None:
        _assign([head.layer.bias], [module.classifier.bias])


def _assign(variables: list[Any], values: list[Tensor]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value.detach().cpu())


def _with_head(document: dict[str, Any], path: tuple[str, ...], *, classes: int, use_bias: bool) -> dict[str, Any]:
    """Returns the description with another number of classes, in the head and in what is said of its shape."""
    changed = copy.deepcopy(document)
    level = changed
    for name in path:
        layers = level["config"]["layers"]
        _resize_readers(layers, name, classes)
        level = next(layer for layer in layers if layer["config"]["name"] == name)
    level["config"] |= {"units": classes, "use_bias": use_bias}
    return changed


def _resize_readers(layers: list[dict[str, Any]], name: str, classes: int) -> None:
    """Corrects what the layers behind `name` say of the width that they read."""
    for position, layer in enumerate(layers):
        tensors = [tensor for tensor in _tensors(layer.get("inbound_nodes")) if tensor["keras_history"][0] == name]
        for tensor in tensors:
            tensor["shape"][-1] = classes
        is_next = "inbound_nodes" not in layer and position > 0 and layers[position - 1]["config"]["name"] == name
        shape = (layer.get("build_config") or {}).get("input_shape")
        if (tensors or is_next) and isinstance(shape, list):
            shape[-1] = classes


def _tensors(value: Any) -> Iterator[dict[str, Any]]:
    """Yields what the document says of each tensor that a call reads."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        yield value["config"]
    elif isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _tensors(entry)
