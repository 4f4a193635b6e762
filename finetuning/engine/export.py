"""The verb `export`: a release as one ONNX file with all that surrounds its network inside, and the gate that no
file passes which answers differently from the release."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from finetuning.engine import exporting, frameworks, results
from finetuning.engine.events import EventWriter
from finetuning.engine.exporting import graphs, parity
from finetuning.engine.failures import UserFault
from finetuning.engine.frameworks import Loaded
from finetuning.engine.packs import PackReader
from finetuning.engine.spec import ONNX_FILE, OUTPUTS_DIR, ExportSpec, weights_file

EXPORTED, REJECTED = "exported", "rejected"


def run(spec: ExportSpec, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Returns the verb's part as docs/engine.md describes it. Raises UserFault (`export_unsupported`,
    `no_test_items`, `no_classes`) and what `frameworks.load` rejects."""
    pack = PackReader(run_dir / spec.pack)
    if not pack.items:
        raise UserFault("no_test_items", "There are no test items to compare the file on. Add items to the dataset.")
    events.stage("load", "Loading the release")
    loaded = frameworks.load(spec.weights, run_dir)
    if not loaded.labels:
        raise UserFault("no_classes", "This model is an encoder without classes: fine-tune it first.")
    events.stage("export", "Writing the ONNX file")
    started = time.perf_counter()
    model = exporting.module_of(loaded.task).build(loaded)
    weights = run_dir / spec.weights.directory / weights_file(spec.weights.framework)
    notes = _notes(spec, loaded, weights_sha256=results.sha256_of(weights))
    onnx.helper.set_model_props(model, notes)
    content = _checked(model, loaded)
    seconds = time.perf_counter() - started
    path = run_dir / OUTPUTS_DIR / ONNX_FILE
    gate = gated(content, path, loaded, pack, events, max_items=spec.max_items, seed=spec.seed)
    return {
        **gate,
        "opset": graphs.OPSET,
        "runtime": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
        "device": "cpu",
        "timing": {"export_seconds": round(seconds, 3)},
    }


def gated(
    content: bytes, path: Path, loaded: Loaded, pack: PackReader, events: EventWriter, *, max_items: int, seed: int
) -> dict[str, Any]:
    """Runs the graph beside the release on at most `max_items` of the pack's items, and writes it to `path` where
    the two agree; else there is no file. Returns `status`, `parity` and `file`."""
    path.unlink(missing_ok=True)  # of an attempt that was killed
    events.stage(parity.STAGE, "Comparing the ONNX file with the release")
    items = parity.chosen(pack.items, max_items, seed=seed)
    session = parity.session_of(content)
    found: parity.Parity = exporting.module_of(loaded.task).compare(loaded, session, pack, items, events)
    if not found.is_enough:
        return {"status": REJECTED, "parity": found.to_json(), "file": None}
    results.write_durably(path, content)
    file = {"path": path.name, "bytes": len(content), "sha256": results.sha256_of(path)}
    return {"status": EXPORTED, "parity": found.to_json(), "file": file}


def _checked(model: onnx.ModelProto, loaded: Loaded) -> bytes:
    """Returns the file's content once onnx and onnxruntime take it. Raises UserFault (`export_unsupported`)."""
    try:
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString()
        parity.session_of(content)
    except Exception as error:  # onnxruntime raises a class for each of its status codes
        raise UserFault(
            "export_unsupported", f"The ONNX graph of {loaded.architecture} is not one that onnxruntime runs."
        ) from error
    return content


def _notes(spec: ExportSpec, loaded: Loaded, *, weights_sha256: str) -> dict[str, str]:
    """What a reader of the file alone must know: `metadata_props`, texts by name."""
    return {
        "task": loaded.task.value,
        "framework": loaded.framework.value,
        "architecture": loaded.architecture,
        "labels": json.dumps(list(loaded.labels), ensure_ascii=False),
        "temperature": repr(loaded.temperature),
        "weights_sha256": weights_sha256,
        "license": spec.license_note,
        "lineage": json.dumps(list(spec.lineage), ensure_ascii=False),
        **exporting.module_of(loaded.task).notes(loaded),
    }
