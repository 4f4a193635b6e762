"""The documented examples, as a reader would run them, against the running product."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from archives_factory import digits_zip
from flow_world import MODEL, digit_png
from live_stack import ROOT, Client, Stack
from shapes_factory import ARCHITECTURE, write_release

pytestmark = pytest.mark.stack
EXAMPLES = ROOT / "docs/examples"


def run(stack: Stack, *command: str, token: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        env={
            **os.environ,
            "MARKETPLACE_URL": stack.url,
            "MARKETPLACE_TOKEN": token,
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def test_a_buyers_notebook_licenses_tunes_publishes_downloads_and_predicts(stack: Stack, tmp_path: Path) -> None:
    data, picture = tmp_path / "digits.zip", tmp_path / "three.png"
    digits_zip(data)
    picture.write_bytes(digit_png(3))
    told: dict[str, Any] = json.loads(
        run(
            stack,
            str(ROOT / "tests/flows/notebook.py"),
            str(EXAMPLES / "fine_tune.ipynb"),
            token=stack.manage("issue_token", "buyer"),
            DATA=str(data),
            PICTURE=str(picture),
            HF_HOME=str(tmp_path / "hub"),
            VARIABLES="run release here there wish",
        )
    )

    accuracy = told["run"]["evaluation"]["metrics"]["accuracy"]
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    # 284 test images, and the last features alone: another split moves the accuracy by two points either way.
    assert accuracy["value"] >= 0.92
    assert told["run"]["evaluation"]["verdict"].startswith("Better than always guessing")
    assert told["release"]["parents"][0]["release"] == f"{MODEL}@1.0"
    # The reader's timm and the site give one answer.
    assert told["here"][0] == told["there"]["label"] == "3"
    assert told["here"][1] == pytest.approx(told["there"]["confidence"], abs=0.02)

    status, again = Client(stack, stack.manage("issue_token", "buyer")).call("POST", "runs/", told["wish"])
    assert (status, again["status"]) == (201, "queued")  # the first has ended: the same may be asked again
    Client(stack, stack.manage("issue_token", "buyer")).call("POST", f"runs/{again['id']}/cancel/", {})


def test_a_vendors_workflow_publishes_a_release_once(stack: Stack, tmp_path: Path) -> None:
    # Weights that nobody else has on this site: the same ones twice are a derivative of the first.
    folder = write_release(tmp_path / "model", seed=6_006)
    (folder / "README.md").write_text("# A small net\n", encoding="utf-8")
    command = [str(EXAMPLES / "publish_release.py"), str(folder), "northlight/from-a-workflow", "1.2"]
    command += ["--architecture", ARCHITECTURE, "--license", "mit"]
    token = stack.manage("issue_token", "vendor")
    first = run(stack, *command, token=token)
    second = run(stack, *command, token=token)

    assert first == second == f"{stack.url}/models/northlight/from-a-workflow/"
    status, release = Client(stack, token).call("GET", "listings/northlight/from-a-workflow/releases/1.2/")
    assert (status, release["status"]) == (200, "published")
    assert "publish_release.py" in (EXAMPLES / "publish_release.yml").read_text(encoding="utf-8")
