"""Transformers' image classifiers: the library's own layout, in and out, its preprocessing beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from finetuning.engine import weights
from finetuning.engine.frameworks import transformers_configs
from finetuning.engine.frameworks.loaded import Loaded
from finetuning.engine.frameworks.transformers_configs import transformers
from finetuning.engine.problems import reject
from finetuning.engine.spec import WEIGHTS_FILE, Framework, Preprocessing, SpecError, Task

# The families' classifiers, by their `model_type`.
ARCHITECTURES = {
    "vit": "ViTForImageClassification",
    "deit": "DeiTForImageClassification",
    "swin": "SwinForImageClassification",
    "convnext": "ConvNextForImageClassification",
    "convnextv2": "ConvNextV2ForImageClassification",
    "dinov2": "Dinov2ForImageClassification",
}
PREPROCESSOR_FILE = "preprocessor_config.json"
FILES = (PREPROCESSOR_FILE,)
_OF_ONE_SIZE = frozenset({"vit", "deit"})  # their positions are learned for one size of image
_SQUASHES_FROM = 384  # pixels from which ConvNextImageProcessor resizes without a crop
# Pillow's numbers of its filters, which the library stores.
_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
# A constant of the window that older versions of the library saved with the weights.
_FORMER_BUFFER = "relative_position_index"
_LARGEST = {
    "hidden_size": 8192,
    "intermediate_size": 32_768,
    "num_hidden_layers": 96,
    "num_attention_heads": 256,
    "mlp_ratio": 16,
    "image_size": 1024,
    "patch_size": 64,
    "window_size": 64,
    "embed_dim": 1024,
    "depths": 96,
    "num_heads": 256,
    "hidden_sizes": 8192,
}


def build(architecture: str, config: dict[str, Any]) -> Loaded:
    """Returns the library's classifier with random weights. Rejects (`architecture_unknown`, `config_invalid`)."""
    known = ARCHITECTURES.get(str(config.get("model_type")))
    if known is None:
        names = ", ".join(sorted(ARCHITECTURES))
        raise reject("architecture_unknown", f"Image models of these kinds are accepted: {names}.")
    if architecture != known:
        raise reject("architecture_unknown", f"config.json builds a {known}, the listing says {architecture}.")
    # The encoders' ratio of widths may be a fraction; the bound is on its whole part.
    whole = {name: int(value) if isinstance(value, float) else value for name, value in config.items()}
    transformers_configs.check(whole, largest=_LARGEST)
    if config.get("num_channels", 3) != 3:
        raise reject("config_invalid", "config.json: num_channels must be 3; images are read as RGB.")
    labels = transformers_configs.labels_in(config)
    module = transformers_configs.module_from(config, getattr(transformers, known))
    module.register_forward_hook(_logits_alone)
    return Loaded(
        module=module,
        framework=Framework.TRANSFORMERS,
        architecture=architecture,
        task=Task.IMAGE_CLASSIFICATION,
        labels=labels,
        head_path="classifier",
        config=config,
    )


