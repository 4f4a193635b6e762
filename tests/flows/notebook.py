"""Runs a notebook's code, cell after cell: `python notebook.py FILE`. Prints as the last line one JSON object of the
variables that VARIABLES names."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(path: str) -> None:
    scope: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(json.loads(Path(path).read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{path}, cell {number}", "exec"), scope)  # noqa: S102 - it is our own
    sys.stdout.write(json.dumps({name: scope[name] for name in os.environ["VARIABLES"].split()}, default=str))


if __name__ == "__main__":
    main(sys.argv[1])
