"""The script of docs/engine-by-hand.md, as a researcher would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from archives_factory import encoded, zip_of
from shapes_factory import LABELS, shape, write_release

ROOT = Path(__file__).resolve().parents[2]


def test_the_script_in_the_docs_runs_from_upload_to_verdict(tmp_path: Path) -> None:
    text = (ROOT / "docs/engine-by-hand.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    files = {
        f"{label}/{seed}.png": encoded(shape(label, 100 * at + seed))
        for at, label in enumerate(LABELS)
        for seed in range(20)
    }
    (tmp_path / "upload.zip").write_bytes(zip_of(files))
    write_release(tmp_path / "release")

    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert "on 9 test images" in done.stdout
    assert "accuracy {" in done.stdout
    assert (tmp_path / "evaluate/outputs/receipt.json").is_file()
