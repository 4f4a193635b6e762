"""What a `.keras` file says, read before Keras sees any of it: a zip of JSON and HDF5.

Keras builds whatever classes config.json names, so that the names decide what runs. Here every name must be one of
the layers and initializers below; no name leads to code of the file, or to code outside of Keras.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from finetuning.engine.archives import Archive, Contents
from finetuning.engine.problems import Rejected, reject
from finetuning.engine.spec import KERAS_FILE, ArchiveLimits
from finetuning.engine.zip_directory import Entry

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
MODELS = frozenset({"Functional", "Sequential"})
_ROLES = {
    "core": "InputLayer Dense EinsumDense Activation Identity",
    "convolution": "Conv2D DepthwiseConv2D SeparableConv2D Conv2DTranspose",
    "activation": "ReLU LeakyReLU PReLU ELU Softmax",
    "normalization": "BatchNormalization LayerNormalization GroupNormalization RMSNormalization UnitNormalization",
    "attention": "MultiHeadAttention",
    "merging": "Add Subtract Multiply Average Maximum Minimum Concatenate Dot",
    "pooling": "MaxPooling2D AveragePooling2D GlobalMaxPooling2D GlobalAveragePooling2D GlobalMaxPooling1D "
    "GlobalAveragePooling1D",
    "reshaping": "ZeroPadding2D Cropping2D UpSampling2D Flatten Reshape Permute",
    "regularization": "Dropout SpatialDropout2D GaussianDropout GaussianNoise ActivityRegularization",
    "input": "Rescaling Normalization RandomFlip RandomRotation RandomZoom RandomTranslation RandomContrast "
    "RandomBrightness",
}
LAYERS = frozenset(name for names in _ROLES.values() for name in names.split())
# The layers that turn stored pixels into what the first convolution reads.
SCALING = frozenset({"Rescaling", "Normalization"})
_MODEL_MODULES = frozenset({"keras", "keras.models", "keras.src.models.functional", "keras.src.models.sequential"})
# Data of Keras' own JSON: no class of these names is looked up.
_STRUCTURES = frozenset({"__keras_tensor__", "__tuple__"})
_PLAIN_ROLES = {
    "initializers": "Zeros Ones Constant RandomNormal RandomUniform TruncatedNormal VarianceScaling GlorotNormal "
    "GlorotUniform HeNormal HeUniform LecunNormal LecunUniform Orthogonal OrthogonalInitializer Identity "
    "IdentityInitializer",
    "regularizers": "L1 L2 L1L2",
    "constraints": "MaxNorm MinMaxNorm NonNeg UnitNorm",
}
_PLAIN = {f"keras.{role}": frozenset(names.split()) for role, names in _PLAIN_ROLES.items()}

MAX_DEPTH = 64  # of the JSON; ten nested models stay below
MAX_LAYERS = 5_000
_LIMITS = ArchiveLimits(max_files=8, max_total_bytes=4 * 2**30, max_file_bytes=4 * 2**30, max_depth=1)
_MAX_JSON_BYTES = 32 * 2**20
_MAX_OBJECTS = 100_000  # groups and arrays of one HDF5 file
_MAX_LINK_DEPTH = 32
_MAX_ARRAY, _MAX_STATE = 2**31, 1024  # numbers of one array of weights, of one random generator
# gzip, the shuffle before it, the checksum behind it; any other filter is code that the file asks for.
_FILTERS = frozenset({h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32})


@dataclass(frozen=True, slots=True)
class KerasFile:
    """`document` is config.json without what concerns training; `weights` are the bytes of the HDF5 file."""

    document: dict[str, Any]
    metadata: dict[str, Any]
    weights: bytes


def read(path: Path) -> KerasFile:
    """Returns the file's parts, config.json checked. Rejects (`keras_invalid`, `keras_lambda`,
    `keras_custom_object`, `keras_layer_unsupported`, and the codes of zips)."""
    try:
        with Archive(path, _LIMITS, sort=_sort_out) as archive:
            parts = {entry.name: archive.read(entry) for entry in archive.contents.documents}
    except Rejected as error:
        first = error.problems[0]
        if first.code in {"not_a_zip", "empty_file", "zip_empty", "zip_truncated"}:
            raise _invalid("is not a whole .keras file") from error
        raise
    document = _json(parts[CONFIG], CONFIG)
    _check(document)
    return KerasFile(_without_training(document), _json(parts[METADATA], METADATA), parts[WEIGHTS])


def _invalid(what: str, items: tuple[str, ...] = ()) -> Rejected:
    return reject("keras_invalid", f"{KERAS_FILE} {what}. Save it again with model.save('{KERAS_FILE}').", items)


def _sort_out(entries: list[Entry]) -> Contents:
    names = {entry.name for entry in entries}
    if names != {CONFIG, METADATA, WEIGHTS}:
        raise _invalid(f"must hold {CONFIG}, {METADATA} and {WEIGHTS}, and nothing else", tuple(sorted(names)))
    for entry in entries:
        if entry.name != WEIGHTS and entry.size > _MAX_JSON_BYTES:
            raise _invalid(f"holds a {entry.name} of more than {_MAX_JSON_BYTES >> 20} MiB")
    return Contents((), (), {}, tuple(entries))


def _json(content: bytes, name: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a name twice")
        return dict(pairs)

    try:
        document = json.loads(content.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"holds a {name} that is no JSON") from error
    if not isinstance(document, dict):
        raise _invalid(f"holds a {name} that is no object")
    return document


def _without_training(value: Any) -> Any:
    """Returns the document without `compile_config`: optimizers, losses and metrics are not looked at."""
    if isinstance(value, dict):
        return {key: _without_training(entry) for key, entry in value.items() if key != "compile_config"}
    return [_without_training(entry) for entry in value] if isinstance(value, list) else value


def _check(document: dict[str, Any]) -> None:
    """Rejects a model that is not of known parts alone."""
    if document.get("class_name") not in MODELS:
        text = "Functional and Sequential models are read; others hold code of their own. Rebuild it as one of these."
        raise reject("keras_custom_object", text, [str(document.get("class_name"))])
    lambdas: list[str] = []
    custom: list[str] = []
    unsupported: list[str] = []
    layers = 0
    for entry in _objects(document):
        name, place = str(entry["class_name"]), _place(entry)
        layers += name in LAYERS
        if name in {"Lambda", "__lambda__"}:
            lambdas.append(place)
        elif not _is_known(entry, name):
            of_keras = entry.get("module") == "keras.layers" and entry.get("registered_name") in {None, name}
            (unsupported if of_keras else custom).append(place)
    wrong = [
        ("keras_lambda", "Lambda layers carry code, and this site runs none. Use layers of Keras instead.", lambdas),
        ("keras_custom_object", "Objects that are not Keras' own need foreign code, and this site runs none.", custom),
        (
            "keras_layer_unsupported",
            "These layers are not read here. Use others, as docs/engine.md lists.",
            unsupported,
        ),
    ]
    if problems := [one for code, text, items in wrong if items for one in reject(code, text, items).problems]:
        raise Rejected(*problems)
    if layers > MAX_LAYERS:
        raise _invalid(f"has more than {MAX_LAYERS:,} layers")


def _objects(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Yields every object of the document that Keras would look a class up for."""
    if depth > MAX_DEPTH:
        raise _invalid(f"holds a {CONFIG} that is more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        for key, entry in value.items():
            if key != "compile_config":
                yield from _objects(entry, depth + 1)
    elif isinstance(value, list):
        for entry in value:
            yield from _objects(entry, depth + 1)


def _is_known(entry: dict[str, Any], name: str) -> bool:
    module, registered = entry.get("module"), entry.get("registered_name")
    if name in _STRUCTURES:
        return module is None and registered is None
    if registered not in {None, name}:
        return False
    if name in MODELS:
        return module in _MODEL_MODULES
    if name == "DTypePolicy":
        return module == "keras" and entry.get("config") == {"name": "float32"}
    return (module == "keras.layers" and name in LAYERS) or name in _PLAIN.get(str(module), ())


def _place(entry: dict[str, Any]) -> str:
    config = entry.get("config")
    own = config.get("name") if isinstance(config, dict) else config
    return f"{entry.get('module') or ''} {entry['class_name']} {own if isinstance(own, str) else ''}".strip()


def check_arrays(path: Path, *, expected: list[tuple[int, ...]]) -> None:
    """Rejects (`keras_invalid`, `keys_mismatch`, `shape_mismatch`) an HDF5 file that does not hold arrays of exactly
    these shapes, plainly stored; an optimizer's are not counted. Reads no array."""
    try:
        with h5py.File(path, "r") as file:
            shapes = [dataset.shape for dataset in _arrays(file)]
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise _invalid(f"holds a {WEIGHTS} that cannot be read") from error
    if len(shapes) != len(expected):
        text = f"The layers have {len(expected):,} arrays of weights, {WEIGHTS} holds {len(shapes):,}."
        raise reject("keys_mismatch", text)
    if sorted(shapes) != sorted(expected):
        wrong = [str(shape) for shape in shapes if shape not in expected]
        raise reject("shape_mismatch", f"{WEIGHTS} holds arrays of other shapes than the layers'.", wrong)


def _arrays(file: h5py.File) -> Iterator[h5py.Dataset]:
    """Yields the layers' arrays of fractions; whole numbers are the states of random generators."""
    waiting: list[tuple[str, h5py.Group, int]] = [("", file, 0)]
    seen = 0
    while waiting:
        path, group, depth = waiting.pop()
        for name in group:
            place = f"{path}/{name}"
            seen += 1
            if seen > _MAX_OBJECTS or depth > _MAX_LINK_DEPTH:
                raise _invalid(f"holds a {WEIGHTS} of too many or too deep groups")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise _invalid(f"holds a {WEIGHTS} with links", (place,))
            if place == "/optimizer":
                continue
            entry = group[name]
            if isinstance(entry, h5py.Group):
                waiting.append((place, entry, depth + 1))
            elif isinstance(entry, h5py.Dataset):
                _check_array(entry, place)
                if entry.dtype.kind == "f":
                    yield entry
            else:
                raise _invalid(f"holds a {WEIGHTS} with more than groups and arrays", (place,))


def _check_array(dataset: h5py.Dataset, place: str) -> None:
    settings = dataset.id.get_create_plist()
    filters = {settings.get_filter(number)[0] for number in range(settings.get_nfilters())}
    # 64-bit fractions would be cut, vlen types and objects are no numbers.
    if dataset.dtype.kind not in "fiu" or dataset.dtype.itemsize > (4 if dataset.dtype.kind == "f" else 8):
        raise _invalid(f"holds a {WEIGHTS} with other numbers than float32 and smaller", (place,))
    if dataset.is_virtual or dataset.external or not filters <= _FILTERS:
        raise _invalid(f"holds a {WEIGHTS} with arrays outside of it or packed in an unusual way", (place,))
    largest = _MAX_STATE if dataset.dtype.kind in "iu" else _MAX_ARRAY
    if dataset.shape is None or math.prod(dataset.shape) > largest:
        raise _invalid(f"holds a {WEIGHTS} with an array without a size, or of a size that cannot be", (place,))