def _logits_alone(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
    """Makes the module give (N, C) as those of the other frameworks do; a hook keeps the library's tensor names."""
    logits: Tensor = output.logits
    return logits


def take_files(loaded: Loaded) -> None:
    """Sets the preprocessing from the library's document. Rejects (`config_missing`, `config_invalid`)."""
    if PREPROCESSOR_FILE not in loaded.files:
        text = f"Upload {PREPROCESSOR_FILE}: it says how an image becomes the network's input."
        raise reject("config_missing", text)
    try:
        loaded.preprocessing = _preprocessing(json.loads(loaded.files[PREPROCESSOR_FILE]))
    except (KeyError, TypeError, ValueError, RecursionError, ZeroDivisionError) as error:
        raise reject("config_invalid", f"{PREPROCESSOR_FILE} cannot be read: {error}") from error
    given, settings = loaded.preprocessing.size, loaded.module.config
    wanted = getattr(settings, "image_size", given)
    if loaded.config["model_type"] in _OF_ONE_SIZE and wanted != given:
        text = f"{PREPROCESSOR_FILE} gives images of {given} pixels; config.json says image_size {wanted}."
        raise reject("config_invalid", text)


def _preprocessing(document: dict[str, Any]) -> Preprocessing:
    """Returns the document's meaning. The library squashes an image to a square where it is given height and
    width; here the image keeps its aspect and its middle is cut out. Raises SpecError, KeyError, TypeError."""
    size, crop = document["size"], 1.0
    side = size if isinstance(size, int) else size.get("shortest_edge") or _square(size)
    if document.get("do_center_crop"):
        cropped = document["crop_size"]
        cropped = cropped if isinstance(cropped, int) else _square(cropped)
        side, crop = cropped, cropped / side
    elif "crop_pct" in document and side < _SQUASHES_FROM:
        crop = float(document["crop_pct"] or 1.0)
    # The library computes (value * factor - mean) / std of bytes; here values are shares of 255.
    unit = 255 * float(document.get("rescale_factor", 1 / 255)) if document.get("do_rescale", True) else 255.0
    normalizes = document.get("do_normalize", True)
    mean, std = (document["image_mean"], document["image_std"]) if normalizes else ((0.0,) * 3, (1.0,) * 3)
    resample = document.get("resample", 2)
    return Preprocessing(
        size=side,
        mean=tuple(float(value) / unit for value in mean),
        std=tuple(float(value) / unit for value in std),
        interpolation=_RESAMPLING.get(resample, str(resample)),
        crop_fraction=crop,
    )


def _square(size: dict[str, int]) -> int:
    if size["height"] != size["width"]:
        raise SpecError("size must be a square", "size")
    return size["height"]


def stages(loaded: Loaded) -> list[tuple[str, list[nn.Module]]]:
    """Embeddings, the encoder's layers, head. What stands behind the layers belongs to the last one."""
    model: Any = loaded.module
    encoder = model.base_model
    layers = list(transformers_configs.layers_of(encoder))
    behind = [child for name in ("layernorm", "pooler") if (child := getattr(encoder, name, None)) is not None]
    parts: list[tuple[str, list[nn.Module]]] = [("embeddings", [encoder.embeddings])]
    parts += [(f"layer {number}", [layer]) for number, layer in enumerate(layers)]
    parts[-1][1].extend(behind)
    return [*parts, ("head", [model.classifier])]


def config(loaded: Loaded) -> dict[str, Any]:
    """Returns the library's document with these labels."""
    document = transformers_configs.with_labels(loaded.config, loaded.labels)
    return {**document, "architectures": [loaded.architecture]}


def read_weights(loaded: Loaded, directory: Path) -> None:
    """Loads `model.safetensors` strictly, its tensors named as the library saves them. Rejects as `weights` does."""
    names = {saved: own for own, saved in _saved_names(loaded.module).items()}
    tensors = weights.load_tensors(directory / WEIGHTS_FILE)
    own = {names.get(name, name): tensor for name, tensor in tensors.items() if not name.endswith(_FORMER_BUFFER)}
    weights.load_strictly(loaded.module, own)


def write_weights(loaded: Loaded, directory: Path) -> None:
    """Writes the tensors as the library names them, and its preprocessing."""
    names = _saved_names(loaded.module)
    tensors = {names[own]: tensor for own, tensor in loaded.module.state_dict().items()}
    weights.save_tensors(directory / WEIGHTS_FILE, tensors)
    document = json.dumps(_document(loaded.preprocessing or Preprocessing()), indent=1)
    (directory / PREPROCESSOR_FILE).write_text(document, encoding="utf-8")


def _saved_names(module: Any) -> dict[str, str]:
    """Returns {own name: name in the library's files}, which kept its names when the library's code got new ones."""
    own = list(module.state_dict())
    places = {name: torch.tensor(place) for place, name in enumerate(own)}
    saved: dict[str, Tensor] = transformers.core_model_loading.revert_weight_conversion(module, places)
    return {own[int(place)]: name for name, place in saved.items()}


def _document(prep: Preprocessing) -> dict[str, Any]:
    """Returns the library's document of exactly this preprocessing, of the processor that resizes the short side
    and cuts out the middle."""
    return {
        "image_processor_type": "BitImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": int(prep.size / prep.crop_fraction)},
        "resample": next(number for number, name in _RESAMPLING.items() if name == prep.interpolation),
        "do_center_crop": True,
        "crop_size": {"height": prep.size, "width": prep.size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(prep.mean),
        "image_std": list(prep.std),
        "do_convert_rgb": True,
    }
