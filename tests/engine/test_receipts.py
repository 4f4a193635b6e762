"""A receipt says what an evaluation was made from; running it again shows whether it is true."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from shapes_factory import LABELS, weights_at, write_pack, write_release

from finetuning.engine import __main__ as program
from finetuning.engine import evaluate, receipts, runtime, train, verify_receipt
from finetuning.engine.events import EventWriter
from finetuning.engine.failures import AppFault, UserFault
from finetuning.engine.hyper import Strategy
from finetuning.engine.spec import EvaluateSpec, Split, TrainSpec, Verb

ROOT = Path(__file__).resolve().parents[2]
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def order(**choices: str) -> EvaluateSpec:
    return EvaluateSpec(
        strategy=Strategy.HEAD,
        base=weights_at("inputs/release"),
        tuned=weights_at("outputs/release"),
        labels=LABELS,
        train_outputs="outputs",
        **choices,
    )


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run whose evaluation has a signed receipt."""
    runtime.prepare(device="cpu", threads=1)
    write_release(tmp_path / "inputs/release")
    write_pack(tmp_path / "inputs/train.pack", {Split.TRAIN: 10, Split.VALIDATION: 5})
    write_pack(tmp_path / "inputs/test.pack", {Split.TEST: 6})
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "inputs/key.pem").write_bytes(pem)
    with EventWriter(tmp_path / "events.jsonl") as events:
        train.run(
            TrainSpec(weights=weights_at("inputs/release"), strategy=Strategy.HEAD, labels=LABELS), tmp_path, events
        )
        evaluate.run(order(signing_key="inputs/key.pem"), tmp_path, events)
    return tmp_path


def test_a_receipt_is_signed_and_names_inputs_machine_and_outputs(run_dir: Path) -> None:
    receipt, public_key = receipts.read(run_dir / "outputs/receipt.json")

    assert base64.b64decode(public_key) == KEY.public_key().public_bytes_raw()
    assert receipt["inputs"]["test_items"] == 18
    assert len({value for name, value in receipt["inputs"].items() if name.endswith("sha256")}) == 5
    assert (receipt["device"], receipt["threads"]) == ("cpu", 1)
    assert receipt["metrics"]["accuracy"]["low"] < receipt["metrics"]["accuracy"]["high"]
    assert receipt["spec"]["signing_key"] == ""
    assert len(receipt["predictions_sha256"]) == 64


def test_evaluating_again_gives_equal_bits(run_dir: Path) -> None:
    command = [sys.executable, "-m", "finetuning.engine", "verify-receipt", str(run_dir)]
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["verdict"] == "equal"
    assert set(answer["differences"].values()) == {0.0}
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")} == before


def test_other_weights_or_items_are_noticed(run_dir: Path) -> None:
    path = run_dir / "inputs/test.pack"
    write_pack(path, {Split.TEST: 6}, flipped=(1,))

    answer = verify_receipt.run(run_dir)

    assert answer["verdict"] == "inputs_changed"
    assert answer["changed"] == ["dataset_sha256", "test_pack_sha256"]


def rewritten(run_dir: Path, key: Path | None, **changes: object) -> None:
    receipt, _ = receipts.read(run_dir / "outputs/receipt.json")
    receipts.write(run_dir / "outputs/receipt.json", {**receipt, **changes}, key=key)


def test_a_score_that_does_not_come_out_again_is_told_even_if_signed(run_dir: Path) -> None:
    receipt, _ = receipts.read(run_dir / "outputs/receipt.json")
    better = {**receipt["metrics"], "accuracy": {"value": 0.999, "low": 0.9, "high": 1.0}}
    rewritten(run_dir, run_dir / "inputs/key.pem", metrics=better)

    assert verify_receipt.run(run_dir)["verdict"] == "different"


@pytest.mark.parametrize(("versions", "verdict"), [(None, "different"), ({"torch": "0"}, "within_tolerance")])
def test_other_bits_pass_only_for_other_versions(run_dir: Path, versions: dict[str, str] | None, verdict: str) -> None:
    changes = {"predictions_sha256": "0" * 64, **({"versions": versions} if versions else {})}
    rewritten(run_dir, None, **changes)

    answer = verify_receipt.run(run_dir)

    assert (answer["verdict"], answer["public_key"]) == (verdict, "")


def test_a_changed_receipt_breaks_its_signature(run_dir: Path) -> None:
    path = run_dir / "outputs/receipt.json"
    envelope = json.loads(path.read_text())
    envelope["receipt"]["threads"] = 2
    path.write_text(json.dumps(envelope))

    with pytest.raises(UserFault) as caught:
        receipts.read(path)

    assert caught.value.code == "signature_wrong"


@pytest.mark.parametrize("content", ["", "[]", '{"receipt": {}}', '{"receipt": 3, "signature": null}'])
def test_what_is_no_receipt_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "receipt.json").write_text(content)

    with pytest.raises(UserFault) as caught:
        receipts.read(tmp_path / "receipt.json")

    assert caught.value.code == "receipt_invalid"


def test_a_key_that_is_none_fails_the_evaluation(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("no key")

    with pytest.raises(AppFault):
        receipts.write(tmp_path / "receipt.json", {}, key=tmp_path / "key.pem")


def test_help_lists_every_verb_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--help"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert all(any(line.split()[:1] == [name] for line in lines) for name in [*Verb, "verify-receipt"])
    assert set(program.HELP) == set(Verb)
