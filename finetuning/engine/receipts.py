"""Receipts: what an evaluation was made from and what came out, in canonical JSON, signed where a key is given.

A signature proves that the holder of the key said so; running it again (verify_receipt.py) shows that it is true.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from finetuning.engine import results
from finetuning.engine.failures import AppFault, UserFault
from finetuning.engine.packs import Item, PackReader
from finetuning.engine.spec import EvaluateSpec, WeightsSpec, canonical, to_json, weights_file

ALGORITHM = "Ed25519"
FORMAT = 1


def inputs_of(spec: EvaluateSpec, run_dir: Path) -> dict[str, Any]:
    """Returns the digests of everything that the evaluation reads."""
    items = PackReader(run_dir / spec.pack).items
    return {
        "bought_weights_sha256": results.sha256_of(_weights(spec.base, run_dir)),
        "tuned_weights_sha256": results.sha256_of(_weights(spec.tuned, run_dir)),
        "test_pack_sha256": results.sha256_of(run_dir / spec.pack),
        "test_items": len(items),
        "dataset_sha256": _digest_of(f"{item.pixel_sha256} {_labels(item)}" for item in items),
        "splits_sha256": _digest_of(f"{_identity(item)} {item.split.value}" for item in items),
    }


def _weights(spec: WeightsSpec, run_dir: Path) -> Path:
    return run_dir / spec.directory / weights_file(spec.framework)


def _labels(item: Item) -> str:
    return str(item.label) if item.label >= 0 or not item.labels else ",".join(map(str, item.labels))


def _identity(item: Item) -> str:
    return item.pixel_sha256 or item.sha256


def _digest_of(lines: Any) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in sorted(lines)).encode()).hexdigest()


def document(spec: EvaluateSpec, run_dir: Path, part: dict[str, Any], *, device: str, threads: int) -> dict[str, Any]:
    """Returns the receipt of an evaluation whose verb returned `part`; the key's place is no part of it."""
    return {
        "format": FORMAT,
        "spec": {**to_json(spec), "signing_key": ""},
        "inputs": inputs_of(spec, run_dir),
        "versions": results.versions(),
        "device": device,
        "threads": threads,
        "metrics": part["evaluation"]["metrics"],
        "predictions_sha256": part["predictions_sha256"],
    }


def write(path: Path, receipt: dict[str, Any], *, key: Path | None) -> None:
    """Writes the receipt, signed with the Ed25519 key in the PEM file `key`, or without a signature."""
    signature = None
    if key is not None:
        private = _private_key(key)
        signature = {
            "algorithm": ALGORITHM,
            "public_key": base64.b64encode(private.public_key().public_bytes_raw()).decode(),
            "value": base64.b64encode(private.sign(canonical(receipt))).decode(),
        }
    results.write_durably(path, canonical({"receipt": receipt, "signature": signature}))


def _private_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AppFault("signing_key_unreadable", "The key that signs receipts cannot be read.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise AppFault("signing_key_unreadable", "The key that signs receipts must be an Ed25519 key.")
    return key


def read(path: Path) -> tuple[dict[str, Any], str]:
    """Returns the receipt and the public key (base64) that signed it, empty without a signature. Raises UserFault
    `receipt_missing`, `receipt_invalid`, `signature_wrong`."""
    try:
        envelope = json.loads(path.read_text(encoding="utf-8"))
        receipt, signature = dict(envelope["receipt"]), envelope["signature"]
        if signature is None:
            return receipt, ""
        if signature["algorithm"] != ALGORITHM:
            raise UserFault("signature_wrong", f"The receipt is signed by another algorithm than {ALGORITHM}.")
        public_key = str(signature["public_key"])
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        public.verify(base64.b64decode(signature["value"], validate=True), canonical(receipt))
    except FileNotFoundError as error:
        raise UserFault("receipt_missing", "There is no receipt in this run directory.") from error
    except InvalidSignature as error:
        raise UserFault("signature_wrong", "The receipt was changed after it was signed.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserFault("receipt_invalid", "The receipt cannot be read.") from error
    return receipt, public_key
